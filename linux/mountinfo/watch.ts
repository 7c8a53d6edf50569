/**
 * Watching the mounts of a mount namespace.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { checkPid } from "../pidfd.ts";
import { POLLIN } from "../syscalls/constants.ts";
import type { MountEvent, MountSource } from "./diff.ts";
import { pidfdOpen } from "../syscalls/mod.ts";
import { FanotifyMounts, hasMountEvents } from "./watch_fanotify.ts";
import { MountinfoPoll } from "./watch_mountinfo.ts";
import { pollTogether, type PollWait } from "./watch_poll.ts";

/** The options of {@linkcode watchMounts}. */
export interface WatchOptions {
  /** Ends the watch, with its reason as the error. */
  signal?: AbortSignal;
  /** The pid of a process: its mount namespace is watched until the process ends. This process if left out. */
  pid?: number;
  /** Reports changed options as well. This reads the whole mount table at each change of options. */
  changes?: boolean;
}

/** The events of {@linkcode watchMounts}. The end of the iteration closes the descriptors of the watch. */
export type MountWatch = AsyncIterableIterator<MountEvent, undefined> & AsyncDisposable;

/**
 * Watches the mounts of a mount namespace. The watch begins with this call, before the first step of the iteration.
 *
 * Mounts below a moved mount move with it, without events. A mount that is unmounted before its fields can be read is
 * reported as "transient": a table of more than some hundred mounts is read in steps, the newest mounts first. Changed options are reported with `changes` only. The kernel does not signal a change of
 * propagation alone, so it is reported together with the next event.
 *
 * Needs the permission `ffi`. From Linux 6.15, with CAP_SYS_ADMIN, the events come from fanotify(7). On older kernels and
 * without the capability, the mount table is read again at each change and compared with the last one: a mount that was
 * unmounted in between is not reported, and of several changes at once, unmounts are reported first.
 *
 * @param options the process, the kinds of events, and a signal.
 * @returns the events, in the order in which they happened. `break`, `return()`, an error, an abort and the end of an
 * `await using` scope end the watch, and close its descriptors. With `pid`, the watch ends with the process.
 * @throws {SyscallError} ENOENT if the process does not exist, EACCES without the right to trace it.
 * @throws the signal's reason, from the iteration.
 *
 * @example
 * ```ts
 * import { mount, watchMounts } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await using events = watchMounts({ signal: AbortSignal.timeout(10_000) });
 * await using _mounted = await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * for await (const event of events) {
 *   if (event.kind !== "mounted" || event.mount.mountpoint !== target) continue;
 *   console.log(event.mount.fsType); // "tmpfs"
 *   break;
 * }
 * ```
 */
export function watchMounts(options: WatchOptions = {}): MountWatch {
  const { signal, pid, changes = false } = options;
  signal?.throwIfAborted();
  if (pid !== undefined) checkPid(pid);
  using opened = new DisposableStack();
  const source = opened.use(sourceOf(pid === undefined ? "self" : `${pid}`, changes));
  const process = pid === undefined ? undefined : opened.use(pidfdOpen(pid));
  return new Watch({ source, process, opened: opened.move() }, signal);
}

function sourceOf(process: string, changes: boolean): MountSource {
  if (!hasMountEvents()) return new MountinfoPoll(process, changes);
  try {
    return new FanotifyMounts(process, changes);
  } catch (error) {
    // No CAP_SYS_ADMIN, or a limit of fanotify is reached. Reading the table needs neither.
    if (isErrno(error, "EPERM", "EACCES", "EMFILE", "ENOSPC")) return new MountinfoPoll(process, changes);
    throw error;
  }
}

/** The open descriptors of a watch. */
interface Opened {
  source: MountSource;
  process: OwnedFd | undefined;
  opened: DisposableStack;
}

class Watch implements MountWatch {
  readonly #open: Opened;
  readonly #signal: AbortSignal | undefined;
  readonly #pending: MountEvent[] = []; // read, but not yet returned
  #turn: Promise<unknown> = Promise.resolve(); // the last next(): calls run one after the other
  #waiting: PollWait | undefined;
  #ended = false;
  #closing: Promise<void> | undefined;
  #failure: { reason: unknown } | undefined; // thrown by the next next()

  constructor(open: Opened, signal: AbortSignal | undefined) {
    this.#open = open;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort, { once: true });
  }

  next(): Promise<IteratorResult<MountEvent, undefined>> {
    const step = this.#turn.then(() => this.#step());
    this.#turn = step.catch(() => {}); // the caller gets the error from `step`
    return step;
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#end();
    this.#failure = undefined;
    await this.#turn;
    await this.#closing;
    return { done: true, value: undefined };
  }

  async throw(error?: unknown): Promise<never> {
    await this.return();
    throw error;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async #step(): Promise<IteratorResult<MountEvent, undefined>> {
    try {
      while (this.#pending.length === 0 && !this.#ended) {
        for (const event of await this.#wait()) this.#pending.push(event);
      }
    } catch (error) {
      this.#end();
      this.#failure = { reason: error };
    }
    await this.#closing;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure.reason;
    const value = this.#pending.shift();
    return value === undefined ? { done: true, value } : { done: false, value };
  }

  async #wait(): Promise<MountEvent[]> {
    const { source, process } = this.#open;
    const ends = process ? [{ fd: process.fd, events: POLLIN }] : [];
    try {
      this.#waiting = pollTogether([...ends, ...source.fds]);
      const revents = await this.#waiting.revents;
      if (revents === undefined || this.#ended) return [];
      const events = await source.read(revents.slice(ends.length));
      if (this.#ended) return [];
      if (process && revents[0]) this.#ended = true; // after its last events are returned
      return events;
    } finally {
      this.#waiting = undefined;
      if (this.#ended) this.#close();
    }
  }

  readonly #abort = (): void => {
    this.#failure = { reason: this.#signal?.reason };
    this.#end();
  };

  /** While poll(2) runs, the descriptors must stay open: #wait() closes them after it. */
  #end(): void {
    this.#pending.length = 0;
    if (this.#ended) return;
    this.#ended = true;
    if (this.#waiting) this.#waiting.cancel();
    else this.#close();
  }

  #close(): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#closing = this.#closeAll();
    this.#closing.catch(() => {}); // thrown by the next step, or by return()
  }

  async #closeAll(): Promise<void> {
    using _opened = this.#open.opened;
    await this.#open.source.end();
  }
}
