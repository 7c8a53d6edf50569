/**
 * Whether the event loop goes on while something is waited for.
 *
 * @module
 */

import { assert } from "../assert.ts";

const TICK = 10; // ms
const BUSY = 2000; // ms that a machine with other things to do may take longer

/** How something ended, and how the event loop fared meanwhile. */
export interface Watched<T> {
  /** What it returned. */
  value?: T;
  /** What it threw. */
  error?: unknown;
  /** How long it took, in milliseconds. */
  ms: number;
  /** The longest time that the event loop stood still, in milliseconds. */
  standstill: number;
}

/** Waits for something, and watches the event loop. */
export async function watch<T>(call: () => Promise<T>): Promise<Watched<T>> {
  const start = performance.now();
  let [last, standstill] = [start, 0];
  const tick = () => {
    const now = performance.now();
    standstill = Math.max(standstill, now - last - TICK);
    last = now;
  };
  const timer = setInterval(tick, TICK);
  const ended = await call().then((value) => ({ value }), (error) => ({ error }));
  await new Promise((resolve) => setTimeout(resolve)); // the ticks that were due
  clearInterval(timer);
  tick();
  return { ...ended, ms: performance.now() - start, standstill };
}

/** Fails unless a call ended in time and the event loop ran on meanwhile. */
export function assertInTime<T>({ ms, standstill, error }: Watched<T>, timeout: number): void {
  assert(ms < timeout + BUSY, `it took ${Math.round(ms)} ms (${error})`);
  assert(standstill < BUSY, `the event loop stood still for ${Math.round(standstill)} ms`);
}
