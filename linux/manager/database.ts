/**
 * An SQLite database that keeps a record across crashes.
 *
 * Statements run on this thread and take microseconds. If another process writes just now, the transaction is tried again
 * later, so that the event loop runs on.
 *
 * @module
 */

import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { quote } from "../../ffi/text.ts";
import { delay } from "../path/delay.ts";
import { RecordError } from "./errors.ts";

/** The tables of a record. */
export interface RecordFormat {
  /** The number of the program, which SQLite keeps in the header of the file. */
  readonly application: number;
  /** The version of the tables. */
  readonly version: number;
  /** The statements that make the tables. */
  readonly schema: string;
}

const LOCK_TIMEOUT = 30_000; // ms; a transaction takes a millisecond, or a disk's time to sync

/** The database of a record. */
export class RecordDatabase implements Disposable {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #format: RecordFormat;
  readonly #statements = new Map<string, StatementSync>(); // preparing one takes longer than running it

  private constructor(db: DatabaseSync, path: string, format: RecordFormat) {
    this.#db = db;
    this.#path = path;
    this.#format = format;
  }

  /**
   * Opens a record, and makes it if it does not exist.
   *
   * @param path the database's file.
   * @param format its tables.
   * @param signal ends the wait for another process that is writing.
   * @returns the record.
   * @throws {RecordError} if it is damaged, of a newer version or another program's, or can't be written.
   */
  static async open(path: string, format: RecordFormat, signal?: AbortSignal): Promise<RecordDatabase> {
    // Not at the start of a program: loading it takes as long as everything else of the command.
    const { DatabaseSync } = await import("node:sqlite");
    const db = explained(path, () => new DatabaseSync(path, { timeout: 0 }));
    const record = new RecordDatabase(db, path, format);
    try {
      // In one transaction: between two statements another process could make the tables.
      await record.read(() => record.#refuseForeign(), signal);
      await record.#retrying(() => record.#refuseDamaged(), signal);
      await record.#retrying(() => db.exec("PRAGMA journal_mode = WAL"), signal);
      await record.#retrying(() => db.exec("PRAGMA synchronous = NORMAL"), signal);
      await record.write(() => record.#makeTables(), signal);
      return record;
    } catch (error) {
      db.close();
      throw error;
    }
  }

  #refuseForeign(): void {
    const application = this.#pragma("application_id");
    const version = this.#pragma("user_version");
    const tables = Number(this.get("SELECT count(*) AS n FROM sqlite_schema")?.["n"]);
    if (application !== this.#format.application && (tables > 0 || version !== 0)) {
      throw new RecordError(`${quote(this.#path)} is the database of another program`);
    }
    if (version > this.#format.version) {
      throw new RecordError(
        `${
          quote(this.#path)
        } was written by a newer version of this library (format ${version}, known is ${this.#format.version})`,
      );
    }
  }

  /** Looks at every page: a damaged one could be found when something is mounted already. */
  #refuseDamaged(): void {
    const said = this.get("PRAGMA quick_check(1)")?.["quick_check"];
    if (said !== "ok") throw damaged(this.#path, `${said}`.replace(/^\*\*\*.*\n/, ""));
  }

  #makeTables(): void {
    this.#refuseForeign();
    if (this.#pragma("user_version") === this.#format.version) {
      this.run("DELETE FROM sqlite_sequence WHERE false"); // fails if the file is read-only, as BEGIN IMMEDIATE does not
      return;
    }
    this.#db.exec(this.#format.schema);
    this.#db.exec(
      `PRAGMA application_id = ${this.#format.application}; PRAGMA user_version = ${this.#format.version}`,
    );
  }

  #pragma(name: string): number {
    return Number(this.get(`PRAGMA ${name}`)?.[name]);
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, statement = this.#db.prepare(sql));
    return statement;
  }

  /**
   * Reads one row.
   *
   * @param sql the statement.
   * @param values its parameters.
   * @returns the first row; undefined if there is none.
   */
  get(sql: string, ...values: SQLInputValue[]): Record<string, unknown> | undefined {
    return this.#prepare(sql).get(...values);
  }

  /**
   * Reads all rows.
   *
   * @param sql the statement.
   * @param values its parameters.
   * @returns the rows.
   */
  all(sql: string, ...values: SQLInputValue[]): Record<string, unknown>[] {
    return this.#prepare(sql).all(...values);
  }

  /**
   * Runs a statement that writes.
   *
   * @param sql the statement.
   * @param values its parameters.
   * @returns the number of rows that it has changed.
   */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#prepare(sql).run(...values).changes);
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#db.close();
  }

  /**
   * Runs a transaction that writes.
   *
   * @param work the statements; it may run again, and changes nothing outside of the database before its last statement.
   * @param signal ends the wait for another process that is writing.
   * @param isDurable whether it must survive a loss of power, which takes a disk's time.
   * @returns the value of the function.
   */
  async write<T>(work: () => T, signal?: AbortSignal, isDurable = false): Promise<T> {
    return await this.#retrying(() => {
      if (isDurable) this.#prepare("PRAGMA synchronous = FULL").run();
      try {
        return this.#transaction("BEGIN IMMEDIATE", work);
      } finally {
        if (isDurable) this.#prepare("PRAGMA synchronous = NORMAL").run();
      }
    }, signal);
  }

  #transaction<T>(begin: string, work: () => T): T {
    this.#prepare(begin).run();
    try {
      const value = work();
      this.#prepare("COMMIT").run();
      return value;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw error;
    }
  }

  /**
   * Runs a transaction that reads.
   *
   * @param work the statements; it may run again.
   * @param signal ends the wait for another process that is writing.
   * @returns the value of the function.
   */
  async read<T>(work: () => T, signal?: AbortSignal): Promise<T> {
    return await this.#retrying(() => this.#transaction("BEGIN", work), signal);
  }

  async #retrying<T>(work: () => T, signal?: AbortSignal): Promise<T> {
    for (const start = performance.now();;) {
      try {
        return explained(this.#path, work);
      } catch (error) {
        if (!isLocked(error) || performance.now() - start > LOCK_TIMEOUT) throw error;
      }
      await delay(1 + Math.random() * 5, signal);
    }
  }
}

/** node:sqlite's errors have SQLite's own sentence, and no code. */
function isSqliteError(error: unknown): error is Error {
  return error instanceof Error && "code" in error && error.code === "ERR_SQLITE_ERROR";
}

function isLocked(error: unknown): boolean {
  return error instanceof RecordError && /database( table)? is locked/.test(error.message);
}

const DAMAGED = "it is damaged: restore it, or move it away and unmount what is below the root directory";

const ADVICE: readonly [said: RegExp, advice: string][] = [
  [/not a database|malformed/, DAMAGED],
  [/disk is full/, "the disk is full: nothing was changed"],
  [/readonly|unable to open/, "the file and its directory have to be writable"],
];

function explained<T>(path: string, work: () => T): T {
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

function damaged(path: string, said: string, cause?: Error): RecordError {
  return new RecordError(`the record ${quote(path)}: ${said} (${DAMAGED})`, { cause });
}
