/**
 * Measures whether the event loop runs on while a call waits.
 *
 * @module
 */

import { assert } from "../assert.ts";
import { linkText, readText } from "../kernel.ts";

const TICK = 10; // ms
const BLOCKED = 50; // ms that this thread may keep the event loop from running
const ONCE = 150; // ms, of a call that is made once: a thread or a child that it waits for may have no processor
const BUSY = 5000; // ms that a busy machine may take longer; a call that waits for a stopped server never ends by itself

/** The result of a call, and how long it and the event loop took. */
export interface Watched<T> {
  /** The value that the call returned. */
  value?: T;
  /** The error that the call threw. */
  error?: unknown;
  /** The duration of the call, in milliseconds. */
  ms: number;
  /** The longest time that the event loop did not run, in milliseconds. */
  late: number;
  /** The longest time that this thread itself blocked the event loop, in milliseconds. */
  blocked: number;
}

const memory = new SharedArrayBuffer(16);
const sampling = new Int32Array(memory, 0, 1);
const uninterruptible = new Float64Array(memory, 8, 1); // ms, written by sampler.ts
const sampler = new Worker(new URL("sampler.ts", import.meta.url), { type: "module" });
await new Promise((resolve) => {
  sampler.onmessage = resolve;
  sampler.postMessage([linkText("/proc/thread-self"), memory]);
});

/**
 * The time in which this thread could not run because of other processes, in milliseconds: it had no processor, or the
 * kernel had not done yet what it waits for. A stopped server's wait of that kind lasts longer than BUSY.
 */
function delay(): number {
  return queued() + (uninterruptible[0] ?? 0);
}

/** The time that this thread waited for a processor, in milliseconds; 0 on a kernel that does not count it. */
function queued(): number {
  const [, ns = "0"] = (readText("/proc/thread-self/schedstat") ?? "").split(" ");
  return Number(ns) / 1e6;
}

/** Awaits a call and measures the event loop meanwhile. */
export async function watch<T>(call: () => Promise<T>): Promise<Watched<T>> {
  Atomics.store(sampling, 0, 1);
  Atomics.notify(sampling, 0);
  const start = performance.now();
  let [last, delayed, late, blocked] = [start, delay(), 0, 0];
  const tick = () => {
    const [now, delays] = [performance.now(), delay()];
    late = Math.max(late, now - last - TICK);
    blocked = Math.max(blocked, now - last - TICK - (delays - delayed));
    [last, delayed] = [now, delays];
  };
  const timer = setInterval(tick, TICK);
  const ended = await call().then((value) => ({ value }), (error) => ({ error }));
  await new Promise((resolve) => setTimeout(resolve)); // lets the timers that are due run
  clearInterval(timer);
  tick();
  Atomics.store(sampling, 0, 0);
  return { ...ended, ms: performance.now() - start, late, blocked };
}

const TRIES = 10;

/**
 * Awaits a call, and makes it again if it blocked the event loop: what it does itself it does each time, but a thread or
 * a child process that it waits for may have no processor several times on a busy machine.
 */
export async function watchRepeatable<T>(call: () => Promise<T>, limit = BLOCKED): Promise<Watched<T>> {
  for (let tries = 1;; tries++) {
    const watched = await watch(call);
    if (watched.blocked < limit || tries === TRIES) return watched;
    await new Promise((resolve) => setTimeout(resolve, 50 * tries));
  }
}

/** Fails unless the call ended within the timeout and the event loop was not blocked. */
export function assertInTime<T>(
  { ms, late, blocked, error }: Watched<T>,
  timeout: number,
  limit = ONCE,
): void {
  assert(ms < timeout + BUSY, `it took ${Math.round(ms)} ms (${error})`);
  assert(late < BUSY, `the event loop did not run for ${Math.round(late)} ms`);
  if (queued() === 0) return; // a kernel without CONFIG_SCHED_INFO
  assert(blocked < limit, `the event loop was blocked for ${Math.round(blocked)} ms`);
}

/** Fails unless a call of {@linkcode watchRepeatable} ended within the timeout and the event loop was not blocked. */
export function assertRepeatableInTime<T>(watched: Watched<T>, timeout: number, limit = BLOCKED): void {
  assertInTime(watched, timeout, limit);
}
