/**
 * The options of an unmount, and the deadline that they set.
 *
 * @module
 */

import { MNT_DETACH, MNT_EXPIRE, MNT_FORCE, UMOUNT_NOFOLLOW } from "../syscalls/constants.ts";
import type { MountNamespace } from "../namespace/mount.ts";
import { checkTimeout, DEFAULT_TIMEOUT, type WaitOptions } from "../path/wait.ts";

/** How to unmount. */
export interface UnmountOptions extends WaitOptions {
  /** Detaches the mount now; the kernel frees it when it is no longer in use (MNT_DETACH). */
  detach?: boolean;
  /** Aborts pending requests to a FUSE or network server first (MNT_FORCE). */
  force?: boolean;
  /** The first call marks the mount and fails with EAGAIN; the second unmounts it if it was not used since (MNT_EXPIRE). */
  expire?: boolean;
  /** Does not follow a symbolic link at the end of the path (UMOUNT_NOFOLLOW). */
  noFollow?: boolean;
  /**
   * How long to retry a busy mount and to wait for a FUSE or network server, in milliseconds; 2500 by default. The wait
   * for a server lasts at least 500 ms. An unmount that hangs in the kernel may still complete after the timeout.
   */
  readonly timeout?: number | undefined;
  /** Stops retrying and waiting. */
  readonly signal?: AbortSignal | undefined;
  /** The mount namespace of the target; by default that of this process. */
  namespace?: MountNamespace;
}

const SERVER_TIMEOUT_MIN = 500; // ms; the lookup of a path may have to read a disk

/** The flags of umount2(2), and the deadline of each wait. The time runs from the first wait for a mount. */
export class Deadline implements WaitOptions {
  /** The flags for umount2(2). */
  readonly flags: number;
  /** Stops retrying and waiting. */
  readonly signal: AbortSignal | undefined;
  readonly #timeout: number;
  #start: number | undefined;

  /**
   * Checks the options.
   *
   * @param options the options of the call; `namespace` is ignored.
   * @throws {TypeError} for a timeout that is not a number or is negative, and for `expire` with `detach` or `force`.
   */
  constructor({ detach, force, expire, noFollow, timeout = DEFAULT_TIMEOUT, signal }: UnmountOptions) {
    if (expire && (detach || force)) throw new TypeError("expire can't be combined with detach or force");
    checkTimeout(timeout);
    this.flags = (detach ? MNT_DETACH : 0) | (force ? MNT_FORCE : 0) | (expire ? MNT_EXPIRE : 0) |
      (noFollow ? UMOUNT_NOFOLLOW : 0);
    this.signal = signal;
    this.#timeout = timeout;
  }

  /** Starts the clock again, for the next wait: work that goes on is never cut off by it. */
  restarted(): this {
    this.#start = undefined;
    return this;
  }

  /** The time left to wait for a server, in milliseconds. */
  get timeout(): number {
    return Math.max(0, Math.max(this.#timeout, SERVER_TIMEOUT_MIN) - this.#elapsed());
  }

  /** Whether the time to retry a busy mount is over. */
  get expired(): boolean {
    return this.#elapsed() >= this.#timeout;
  }

  /** The clock starts at the first wait: most calls never wait, and reading the clock costs as much as a system call. */
  #elapsed(): number {
    const now = performance.now();
    this.#start ??= now;
    return now - this.#start;
  }
}
