/**
 * Descriptors that the caller names by their numbers, as a shell passes them.
 *
 * @module
 */

import { isErrno } from "../../../ffi/errno.ts";
import { isCloseOnExec, readOffThread, write } from "../../syscalls/mod.ts";
import { SandboxError } from "../error.ts";

const CHUNK = 64 * 1024; // bytes

/** A descriptor of the caller. It stays open. */
export class PassedFd {
  /** Its number. */
  readonly fd: number;
  readonly #option: string;

  /**
   * Takes a descriptor.
   *
   * @param option the option that names it, for errors.
   * @param fd its number.
   * @param isInherited whether it must have been open when this process was started: none of the runtime's own is taken then.
   * @throws {SandboxError} EBADF if it is not open.
   */
  constructor(option: string, fd: number, isInherited: boolean) {
    this.fd = fd;
    this.#option = option;
    if (!isOpen(fd, isInherited)) {
      throw new SandboxError(`the descriptor ${fd} of ${option} is not open`, {
        code: "EBADF",
        syscall: "fcntl",
      });
    }
  }

  /** Reads it to its end. */
  async read(): Promise<Uint8Array<ArrayBuffer>> {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    for (;;) {
      const chunk = new Uint8Array(new ArrayBuffer(CHUNK));
      const length = await readOffThread(this.fd, chunk);
      if (length < 0) {
        throw new SandboxError(`the descriptor ${this.fd} of ${this.#option} can't be read`, {
          syscall: "read",
        });
      }
      if (length === 0) return new Uint8Array(await new Blob(chunks).arrayBuffer());
      chunks.push(chunk.subarray(0, length));
    }
  }

  /** Waits until it has a byte, or has come to its end. */
  async wait(): Promise<void> {
    await readOffThread(this.fd, new Uint8Array(new ArrayBuffer(1)));
  }

  /** Writes a text to it. */
  write(text: string): void {
    write(this.fd, new TextEncoder().encode(text));
  }
}

function isOpen(fd: number, isInherited: boolean): boolean {
  try {
    const isOwn = isCloseOnExec(fd); // the runtime opens nothing that it passes on
    return !isInherited || !isOwn;
  } catch (error) {
    if (isErrno(error, "EBADF")) return false;
    throw error;
  }
}
