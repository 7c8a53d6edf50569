/**
 * Waits that end: for a call on another thread that may never return, with a timeout and a signal.
 *
 * A call that waits for a dead server can't be cancelled. It can only be abandoned, and it keeps its thread for as long
 * as the server does not answer. Deno has 32 threads for such calls and for its own file system functions. So calls for
 * the same path share one thread, and all of them together have eight.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import { isRedirected } from "../../ffi/libc.ts";

/** How long to wait for a server, a helper or a busy mount. */
export interface WaitOptions {
  /**
   * The timeout of each wait in milliseconds; 2500 if left out. A call that waits several times, for one server after
   * the other, can take longer in all. More than 2^31 - 1 means no timeout.
   */
  readonly timeout?: number | undefined;
  /** Ends the wait, with its reason as the error. */
  readonly signal?: AbortSignal | undefined;
}

/** The default timeout, in milliseconds. */
export const DEFAULT_TIMEOUT = 2500;

const LONGEST_TIMER = 2 ** 31 - 1; // ms; setTimeout() calls back at once after a longer time

/**
 * Checks the options of a call before it begins.
 *
 * @param wait the timeout and the signal.
 * @throws {TypeError} for a timeout that is not a number or is negative.
 * @throws the signal's reason, if it is aborted.
 */
export function checkWait({ timeout = DEFAULT_TIMEOUT, signal }: WaitOptions): void {
  checkTimeout(timeout);
  signal?.throwIfAborted();
}

/**
 * Refuses a timeout that is no number of milliseconds.
 *
 * @param timeout the timeout, in milliseconds.
 * @throws {TypeError} for a negative number, and for NaN.
 */
export function checkTimeout(timeout: number): void {
  if (!(timeout >= 0)) throw new TypeError(`a timeout is a number of milliseconds, not ${timeout}`);
}

/**
 * Waits for a promise until a timeout or an abort. The work itself is not cancelled.
 *
 * @param work the promise.
 * @param wait the timeout and the signal.
 * @param syscall the system call or program that the work runs, for the error.
 * @param path its path, for the error.
 * @returns the value of the promise.
 * @throws {SyscallError} ETIMEDOUT after the timeout.
 * @throws the signal's reason, if it is aborted.
 */
export async function withTimeout<T>(
  work: Promise<T>,
  { timeout = DEFAULT_TIMEOUT, signal }: WaitOptions,
  syscall: string,
  path?: string,
): Promise<T> {
  const { promise: limit, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort, { once: true });
  const expire = () => reject(new SyscallError({ syscall, errno: errnoNumber("ETIMEDOUT"), path }));
  const timer = timeout <= LONGEST_TIMER ? setTimeout(expire, timeout) : undefined;
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    work.catch(() => {}); // a later rejection has no other handler
  }
}

const MAX_CALLS = 8;

/**
 * Too many calls of this process already wait for servers that don't answer. Its `code` is "ETIMEDOUT". The next call
 * works again when one of the servers answers or its mount is unmounted.
 *
 * @example
 * ```ts
 * import { AbandonedCallsError, lookupMount } from "@denomount/mount";
 *
 * try {
 *   await lookupMount("/proc");
 * } catch (error) {
 *   if (!(error instanceof AbandonedCallsError)) throw error;
 *   console.error("unmount the dead servers first");
 * }
 * ```
 */
export class AbandonedCallsError extends SyscallError {
  /**
   * Makes the error of a call that is not begun.
   *
   * @param syscall the call.
   * @param path its path.
   */
  constructor(syscall: string, path?: string) {
    super({ syscall, errno: errnoNumber("ETIMEDOUT"), path });
    this.message +=
      `: not tried, because ${MAX_CALLS} earlier calls still wait for servers that don't answer`;
  }
}

/** A call on another thread, and how many callers wait for it. */
interface Call<T> {
  readonly work: Promise<T>;
  waiters: number;
  state: "queued" | "running" | "ended";
}

const queue: (() => void)[] = []; // calls that wait for one of the MAX_CALLS threads
let running = 0;
let abandoned = 0; // of those that run
const sharedCalls = new Map<string, Call<unknown>>();

/**
 * Makes a call on another thread, and waits for it until a timeout or an abort.
 *
 * @param start makes the call.
 * @param wait the timeout and the signal.
 * @param syscall the system call, for the error.
 * @param path its path, for the error.
 * @param late gets the result if no caller waits for it any more.
 * @returns the result of the call.
 * @throws {SyscallError} ETIMEDOUT after the timeout; {@linkcode AbandonedCallsError} without a free thread.
 * @throws the signal's reason, if it is aborted.
 */
export function callOffThread<T>(
  start: () => Promise<T>,
  wait: WaitOptions,
  syscall: string,
  path: string,
  late?: (result: T) => void,
): Promise<T> {
  // The thread in another mount namespace makes the call: it is not one of Deno's threads, and ends with its owner.
  if (isRedirected()) return withTimeout(start(), wait, syscall, path);
  return waitForCall(begin(start, wait, syscall, path, late), wait, syscall, path);
}

/**
 * {@linkcode callOffThread} for a call that returns nothing. Callers with the same absolute path share one call.
 *
 * @param start makes the call.
 * @param wait the timeout and the signal.
 * @param syscall the system call, for the error.
 * @param path its path.
 * @param kind what else tells the call from others of the path.
 * @throws {SyscallError} as {@linkcode callOffThread} does.
 */
export function shareCallOffThread(
  start: () => Promise<void>,
  wait: WaitOptions,
  syscall: string,
  path: string,
  kind: number,
): Promise<void> {
  if (isRedirected() || !path.startsWith("/")) return callOffThread(start, wait, syscall, path);
  const key = `${syscall} ${kind} ${path}`;
  let call = sharedCalls.get(key) as Call<void> | undefined;
  if (call === undefined) {
    call = begin(start, wait, syscall, path);
    sharedCalls.set(key, call);
    call.work.catch(() => {}).finally(() => sharedCalls.delete(key));
  } else if (call.waiters++ === 0 && call.state === "running") abandoned--;
  return waitForCall(call, wait, syscall, path);
}

function begin<T>(
  start: () => Promise<T>,
  { signal }: WaitOptions,
  syscall: string,
  path: string,
  late?: (result: T) => void,
): Call<T> {
  signal?.throwIfAborted();
  if (abandoned >= MAX_CALLS) throw new AbandonedCallsError(syscall, path);
  const { promise: work, resolve, reject } = Promise.withResolvers<T>();
  const call: Call<T> = { work, waiters: 1, state: "queued" }; // of the caller
  const run = async () => {
    if (call.waiters === 0) reject(new AbandonedCallsError(syscall, path));
    else {
      call.state = "running";
      try {
        const result = await start();
        if (call.waiters === 0) late?.(result);
        resolve(result);
      } catch (error) {
        reject(error);
      }
      if (call.waiters === 0) abandoned--;
    }
    call.state = "ended";
    running--;
    queue.shift()?.();
  };
  const take = () => {
    running++;
    run();
  };
  if (running < MAX_CALLS) take();
  else queue.push(take);
  return call;
}

async function waitForCall<T>(call: Call<T>, wait: WaitOptions, syscall: string, path: string): Promise<T> {
  try {
    return await withTimeout(call.work, wait, syscall, path);
  } finally {
    if (--call.waiters === 0 && call.state === "running") abandoned++;
  }
}
