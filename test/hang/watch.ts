/**
 * Measures whether the event loop runs on while a call waits.
 *
 * @module
 */

import { assert } from "../assert.ts";

const TICK = 10; // ms
const BUSY = 5000; // ms that a busy machine may take longer; a call that waits for a stopped server never ends by itself

/** The result of a call, and how long it and the event loop took. */
export interface Watched<T> {
  /** The value that the call returned. */
  value?: T;
  /** The error that the call threw. */
  error?: unknown;
  /** The duration of the call, in milliseconds. */
  ms: number;
  /** The longest time that the event loop was blocked, in milliseconds. */
  blocked: number;
}

/** Awaits a call and measures the event loop meanwhile. */
export async function watch<T>(call: () => Promise<T>): Promise<Watched<T>> {
  const start = performance.now();
  let [last, blocked] = [start, 0];
  const tick = () => {
    const now = performance.now();
    blocked = Math.max(blocked, now - last - TICK);
    last = now;
  };
  const timer = setInterval(tick, TICK);
  const ended = await call().then((value) => ({ value }), (error) => ({ error }));
  await new Promise((resolve) => setTimeout(resolve)); // lets the timers that are due run
  clearInterval(timer);
  tick();
  return { ...ended, ms: performance.now() - start, blocked };
}

/** Fails unless the call ended within the timeout and the event loop was not blocked. */
export function assertInTime<T>({ ms, blocked, error }: Watched<T>, timeout: number): void {
  assert(ms < timeout + BUSY, `it took ${Math.round(ms)} ms (${error})`);
  assert(blocked < BUSY, `the event loop was blocked for ${Math.round(blocked)} ms`);
}
