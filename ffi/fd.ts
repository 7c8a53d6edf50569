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

  /** Whether it was neither closed nor released. */
  get isOpen(): boolean {
    return this.#fd >= 0;
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

/**
 * Descriptors that are closed together, such as those of an overlay's hundred layers.
 *
 * @example
 * ```ts ignore
 * import { OwnedFds } from "./fd.ts";
 *
 * using layers = new OwnedFds();
 * for (const path of paths) layers.add(open(path, O_PATH));
 * ```
 */
export class OwnedFds implements Disposable {
  #all: OwnedFd[] = [];

  /**
   * Takes a descriptor over.
   *
   * @param fd the descriptor.
   * @returns the same.
   */
  add<T extends OwnedFd>(fd: T): T {
    this.#all.push(fd);
    return fd;
  }

  /**
   * Gives all of them up.
   *
   * @param owner closes them from now on; where it is left out, the caller has taken them.
   */
  release(owner?: OwnedFds): void {
    if (owner) owner.#all.push(...this.#all);
    this.#all = [];
  }

  /**
   * Closes the others.
   *
   * @param kept stays open, and is closed at the end.
   */
  closeAllBut(kept: OwnedFd): void {
    this.#all = this.#all.filter((fd) => fd !== kept);
    try {
      this[Symbol.dispose]();
    } finally {
      this.#all.push(kept);
    }
  }

  /** Closes all of them: those whose numbers follow each other, as they mostly do, in one call. */
  [Symbol.dispose](): void {
    const all = this.#all;
    this.#all = [];
    const failures: unknown[] = [];
    for (let from = 0, to = 1; from < all.length; from = to++) {
      const first = numberOf(all[from]);
      while (to < all.length && first >= 0 && numberOf(all[to]) === first + to - from) to++;
      if (to - from > 1 && closesRange(first, first + to - from - 1)) {
        for (let at = from; at < to; at++) all[at]?.release();
      } else for (let at = from; at < to; at++) tryClose(all[at], failures);
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** -1 where it is closed already. */
function numberOf(owned: OwnedFd | undefined): number {
  return owned?.isOpen ? owned.fd : -1;
}

/** Not where a filter forbids the call: then they are closed one by one. */
function closesRange(first: number, last: number): boolean {
  return libc().close_range(SYS_close_range, first, last, 0) === 0;
}

function tryClose(owned: OwnedFd | undefined, failures: unknown[]): void {
  try {
    owned?.close();
  } catch (error) {
    failures.push(error);
  }
}

const SYS_close_range = 436; // asm-generic/unistd.h, Linux 5.9

/**
 * Uses something and disposes of it, whatever comes: what `using` does, for what every mount goes through. V8 takes as
 * long for a `using` as the kernel for a close.
 *
 * @param owned what is disposed of.
 * @param use uses it.
 * @returns what that returns.
 *
 * @example
 * ```ts ignore
 * import { closing } from "./fd.ts";
 *
 * const flags = closing(open("/", O_PATH), ({ fd }) => flagsOf(fd));
 * ```
 */
export function withDisposable<T extends Disposable, R>(owned: T, use: (owned: T) => R): R {
  try {
    return use(owned);
  } finally {
    owned[Symbol.dispose]();
  }
}
