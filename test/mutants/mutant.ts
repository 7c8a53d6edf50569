/**
 * A bug that is put into the library on purpose, to see whether a test notices it.
 *
 * @module
 */

/** One mutant. */
export interface Mutant {
  /** Its name within its room. */
  name: string;
  /** The file that is changed, from the root of the project. */
  file: string;
  /** A text that occurs once in the file. */
  find: string;
  /** The text that replaces it. */
  replace: string;
  /** The rule that it breaks, as a sentence. */
  rule: string;
  /** The test files that must notice it. */
  tests: readonly string[];
  /** Why no test can notice it, if it does the same as the library. */
  equivalent?: string;
}

/** The mutants of one room. */
export interface MutantRoom {
  /** The room, such as "linux/unmount". */
  room: string;
  /** Its mutants. */
  mutants: readonly Mutant[];
}

/** What became of a mutant. */
export type Outcome = "killed" | "timeout" | "survived";

/**
 * Puts a mutant into a text.
 *
 * @param text the file's text.
 * @param mutant the mutant.
 * @returns the changed text.
 * @throws {Error} if the text to find does not occur exactly once.
 */
export function mutate(text: string, { find, replace, file, name }: Mutant): string {
  const at = text.indexOf(find);
  if (at < 0 || text.indexOf(find, at + 1) >= 0) {
    throw new Error(`${file}: the text of "${name}" occurs ${at < 0 ? "never" : "more than once"}`);
  }
  return text.slice(0, at) + replace + text.slice(at + find.length);
}
