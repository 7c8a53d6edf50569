/**
 * One row of the benchmark: a work, who does it, and what is to be reached.
 *
 * @module
 */

import type { Contender, Measured } from "./measure.ts";
import type { Peer } from "./peers.ts";

/** What a row is to reach. */
export interface Limit {
  /** The most that is allowed. */
  most: number;
  /** As a ratio to a peer's time in the same rounds. */
  peer?: string;
  /** As a ratio to another row's median. */
  row?: string;
}

/** What a row's work gets. */
export interface Bench {
  /** A directory of its own. */
  dir: string;
  /** The peers' programs that were built. */
  peers: readonly Peer[];
  /** Undone in reverse order when the row is over. */
  undo: AsyncDisposableStack;
}

/** A row. */
export interface Row {
  /** Its name in the table. */
  name: string;
  /** What its numbers are: milliseconds if left out. */
  unit?: string;
  /** What it is to reach. */
  limits: readonly Limit[];
  /** How many rounds, where the usual number takes too long. */
  rounds?: number;
  /** Sets the work up; returns who does it. */
  prepare(bench: Bench): Promise<Contender[]>;
}

/** A limit together with what was measured. */
export interface Verdict extends Limit {
  /** What it came to. */
  value: number;
  /** Whether that is within it. */
  reached: boolean;
}

/** A row's outcome. */
export interface Result extends Measured {
  /** The row. */
  name: string;
  /** The unit of its times. */
  unit: string;
  /** Its limits. */
  verdicts: Verdict[];
}

/** Makes directories below the row's own and returns the first one's path. */
export function make({ dir }: Bench, ...names: string[]): string {
  for (const name of names) Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
  return `${dir}/${names[0] ?? ""}`;
}
