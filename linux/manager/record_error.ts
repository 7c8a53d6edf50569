/**
 * The errors of the record's database, with what to do about them.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import { RecordError } from "./errors.ts";

/** node:sqlite's errors have SQLite's own sentence, and no code. */
function isSqliteError(error: unknown): error is Error {
  return error instanceof Error && "code" in error && error.code === "ERR_SQLITE_ERROR";
}

/**
 * Whether another process is writing just now.
 *
 * @param error the error of {@linkcode explained}.
 * @returns true if another attempt may succeed.
 */
export function isLocked(error: unknown): boolean {
  return error instanceof RecordError && /database( table)? is locked/.test(error.message);
}

const DAMAGED = "it is damaged: restore it, or move it away and unmount what is below the root directory";

const ADVICE: readonly [said: RegExp, advice: string][] = [
  [/not a database|malformed/, DAMAGED],
  [/disk is full/, "the disk is full: nothing was changed"],
  [/readonly|unable to open/, "the file and its directory have to be writable"],
];

/**
 * Runs statements, whose errors say what to do.
 *
 * @param path the database's file.
 * @param work the statements.
 * @returns the value of the function.
 * @throws {RecordError} with SQLite's own sentence.
 */
export function explained<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof SyntaxError) throw damaged(path, error.message, error);
    if (!isSqliteError(error)) throw error;
    const advice = ADVICE.find(([said]) => said.test(error.message))?.[1];
    const why = advice === undefined ? "" : ` (${advice})`;
    throw new RecordError(`the record ${quote(path)}: ${error.message}${why}`, { cause: error });
  }
}

/**
 * The error of a database that can't be read.
 *
 * @param path the database's file.
 * @param said what is wrong with it.
 * @param cause the error that showed it.
 * @returns the error.
 */
export function damaged(path: string, said: string, cause?: Error): RecordError {
  return new RecordError(`the record ${quote(path)}: ${said} (${DAMAGED})`, { cause });
}
