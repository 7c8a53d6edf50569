/**
 * File descriptors with an owner, which closes them.
 *
 * @module
 */

import { check } from "./errno.ts";
import { errno, libc } from "./libc.ts";

/**
 * A file descriptor that is closed at the end of its `using` scope.
 *
 * Needs the permission `ffi` to be closed.
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
   * Takes ownership of a descriptor.
   *
   * @param fd an open descriptor that has no other owner.
   */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * The descriptor's number.
   *
   * @throws {TypeError} if it is closed or released.
   */
  get fd(): number {
    if (this.#fd < 0) throw new TypeError("the descriptor is already closed");
    return this.#fd;
  }

  /** Whether it is neither closed nor released. */
  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /**
   * Closes the descriptor; a second call does nothing.
   *
   * @throws {SyscallError} EBADF if other code has closed the number: a bug in the program.
   */
  close(): void {
    if (this.#fd < 0) return;
    check(libc().close(this.release()), errno[0], "close");
  }

  /**
   * Gives up ownership without closing the descriptor.
   *
   * @returns its number, which the caller must close.
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
 * Descriptors that are closed together, such as those of an overlay's layers.
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
   * Adds a descriptor.
   *
   * @param fd the descriptor.
   * @returns the same descriptor.
   */
  add<T extends OwnedFd>(fd: T): T {
    this.#all.push(fd);
    return fd;
  }

  /**
   * Gives one descriptor to another owner.
   *
   * @param fd a descriptor of these.
   * @param owner its new owner.
   * @returns the same descriptor.
   */
  take<T extends OwnedFd>(fd: T, owner: OwnedFds): T {
    this.#all = this.#all.filter((other) => other !== fd);
    return owner.add(fd);
  }

  /**
   * Gives up ownership of all of them.
   *
   * @param owner their new owner; the caller, if left out.
   */
  release(owner?: OwnedFds): void {
    if (owner) owner.#all.push(...this.#all);
    this.#all = [];
  }

  /**
   * Closes all descriptors but one.
   *
   * @param kept the descriptor that stays open until this object is disposed of.
   */
  closeAllBut(kept: OwnedFd): void {
    this.#all = this.#all.filter((fd) => fd !== kept);
    try {
      this[Symbol.dispose]();
    } finally {
      this.#all.push(kept);
    }
  }

  /** Closes all of them. A run of consecutive numbers, the usual case, is closed by one close_range(2). */
  [Symbol.dispose](): void {
    const all = this.#all;
    this.#all = [];
    const failures: unknown[] = [];
    for (let from = 0, to = 1; from < all.length; from = to++) {
      const first = fdOrMinusOne(all[from]);
      while (to < all.length && first >= 0 && fdOrMinusOne(all[to]) === first + to - from) to++;
      if (to - from > 1 && closeRange(first, first + to - from - 1)) {
        for (let at = from; at < to; at++) all[at]?.release();
      } else for (let at = from; at < to; at++) tryClose(all[at], failures);
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** The descriptor's number; -1 if it is closed. */
function fdOrMinusOne(owned: OwnedFd | undefined): number {
  return owned?.isOpen ? owned.fd : -1;
}

/** False if seccomp or a kernel before 5.9 lacks close_range(2); the caller falls back to close(2). */
function closeRange(first: number, last: number): boolean {
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
 * Calls a function and disposes of its argument, as `using` does. It is for hot paths: V8 takes as long for a `using`
 * as the kernel for a close(2).
 *
 * @param owned the object to dispose of.
 * @param use the function that uses it.
 * @returns the function's result.
 *
 * @example
 * ```ts ignore
 * import { withDisposable } from "./fd.ts";
 *
 * const flags = withDisposable(open("/", O_PATH), ({ fd }) => flagsOf(fd));
 * ```
 */
export function withDisposable<T extends Disposable, R>(owned: T, use: (owned: T) => R): R {
  try {
    return use(owned);
  } finally {
    owned[Symbol.dispose]();
  }
}
