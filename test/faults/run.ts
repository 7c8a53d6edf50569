/**
 * Runs every operation with every fault at every point, or a sample of them.
 *
 * @module
 */

import { Bench } from "./bench.ts";
import { diskFaults, type Fault, faults, harm, type Outcome } from "./harm.ts";
import { type Operation, operations } from "./operations.ts";
import { nameOf, type Point } from "./points.ts";

/** The results of one operation. */
export interface Row {
  /** The name of the operation. */
  operation: string;
  /** The number of calls that can get a fault. */
  points: number;
  /** The number of injected faults. */
  tried: number;
  /** The number of faults with each outcome. */
  outcomes: Record<Outcome, number>;
  /** The broken rules, a sentence each. */
  violations: string[];
}

/** What to run. */
export interface Run {
  /** The working directory. */
  base: string;
  /** Only operations with names that contain this text. */
  only?: string;
  /** The number of random faults of each operation; all by default. */
  sample?: number;
  /** The seed of the sample. */
  seed: number;
  /** The number of concurrent operations. */
  jobs: number;
  /** Called after each operation. */
  done?: (row: Row) => void;
}

/** Runs the operations; returns their rows in order. */
export async function runFaults({ base, only = "", sample, seed, jobs, done }: Run): Promise<Row[]> {
  const names = operations(base).map(({ name }) => name).filter((name) => name.includes(only));
  const rows: Row[] = [];
  const left = [...names.entries()];
  const worker = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [index, name] = next;
      const row = await runOperation(name, `${base}/${index}`, (all) => sampled(all, sample, seed + index));
      rows[index] = row;
      done?.(row);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return rows;
}

type Trial = [point: Point, fault: Fault];

async function runOperation(name: string, dir: string, choose: (all: Trial[]) => Trial[]): Promise<Row> {
  const outcomes = { worked: 0, "typed error": 0, reported: 0, killed: 0, "not reached": 0 };
  const row: Row = { operation: name, points: 0, tried: 0, outcomes, violations: [] };
  try {
    const operation = operations(dir).find((operation) => operation.name === name);
    if (operation === undefined) throw new Error("unknown operation");
    await using bench = await Bench.open(operation, dir);
    row.points = bench.points.length;
    for (
      const [point, fault] of choose(
        bench.points.flatMap((point) => faultsOf(operation).map((fault): Trial => [point, fault])),
      )
    ) {
      const { outcome, violations } = await harm(bench, point, fault);
      row.tried++;
      if (outcome !== undefined) outcomes[outcome]++;
      row.violations.push(
        ...violations.map((text) => `${nameOf(point)} ${fault}: ${text.replaceAll(dir, "")}`),
      );
    }
  } catch (error) {
    row.violations.push(String(error).replaceAll(dir, ""));
  }
  return row;
}

function faultsOf({ writesFiles }: Operation): Fault[] {
  return writesFiles ? [...faults, ...diskFaults] : [...faults];
}

/** A random sample of the faults, in the order of the operation's calls. */
function sampled(all: Trial[], count: number | undefined, seed: number): Trial[] {
  if (count === undefined || count >= all.length) return all;
  const random = randomFrom(seed);
  const indexes = new Set<number>();
  while (indexes.size < count) indexes.add(Math.floor(random() * all.length));
  return all.filter((_, index) => indexes.has(index));
}

/** mulberry32: repeatable random numbers. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let mixed = Math.imul(state ^ state >>> 15, 1 | state);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}
