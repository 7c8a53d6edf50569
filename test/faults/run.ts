/**
 * Every operation, at every point, with every fault; or a sample of it.
 *
 * @module
 */

import { Bench } from "./bench.ts";
import { type Fault, faults, harm, type Outcome } from "./harm.ts";
import { operations } from "./operations.ts";
import { nameOf, type Point } from "./points.ts";

/** What came of one operation. */
export interface Row {
  /** Its name. */
  operation: string;
  /** How many calls it makes that can be harmed. */
  points: number;
  /** How many faults were injected. */
  tried: number;
  /** How many of them ended in what way. */
  outcomes: Record<Outcome, number>;
  /** What was against the rules, a sentence each. */
  violations: string[];
}

/** What is to be run. */
export interface Run {
  /** The directory to work in. */
  base: string;
  /** The operations whose names hold this; all for "". */
  only?: string;
  /** How many faults of each operation; all if left out. */
  sample?: number;
  /** Chooses the sample. */
  seed: number;
  /** How many operations at a time. */
  jobs: number;
  /** Hears of each operation that is done. */
  done?: (row: Row) => void;
}

/** Runs them; the rows in the operations' order. */
export async function runFaults({ base, only = "", sample, seed, jobs, done }: Run): Promise<Row[]> {
  const names = operations(base).map(({ name }) => name).filter((name) => name.includes(only));
  const rows: Row[] = [];
  const left = [...names.entries()];
  const lane = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [index, name] = next;
      const row = await runOperation(name, `${base}/${index}`, (all) => chosen(all, sample, seed + index));
      rows[index] = row;
      done?.(row);
    }
  };
  await Promise.all(Array.from({ length: jobs }, lane));
  return rows;
}

type Trial = [point: Point, fault: Fault];

async function runOperation(name: string, dir: string, choose: (all: Trial[]) => Trial[]): Promise<Row> {
  const outcomes = { worked: 0, "typed error": 0, told: 0, killed: 0, "not reached": 0 };
  const row: Row = { operation: name, points: 0, tried: 0, outcomes, violations: [] };
  try {
    const operation = operations(dir).find((operation) => operation.name === name);
    if (operation === undefined) throw new Error("there is no such operation");
    await using bench = await Bench.open(operation, dir);
    row.points = bench.points.length;
    for (
      const [point, fault] of choose(
        bench.points.flatMap((point) => faults.map((fault): Trial => [point, fault])),
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

/** In the order that they come in, so that a sample goes through an operation from its beginning to its end. */
function chosen(all: Trial[], count: number | undefined, seed: number): Trial[] {
  if (count === undefined || count >= all.length) return all;
  const random = randomFrom(seed);
  const indexes = new Set<number>();
  while (indexes.size < count) indexes.add(Math.floor(random() * all.length));
  return all.filter((_, index) => indexes.has(index));
}

/** mulberry32: the same numbers for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let mixed = Math.imul(state ^ state >>> 15, 1 | state);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}
