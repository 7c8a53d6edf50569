/**
 * Measuring: contenders take turns, round by round, so that a slow moment of the machine hits all of them. Only the
 * ratios mean anything.
 *
 * @module
 */

import process from "node:process";

/** Someone who does the work. */
export interface Contender {
  /** "denomount", or a peer's name. */
  name: string;
  /** Does the work and returns what one takes, in the row's unit; undefined where this contender can't do it. */
  run(): Promise<number | undefined>;
}

/** A median with its quartiles. */
export interface Spread {
  /** A quarter of the values are below. */
  low: number;
  /** Half of them are. */
  median: number;
  /** A quarter of them are above. */
  high: number;
}

/** What one row came to. */
export interface Measured {
  /** What one takes, for each contender. */
  times: Record<string, Spread>;
  /** Ours to each peer's, round by round. */
  ratios: Record<string, Spread>;
  /** Where our own time goes, as shares of it. */
  shares: Shares;
}

/** Where time goes. */
export interface Shares {
  /** In system calls. */
  kernel: number;
  /** In JavaScript and in crossing to C and back. */
  program: number;
  /** Waiting: for the kernel's RCU, another thread, a disk, a child. */
  waiting: number;
}

/** The library's own name among the contenders. */
export const OURS = "denomount";

/** The median and the quartiles of some values. */
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
  return { low: at(0.25), median: at(0.5), high: at(0.75) };
}

// ms: by then V8 has compiled what it will, on another thread; every unmount waits for the processor that does it. Go and C
// come compiled.
const WARM_UP = 5000;

// ms before each turn: the kernel frees what was unmounted some milliseconds later, on the processor that unmounted it.
// Without the rest, each would pay for what the one before it has left.
const REST = 20;

/** Lets the contenders take turns; the first rounds are not counted, for they warm caches and compilers up. */
export async function measure(contenders: readonly Contender[], rounds: number): Promise<Measured> {
  for (const begun = performance.now(); performance.now() - begun < WARM_UP;) {
    for (const { run } of contenders) await run();
  }
  const values = new Map<string, number[]>();
  const spent = { kernel: 0, program: 0, wall: 0 };
  for (let round = 0; round < rounds; round++) {
    // Another one begins each time: what comes right after a slow or a quick one inherits warm or cold processors.
    const first = round % contenders.length;
    for (const { name, run } of [...contenders.slice(first), ...contenders.slice(0, first)]) {
      await new Promise((resolve) => setTimeout(resolve, REST));
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

/** Milliseconds for one of `count` runs. */
export async function each(count: number, run: (index: number) => unknown): Promise<number> {
  const start = performance.now();
  for (let index = 0; index < count; index++) await run(index);
  return (performance.now() - start) / count;
}
