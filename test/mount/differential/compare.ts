/**
 * What differs between two outcomes, as sentences.
 *
 * @module
 */

import type { Line } from "./lines.ts";
import type { Outcome, OutcomeRow } from "./run.ts";

/** A difference that is meant. */
export interface Explanation {
  /** The sentence that says why. */
  readonly reason: string;
  /** The lines that it is about. */
  readonly when: (line: Line) => boolean;
  /** The differences that it explains. */
  readonly difference: RegExp;
  /** mount(8) before this version only. */
  readonly before?: number;
}

/**
 * Compares what the library did with what mount(8) did.
 *
 * @param ours the library's outcome.
 * @param theirs mount(8)'s outcome.
 * @returns the differences; none if both failed.
 */
export function differences(ours: Outcome, theirs: Outcome): string[] {
  if (ours.error !== undefined && theirs.error !== undefined) return [];
  if (ours.error !== undefined) return [`only the library fails: ${ours.error}`];
  if (theirs.error !== undefined) return [`only mount(8) fails: ${theirs.error}`];
  return [
    ...rowDifferences(ours.rows, theirs.rows),
    ...different("the root", ours.root, theirs.root),
    ...different("the mountpoint", ours.mountpoint, theirs.mountpoint),
  ];
}

function rowDifferences(ours: readonly OutcomeRow[], theirs: readonly OutcomeRow[]): string[] {
  const points = (rows: readonly OutcomeRow[]) => rows.map(({ mountpoint }) => mountpoint).join(" ");
  if (points(ours) !== points(theirs)) return different("the mountpoints", points(ours), points(theirs));
  return ours.flatMap((our, index) => {
    const their = theirs[index] as OutcomeRow;
    const at = our.mountpoint;
    return [
      ...setDifference(`${at}: attribute`, our.options, their.options),
      ...setDifference(`${at}: super option`, our.superOptions, their.superOptions),
      ...different(`${at}: propagation`, our.propagation, their.propagation),
      ...different(`${at}: source`, our.source, their.source),
      ...different(`${at}: root`, our.root, their.root),
      ...different(`${at}: type`, our.fsType, their.fsType),
    ];
  });
}

function setDifference(what: string, ours: readonly string[], theirs: readonly string[]): string[] {
  return [
    ...ours.filter((word) => !theirs.includes(word)).map((word) => `${what} ${word}: only by the library`),
    ...theirs.filter((word) => !ours.includes(word)).map((word) => `${what} ${word}: only by mount(8)`),
  ];
}

function different(what: string, ours: string, theirs: string): string[] {
  return ours === theirs ? [] : [`${what}: "${ours}" by the library, "${theirs}" by mount(8)`];
}

/**
 * Finds the explanation of a difference.
 *
 * @param explanations the list of them.
 * @param difference the difference.
 * @param line the line.
 * @param version the version of mount(8).
 * @returns the explanation; undefined for a difference that has none.
 */
export function explanationOf(
  explanations: readonly Explanation[],
  difference: string,
  line: Line,
  version: number,
): Explanation | undefined {
  return explanations.find((explanation) =>
    explanation.difference.test(difference) && version < (explanation.before ?? Infinity) &&
    explanation.when(line)
  );
}
