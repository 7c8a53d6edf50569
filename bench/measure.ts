/**
 * Measures contenders in turns, round by round, so that a slow phase of the machine affects all of them. Only the ratios
 * are meaningful.
 *
 * @module
 */

import process from "node:process";

/** An implementation that is measured. */
export interface Contender {
  /** "denomount", or the name of a peer. */
  name: string;
  /** The runs of a turn, for counting the system calls of one; without it, they are not counted. */
  count?: number;
  /** Runs the work; returns its cost per run, in the row's unit, or undefined if the contender lacks this work. */
  run(): Promise<number | undefined>;
}

/** A median with its quartiles. */
export interface Spread {
  /** The first quartile. */
  low: number;
  /** The median. */
  median: number;
  /** The third quartile. */
  high: number;
}

/** The measurements of a row. */
export interface Measured {
  /** The cost per run, for each contender. */
  times: Record<string, Spread>;
  /** The library's cost relative to each peer's, by round. */
  ratios: Record<string, Spread>;
  /** The shares of the library's time. */
  shares: Shares;
  /** The system calls of one run, for each contender. */
  calls?: Record<string, number>;
}

/** Shares of the time, from 0 to 1. */
export interface Shares {
  /** System calls. */
  kernel: number;
  /** JavaScript and foreign function calls. */
  program: number;
  /** Waiting for RCU, another thread, a disk or a child. */
  waiting: number;
}

/** The name of the library among the contenders. */
export const OURS = "denomount";

/** The median and the quartiles of some values. */
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
  return { low: at(0.25), median: at(0.5), high: at(0.75) };
}

// ms: V8 has compiled the code by then, on another thread; every unmount waits for the processor of that thread. Go and C
// are compiled before.
const WARM_UP = 5000;

// ms before each turn: the kernel frees an unmounted file system some milliseconds later, on the same processor. Without
// the pause, each contender would pay for the previous one.
const PAUSE = 20;

/** Measures the contenders in turns, after a warm-up that is not counted. */
export async function measure(contenders: readonly Contender[], rounds: number): Promise<Measured> {
  for (const begun = performance.now(); performance.now() - begun < WARM_UP;) {
    for (const { run } of contenders) await run();
  }
  const values = new Map<string, number[]>();
  const spent = { kernel: 0, program: 0, wall: 0 };
  for (let round = 0; round < rounds; round++) {
    // Rotates the order, because a contender finds the caches that the previous one left.
    const first = round % contenders.length;
    for (const { name, run } of [...contenders.slice(first), ...contenders.slice(0, first)]) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      const [cpu, start] = [process.cpuUsage(), performance.now()];
      const value = await run();
      if (name === OURS) {
        const { system, user } = process.cpuUsage(cpu);
        spent.kernel += system / 1000;
        spent.program += user / 1000;
        spent.wall += performance.now() - start;
      }
      if (value !== undefined) values.set(name, [...values.get(name) ?? [], value]);
    }
  }
  const ours = values.get(OURS) ?? [];
  const times: Measured["times"] = {};
  const ratios: Measured["ratios"] = {};
  for (const [name, theirs] of values) {
    times[name] = spread(theirs);
    if (name !== OURS) ratios[name] = spread(ours.map((value, round) => value / (theirs[round] ?? NaN)));
  }
  const [kernel, program] = [spent.kernel / spent.wall, spent.program / spent.wall];
  return { times, ratios, shares: { kernel, program, waiting: Math.max(0, 1 - kernel - program) } };
}

/** The mean time of `count` runs, in milliseconds. */
export async function each(count: number, run: (index: number) => unknown): Promise<number> {
  const start = performance.now();
  for (let index = 0; index < count; index++) await run(index);
  return (performance.now() - start) / count;
}
