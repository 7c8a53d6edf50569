/**
 * Mounts and unmounts as they happen.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { EFD_CLOEXEC, EFD_NONBLOCK, POLLIN } from "../syscalls/constants.ts";
import type { MountEvent, MountSource } from "./diff.ts";
import { eventfd, pidfdOpen, pollOffThread, write } from "../syscalls/mod.ts";
import { FanotifyMounts, hasMountEvents } from "./watch_fanotify.ts";
import { MountinfoPoll } from "./watch_mountinfo.ts";

/** What to watch. */
export interface WatchOptions {
  /** Ends the watch, with its reason as the error. */
  signal?: AbortSignal;
  /** The process whose mount namespace is watched, and for as long as it lives; this process if left out. */
  pid?: number;
  /** Tells of changed options too, and reads the whole table for it at each event. */
  changes?: boolean;
}

/** Mounts and unmounts as they happen; its end closes what it has open. */
export type MountWatch = AsyncIterableIterator<MountEvent, undefined> & AsyncDisposable;

/**
 * Watches a mount namespace. It begins with this call, and not with the first step of the iteration.
 *
 * What is mounted below a mount that is moved moves with it, and is not told of. A mount that went before it could be
 * looked at is told of as "transient". Changed options are told of only with `changes`; changed propagation alone wakes
 * nobody, and is told of at the next event.
 *
 * Needs the permission `ffi`. From Linux 6.15, with CAP_SYS_ADMIN, the kernel's own events are taken (fanotify). Before,
 * and without the right, mount tables are compared: what came and went between two looks is not seen then, and of
 * several things that happened at once, what went comes first.
 *
 * @param options what to watch.
 * @returns the events, in their order. `break`, `return()`, an error, an abort and the end of its `await using` scope
 * end it, and leave no thread and no descriptor. With `pid`, it ends with that process.
 * @throws {SyscallError} ENOENT where there is no such process, EACCES where it may not be looked at.
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
  if (pid !== undefined && (!Number.isSafeInteger(pid) || pid <= 0)) {
    throw new TypeError(`a pid is a positive whole number, not ${pid}`);
  }
  using opened = new DisposableStack();
  const source = opened.use(sourceOf(pid === undefined ? "self" : `${pid}`, changes));
  const process = pid === undefined ? undefined : opened.use(pidfdOpen(pid));
  const wake = opened.use(eventfd(EFD_CLOEXEC | EFD_NONBLOCK));
  return new Watch({ source, wake, process, opened: opened.move() }, signal);
}

function sourceOf(process: string, changes: boolean): MountSource {
  if (!hasMountEvents()) return new MountinfoPoll(process, changes);
  try {
    return new FanotifyMounts(process, changes);
  } catch (error) {
    // Not permitted, or too many of its kind: reading the table takes no right and less of everything.
    if (isErrno(error, "EPERM", "EACCES", "EMFILE", "ENOSPC")) return new MountinfoPoll(process, changes);
    throw error;
  }
}

/** What a watch has open. */
interface Opened {
  source: MountSource;
  wake: OwnedFd;
  process: OwnedFd | undefined;
  opened: DisposableStack;
}

class Watch implements MountWatch {
  readonly #open: Opened;
  readonly #signal: AbortSignal | undefined;
  readonly #told: MountEvent[] = [];
  #turn: Promise<unknown> = Promise.resolve(); // the last of the steps, which are taken one after the other
  #isWaiting = false;
  #ended = false;
  #failure: { reason: unknown } | undefined; // thrown by the next step

  constructor(open: Opened, signal: AbortSignal | undefined) {
    this.#open = open;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort, { once: true });
  }

  next(): Promise<IteratorResult<MountEvent, undefined>> {
    const step = this.#turn.then(() => this.#step());
    this.#turn = step.catch(() => {}); // whoever asked for the step gets its error
    return step;
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#end();
    this.#failure = undefined;
    await this.#turn;
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
      while (this.#told.length === 0 && !this.#ended) this.#told.push(...await this.#wait());
    } catch (error) {
      this.#end();
      this.#failure = { reason: error };
    }
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure.reason;
    const value = this.#told.shift();
    return value === undefined ? { done: true, value } : { done: false, value };
  }

  async #wait(): Promise<MountEvent[]> {
    const { source, wake, process } = this.#open;
    const others = [wake, ...process ? [process] : []];
    this.#isWaiting = true;
    try {
      const fds = [...others.map(({ fd }) => ({ fd, events: POLLIN })), ...source.fds];
      const happened = await pollOffThread(fds);
      if (this.#ended) return [];
      const events = source.read(happened.slice(others.length));
      if (process && happened[1]) this.#ended = true; // what it left is told of first
      return events;
    } finally {
      this.#isWaiting = false;
      if (this.#ended) this.#close();
    }
  }

  readonly #abort = (): void => {
    this.#failure = { reason: this.#signal?.reason };
    this.#end();
  };

  /** A wait that is under way uses the descriptors until it is woken. */
  #end(): void {
    this.#told.length = 0;
    if (this.#ended) return;
    this.#ended = true;
    if (this.#isWaiting) write(this.#open.wake.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
    else this.#close();
  }

  #close(): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#open.opened.dispose();
  }
}
