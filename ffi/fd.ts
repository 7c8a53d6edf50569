/**
 * File descriptors that close themselves.
 *
 * @module
 */

import { check } from "./errno.ts";
import { libc } from "./libc.ts";

/**
 * A file descriptor with one owner, closed at the end of the owner's scope.
 *
 * @example
 * ```ts
 * import { open, O_PATH } from "@denomount/mount/linux";
 *
 * {
 *   using root = open("/", O_PATH);
 *   console.log(root.fd);
 * } // closed here
 * ```
 */
export class OwnedFd implements Disposable {
  #fd: number;

  /**
   * Takes a descriptor over.
   *
   * @param fd an open descriptor that nobody else closes.
   */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * The descriptor's number.
   *
   * @throws {TypeError} after it was closed or released.
   */
  get fd(): number {
    if (this.#fd < 0) throw new TypeError("the descriptor is closed already");
    return this.#fd;
  }

  /**
   * Closes the descriptor; a second call does nothing.
   *
   * @throws {SyscallError} if somebody else has closed it (EBADF), which is always a mistake in the program.
   */
  close(): void {
    if (this.#fd < 0) return;
    check(libc().close(this.release()), "close");
  }

  /**
   * Gives the descriptor up without closing it.
   *
   * @returns its number, which the caller now owns.
   */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  /** Closes the descriptor at the end of its `using` scope. */
  [Symbol.dispose](): void {
    this.close();
  }
}
