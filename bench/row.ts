/**
 * A row of the benchmark: a work, its contenders and its limits.
 *
 * @module
 */

import type { Contender, Measured } from "./measure.ts";
import type { Peer } from "./peers.ts";

/** A limit of a row. */
export interface Limit {
  /** The maximum. */
  most: number;
  /** Makes the limit a ratio to this peer's time in the same rounds. */
  peer?: string;
  /** Makes the limit a ratio to this row's median. */
  row?: string;
}

/** The environment of a row. */
export interface Bench {
  /** A directory for this row. */
  dir: string;
  /** The peers that could be built. */
  peers: readonly Peer[];
  /** Disposed in reverse order after the row. */
  undo: AsyncDisposableStack;
}

/** A row. */
export interface Row {
  /** The name in the table. */
  name: string;
  /** The unit of its numbers; milliseconds by default. */
  unit?: string;
  /** The limits. */
  limits: readonly Limit[];
  /** The number of rounds, if the default takes too long. */
  rounds?: number;
  /** False where strace would take too long. */
  calls?: false;
  /** Prepares the work; returns the contenders. */
  prepare(bench: Bench): Promise<Contender[]>;
}

/** A limit with the measured value. */
export interface Verdict extends Limit {
  /** The measured value. */
  value: number;
  /** Whether the value is within the limit. */
  reached: boolean;
}

/** The result of a row. */
export interface Result extends Measured {
  /** The name of the row. */
  name: string;
  /** The unit of its times. */
  unit: string;
  /** The limits with their values. */
  verdicts: Verdict[];
}

/** Creates directories below the row's directory; returns the path of the first. */
export function make({ dir }: Bench, ...names: string[]): string {
  for (const name of names) Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
  return `${dir}/${names[0] ?? ""}`;
}

/** A directory on the disk, since the rows' own is a tmpfs. */
export async function diskDirectory({ undo }: Bench): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "denomount-bench-disk-" });
  undo.defer(() => Deno.remove(directory, { recursive: true }));
  return directory;
}
