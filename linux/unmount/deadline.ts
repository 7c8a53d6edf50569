/**
 * How an unmount is to be made, and how long it is tried.
 *
 * @module
 */

import { MNT_DETACH, MNT_EXPIRE, MNT_FORCE, UMOUNT_NOFOLLOW } from "../syscalls/constants.ts";
import { type MountNamespace, runInNamespace } from "../namespace/mount.ts";
import { DEFAULT_TIMEOUT, type WaitOptions } from "../path/cached_lookup.ts";

/** How to unmount. */
export interface UnmountOptions {
  /** Out of the tree now, cleaned up when it is no longer used (MNT_DETACH). */
  detach?: boolean;
  /** Breaks off requests to a server that is gone (MNT_FORCE). */
  force?: boolean;
  /** Marks it at the first call (EAGAIN), takes it off at the second if it was not used since (MNT_EXPIRE). */
  expire?: boolean;
  /** Does not follow a symbolic link at the end of the path (UMOUNT_NOFOLLOW). */
  noFollow?: boolean;
  /**
   * How long a busy mount is tried again, and a FUSE or network server waited for, in milliseconds; 2500 if left out. A
   * server is given half a second at the least. After it, an unmount that hangs may still come to its end.
   */
  timeout?: number;
  /** Ends the trying. */
  signal?: AbortSignal;
  /** The mount namespace that the target is in; this process's own if left out. */
  namespace?: MountNamespace;
}

const SHORTEST = 500; // ms; a disk may have to be asked for a name

/** How hard to try: the flags, and one deadline for all that a call takes off. */
export class Deadline implements WaitOptions {
  /** Those of umount2(2). */
  readonly flags: number;
  /** Ends the trying. */
  readonly signal: AbortSignal | undefined;
  readonly #timeout: number;
  #begun: number | undefined;

  /**
   * The deadline counts from the first wait on.
   *
   * @param options as the caller has given them.
   */
  constructor({ detach, force, expire, noFollow, timeout = DEFAULT_TIMEOUT, signal }: UnmountOptions) {
    if (expire && (detach || force)) throw new TypeError("expire goes with neither detach nor force");
    if (!(timeout >= 0)) throw new TypeError(`a timeout is a number of milliseconds, not ${timeout}`);
    this.flags = (detach ? MNT_DETACH : 0) | (force ? MNT_FORCE : 0) | (expire ? MNT_EXPIRE : 0) |
      (noFollow ? UMOUNT_NOFOLLOW : 0);
    this.signal = signal;
    this.#timeout = timeout;
  }

  /** How long a server may take from now on, in milliseconds. */
  get timeout(): number {
    return Math.max(0, Math.max(this.#timeout, SHORTEST) - this.#elapsed());
  }

  /** Whether a busy mount is not tried again. */
  get expired(): boolean {
    return this.#elapsed() >= this.#timeout;
  }

  /** Since the first wait: what comes before it takes microseconds, and so does asking for the time. */
  #elapsed(): number {
    const now = performance.now();
    this.#begun ??= now;
    return now - this.#begun;
  }
}

/**
 * The same call in another mount namespace.
 *
 * @param options those of the call, with the namespace.
 * @param call makes it there, with the other options.
 * @param target what is unmounted.
 */
export async function callInNamespace(
  { namespace, ...rest }: UnmountOptions,
  call: (target: string, rest: UnmountOptions) => Promise<void>,
  target: string,
): Promise<void> {
  if (namespace !== undefined) await runInNamespace(namespace, () => call(target, rest));
}
