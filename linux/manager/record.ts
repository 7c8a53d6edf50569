/**
 * The record of a manager: an SQLite database that holds every step before it is done.
 *
 * Statements run on this thread and take microseconds. If another process writes just now, the transaction is tried again
 * later, so that the event loop runs on.
 *
 * @module
 */

import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { quote } from "../../ffi/text.ts";
import { delay } from "../path/delay.ts";
import type { Mount } from "../spec/mount.ts";
import { RecordError } from "./errors.ts";
import type { Made } from "./made.ts";
import { damaged, explained, isLocked } from "./record_error.ts";
import { APPLICATION, SCHEMA, VERSION } from "./record_schema.ts";

/** How far an activation is. */
export type State = "activating" | "active" | "deactivating" | "lost";

/** A mount of an activation. */
export interface MountRow {
  /** Its place in the list. */
  readonly position: number;
  /** The name of its handler; undefined if the kernel mounts it. */
  readonly handler: string | undefined;
  /** Where it is mounted, or will be. */
  readonly mountPoint: string;
  /** The mount. */
  readonly mount: Mount;
  /** What its handler has written down. */
  readonly data: Record<string, string>;
  /** The kernel's id of the mount; undefined if it is none, or not mounted yet. */
  readonly mountId: string | undefined;
  /** When it was mounted; undefined before that. */
  readonly mountedAt: Date | undefined;
}

/** An activation as it is recorded. */
export interface Row {
  /** Its number. */
  readonly id: number;
  /** Its name. */
  readonly name: string;
  /** How far it is. */
  readonly state: State;
  /** The directory of its mountpoints. */
  readonly directory: string;
  /** The boot of the machine that its mounts belong to. */
  readonly boot: string;
  /** The mount namespace that its mounts are in. */
  readonly namespace: string;
  /** Its labels. */
  readonly labels: Record<string, string>;
  /** What the caller mounts. */
  readonly system: Mount[];
  /** Its mounts, in their order. */
  readonly mounts: MountRow[];
  /** The files and directories that it has made, in their order. */
  readonly made: Made[];
}

/** An activation that is begun. */
export type NewRow = Omit<Row, "id" | "state" | "system" | "made">;

const LOCK_TIMEOUT = 30_000; // ms; a transaction takes a millisecond, or a disk's time to sync

/** The record of the activations. */
export class ActivationRecord implements Disposable {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #statements = new Map<string, StatementSync>(); // preparing one takes longer than running it

  private constructor(db: DatabaseSync, path: string) {
    this.#db = db;
    this.#path = path;
  }

  /**
   * Opens the record, and makes it if it does not exist.
   *
   * @param path the database's file.
   * @param signal ends the wait for another process that is writing.
   * @returns the record.
   * @throws {RecordError} if it is damaged, of a newer version or another program's, or can't be written.
   */
  static async open(path: string, signal?: AbortSignal): Promise<ActivationRecord> {
    // Not at the start of a program: loading it takes as long as everything else of the command.
    const { DatabaseSync } = await import("node:sqlite");
    const db = explained(path, () => new DatabaseSync(path, { timeout: 0 }));
    const record = new ActivationRecord(db, path);
    try {
      await record.#retrying(() => record.#refuseForeign(), signal);
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
    const tables = Number(this.#get("SELECT count(*) AS n FROM sqlite_schema")?.["n"]);
    if (application !== APPLICATION && (tables > 0 || version !== 0)) {
      throw new RecordError(`${quote(this.#path)} is the database of another program`);
    }
    if (version > VERSION) {
      throw new RecordError(
        `${
          quote(this.#path)
        } was written by a newer version of this library (format ${version}, known is ${VERSION})`,
      );
    }
  }

  /** Looks at every page: a damaged one could be found when something is mounted already. */
  #refuseDamaged(): void {
    const said = this.#get("PRAGMA quick_check(1)")?.["quick_check"];
    if (said !== "ok") throw damaged(this.#path, `${said}`.replace(/^\*\*\*.*\n/, ""));
  }

  #makeTables(): void {
    this.#refuseForeign();
    if (this.#pragma("user_version") === VERSION) {
      this.#run("DELETE FROM activation WHERE false"); // fails if the file is read-only, as BEGIN IMMEDIATE does not
      return;
    }
    this.#db.exec(SCHEMA);
    this.#db.exec(`PRAGMA application_id = ${APPLICATION}; PRAGMA user_version = ${VERSION}`);
  }

  #pragma(name: string): number {
    return Number(this.#get(`PRAGMA ${name}`)?.[name]);
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, statement = this.#db.prepare(sql));
    return statement;
  }

  #get(sql: string, ...values: SQLInputValue[]): Record<string, unknown> | undefined {
    return this.#prepare(sql).get(...values);
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

  /**
   * Begins an activation, unless another one has its name.
   *
   * @param row the activation.
   * @param signal ends the wait for another process that is writing.
   * @returns its number; or the activation that has the name. One that is lost is replaced, and returned as well.
   */
  async begin(row: NewRow, signal?: AbortSignal): Promise<{ id?: number; existing?: Row }> {
    return await this.write(() => {
      const existing = this.#find(row.name);
      if (existing !== undefined && existing.state !== "lost") return { existing };
      if (existing !== undefined) this.#run("DELETE FROM activation WHERE id = ?", existing.id);
      return { id: this.#insert(row), ...existing === undefined ? {} : { existing } };
    }, signal);
  }

  #insert(row: NewRow): number {
    const { name, directory, boot, namespace, labels, mounts } = row;
    const { id } = this.#get(
      `INSERT INTO activation (name, state, directory, boot, namespace, labels, system)
       VALUES (?, 'activating', ?, ?, ?, ?, '[]') RETURNING id`,
      name,
      directory,
      boot,
      namespace,
      JSON.stringify(labels),
    ) ?? {};
    for (const mount of mounts) {
      this.#run(
        "INSERT INTO mount (activation, position, handler, mount_point, mount, data) VALUES (?, ?, ?, ?, ?, '{}')",
        Number(id),
        mount.position,
        mount.handler ?? null,
        JSON.stringify(mount.mountPoint),
        JSON.stringify(mount.mount),
      );
    }
    return Number(id);
  }

  /** Writes a mount down as it will be mounted, or is mounted. */
  async setMount(id: number, row: MountRow, signal?: AbortSignal): Promise<void> {
    await this.write(() => this.#updateMount(id, row), signal);
  }

  #updateMount(id: number, row: MountRow): void {
    const { position, mountPoint, mount, data, mountId, mountedAt } = row;
    this.#run(
      `UPDATE mount SET mount_point = ?, mount = ?, data = ?, mount_id = ?, mounted_at = ?
       WHERE activation = ? AND position = ?`,
      JSON.stringify(mountPoint),
      JSON.stringify(mount),
      JSON.stringify(data),
      mountId ?? null,
      mountedAt?.getTime() ?? null,
      id,
      position,
    );
  }

  /** Forgets mounts that are unmounted. */
  async removeMounts(id: number, positions: readonly number[]): Promise<void> {
    await this.write(() => {
      for (const position of positions) {
        this.#run("DELETE FROM mount WHERE activation = ? AND position = ?", id, position);
      }
    });
  }

  /**
   * Ends an activation well: from here on it is active, also after a loss of power.
   *
   * @param id the activation.
   * @param mounts its mounts, if they are not written down as they are mounted.
   * @param system what the caller mounts.
   * @param signal ends the wait for another process that is writing.
   */
  async finish(
    id: number,
    mounts: readonly MountRow[],
    system: readonly Mount[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.write(
      () => {
        for (const row of mounts) this.#updateMount(id, row);
        const sql = "UPDATE activation SET state = 'active', system = ? WHERE id = ?";
        this.#run(sql, JSON.stringify(system), id);
      },
      signal,
      true,
    );
  }

  /** Changes how far an activation is. */
  async setState(id: number, state: State): Promise<void> {
    await this.write(() => this.#setState(id, state));
  }

  #setState(id: number, state: State): void {
    this.#run("UPDATE activation SET state = ? WHERE id = ?", state, id);
  }

  /**
   * Looks an activation up again, and begins its end in the same transaction.
   *
   * @param row the activation.
   * @param isReady whether its state changes to "deactivating".
   * @returns the activation before the change; undefined if it is gone meanwhile.
   */
  async beginEnd({ id, name }: Row, isReady: (row: Row) => boolean): Promise<Row | undefined> {
    return await this.write(() => {
      const now = this.#find(name);
      if (now?.id !== id) return undefined;
      if (isReady(now)) this.#setState(id, "deactivating");
      return now;
    });
  }

  /** Changes the labels. Returns false if no activation has the name. */
  async setLabels(name: string, labels: Readonly<Record<string, string>>): Promise<boolean> {
    const sql = "UPDATE activation SET labels = ? WHERE name = ?";
    return await this.write(() => this.#run(sql, JSON.stringify(labels), name) > 0, undefined, true);
  }

  /** Forgets an activation. */
  async remove(id: number): Promise<void> {
    await this.write(() => this.#run("DELETE FROM activation WHERE id = ?", id));
  }

  /** Writes down what an activation makes or, if it is not `owned`, uses. */
  async addMade(id: number, made: Made, signal?: AbortSignal): Promise<void> {
    const { path, kind, isOwned, file } = made;
    await this.write(() =>
      this.#run(
        "INSERT OR REPLACE INTO made (activation, path, kind, owned, file) VALUES (?, ?, ?, ?, ?)",
        id,
        JSON.stringify(path),
        kind,
        isOwned ? 1 : 0,
        file ?? null,
      ), signal);
  }

  /** Forgets what was made. */
  async removeMade(id: number, path: string): Promise<void> {
    const sql = "DELETE FROM made WHERE activation = ? AND path = ?";
    await this.write(() => this.#run(sql, id, JSON.stringify(path)));
  }

  /**
   * Removes a file in one step with its record, unless another activation uses it.
   *
   * @param id the activation.
   * @param path the file.
   * @param unlink removes it.
   */
  async unlinkUnused(id: number, path: string, unlink: () => void): Promise<void> {
    await this.write(() => {
      const text = JSON.stringify(path);
      const others = this.#get("SELECT count(*) AS n FROM made WHERE path = ? AND activation != ?", text, id);
      this.#run("DELETE FROM made WHERE activation = ? AND path = ?", id, text);
      if (Number(others?.["n"]) === 0) unlink();
    });
  }

  #run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#prepare(sql).run(...values).changes);
  }

  /** Finds an activation by its name. */
  async find(name: string): Promise<Row | undefined> {
    return await this.#retrying(() => this.#transaction("BEGIN", () => this.#find(name)));
  }

  /** All activations, by name. */
  async all(): Promise<Row[]> {
    return await this.#retrying(() =>
      this.#transaction(
        "BEGIN",
        () => this.#prepare("SELECT * FROM activation ORDER BY name").all().map((found) => this.#row(found)),
      )
    );
  }

  #find(name: string): Row | undefined {
    const found = this.#get("SELECT * FROM activation WHERE name = ?", name);
    return found && this.#row(found);
  }

  #row(found: Record<string, unknown>): Row {
    const id = Number(found["id"]);
    return {
      id,
      name: String(found["name"]),
      state: String(found["state"]) as State,
      directory: String(found["directory"]),
      boot: String(found["boot"]),
      namespace: String(found["namespace"]),
      labels: JSON.parse(String(found["labels"])),
      system: JSON.parse(String(found["system"])),
      mounts: this.#prepare("SELECT * FROM mount WHERE activation = ? ORDER BY position").all(id).map(
        mountRow,
      ),
      made: this.#prepare("SELECT * FROM made WHERE activation = ? ORDER BY rowid").all(id).map(madeRow),
    };
  }
}

function mountRow(found: Record<string, unknown>): MountRow {
  const text = (key: string) => found[key] === null ? undefined : String(found[key]);
  const at = found["mounted_at"];
  return {
    position: Number(found["position"]),
    handler: text("handler"),
    mountPoint: JSON.parse(String(found["mount_point"])),
    mount: JSON.parse(String(found["mount"])),
    data: JSON.parse(String(found["data"])),
    mountId: text("mount_id"),
    mountedAt: at === null ? undefined : new Date(Number(at)),
  };
}

function madeRow(found: Record<string, unknown>): Made {
  return {
    kind: found["kind"] === "directory" ? "directory" : "file",
    path: JSON.parse(String(found["path"])),
    isOwned: Number(found["owned"]) === 1,
    file: found["file"] === null ? undefined : String(found["file"]),
  };
}
