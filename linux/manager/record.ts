/**
 * The record of a manager: an SQLite database that holds every step before it is done.
 *
 * @module
 */

import type { Mount } from "../spec/mount.ts";
import { RecordDatabase, type RecordFormat } from "./database.ts";
import type { Made } from "./made.ts";

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

const SCHEMA = `
  CREATE TABLE activation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    directory TEXT NOT NULL,
    boot TEXT NOT NULL,
    namespace TEXT NOT NULL,
    labels TEXT NOT NULL,
    system TEXT NOT NULL
  ) STRICT;
  CREATE TABLE mount (
    activation INTEGER NOT NULL REFERENCES activation (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    handler TEXT,
    mount_point TEXT NOT NULL,
    mount TEXT NOT NULL,
    data TEXT NOT NULL,
    mount_id TEXT,
    mounted_at INTEGER,
    PRIMARY KEY (activation, position)
  ) STRICT;
  CREATE TABLE made (
    activation INTEGER NOT NULL REFERENCES activation (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    kind TEXT NOT NULL,
    owned INTEGER NOT NULL,
    file TEXT,
    PRIMARY KEY (activation, path)
  ) STRICT;
`;

const FORMAT: RecordFormat = { application: 0x646e6d74, /* "dnmt" */ version: 1, schema: SCHEMA };

/** The record of the activations. */
export class ActivationRecord implements Disposable {
  readonly #db: RecordDatabase;

  private constructor(db: RecordDatabase) {
    this.#db = db;
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
    return new ActivationRecord(await RecordDatabase.open(path, FORMAT, signal));
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#db[Symbol.dispose]();
  }

  /**
   * Begins an activation, unless another one has its name.
   *
   * @param row the activation.
   * @param signal ends the wait for another process that is writing.
   * @returns its number; or the activation that has the name. One that is lost is replaced, and returned as well.
   */
  async begin(row: NewRow, signal?: AbortSignal): Promise<{ id?: number; existing?: Row }> {
    return await this.#db.write(() => {
      const existing = this.#find(row.name);
      if (existing !== undefined && existing.state !== "lost") return { existing };
      if (existing !== undefined) this.#db.run("DELETE FROM activation WHERE id = ?", existing.id);
      return { id: this.#insert(row), ...existing === undefined ? {} : { existing } };
    }, signal);
  }

  #insert(row: NewRow): number {
    const { name, directory, boot, namespace, labels, mounts } = row;
    const { id } = this.#db.get(
      `INSERT INTO activation (name, state, directory, boot, namespace, labels, system)
       VALUES (?, 'activating', ?, ?, ?, ?, '[]') RETURNING id`,
      name,
      directory,
      boot,
      namespace,
      JSON.stringify(labels),
    ) ?? {};
    for (const mount of mounts) {
      this.#db.run(
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
    await this.#db.write(() => this.#updateMount(id, row), signal);
  }

  #updateMount(id: number, row: MountRow): void {
    const { position, mountPoint, mount, data, mountId, mountedAt } = row;
    this.#db.run(
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
    await this.#db.write(() => {
      for (const position of positions) {
        this.#db.run("DELETE FROM mount WHERE activation = ? AND position = ?", id, position);
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
    await this.#db.write(
      () => {
        for (const row of mounts) this.#updateMount(id, row);
        const sql = "UPDATE activation SET state = 'active', system = ? WHERE id = ?";
        this.#db.run(sql, JSON.stringify(system), id);
      },
      signal,
      true,
    );
  }

  /** Changes how far an activation is. */
  async setState(id: number, state: State): Promise<void> {
    await this.#db.write(() => this.#setState(id, state));
  }

  #setState(id: number, state: State): void {
    this.#db.run("UPDATE activation SET state = ? WHERE id = ?", state, id);
  }

  /**
   * Looks an activation up again, and begins its end in the same transaction.
   *
   * @param row the activation.
   * @param isReady whether its state changes to "deactivating".
   * @returns the activation before the change; undefined if it is gone meanwhile.
   */
  async beginEnd({ id, name }: Row, isReady: (row: Row) => boolean): Promise<Row | undefined> {
    return await this.#db.write(() => {
      const now = this.#find(name);
      if (now?.id !== id) return undefined;
      if (isReady(now)) this.#setState(id, "deactivating");
      return now;
    });
  }

  /** Changes the labels. Returns false if no activation has the name. */
  async setLabels(name: string, labels: Readonly<Record<string, string>>): Promise<boolean> {
    const sql = "UPDATE activation SET labels = ? WHERE name = ?";
    return await this.#db.write(() => this.#db.run(sql, JSON.stringify(labels), name) > 0, undefined, true);
  }

  /** Forgets an activation. */
  async remove(id: number): Promise<void> {
    await this.#db.write(() => this.#db.run("DELETE FROM activation WHERE id = ?", id));
  }

  /** Writes down what an activation makes or, if it is not `owned`, uses. */
  async addMade(id: number, made: Made, signal?: AbortSignal): Promise<void> {
    const { path, kind, isOwned, file } = made;
    await this.#db.write(() =>
      this.#db.run(
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
    await this.#db.write(() => this.#db.run(sql, id, JSON.stringify(path)));
  }

  /**
   * Removes a file in one step with its record, unless another activation uses it.
   *
   * @param id the activation.
   * @param path the file.
   * @param unlink removes it.
   */
  async unlinkUnused(id: number, path: string, unlink: () => void): Promise<void> {
    await this.#db.write(() => {
      const text = JSON.stringify(path);
      const others = this.#db.get(
        "SELECT count(*) AS n FROM made WHERE path = ? AND activation != ?",
        text,
        id,
      );
      this.#db.run("DELETE FROM made WHERE activation = ? AND path = ?", id, text);
      if (Number(others?.["n"]) === 0) unlink();
    });
  }

  /** Finds an activation by its name. */
  async find(name: string): Promise<Row | undefined> {
    return await this.#db.read(() => this.#find(name));
  }

  /** All activations, by name. */
  async all(): Promise<Row[]> {
    return await this.#db.read(() =>
      this.#db.all("SELECT * FROM activation ORDER BY name").map((found) => this.#row(found))
    );
  }

  #find(name: string): Row | undefined {
    const found = this.#db.get("SELECT * FROM activation WHERE name = ?", name);
    return found && this.#row(found);
  }

  #row(found: Record<string, unknown>): Row {
    const id = Number(found["id"]);
    const rows = (table: string, order: string) =>
      this.#db.all(`SELECT * FROM ${table} WHERE activation = ? ORDER BY ${order}`, id);
    return {
      id,
      name: String(found["name"]),
      state: String(found["state"]) as State,
      directory: String(found["directory"]),
      boot: String(found["boot"]),
      namespace: String(found["namespace"]),
      labels: JSON.parse(String(found["labels"])),
      system: JSON.parse(String(found["system"])),
      mounts: rows("mount", "position").map(mountRow),
      made: rows("made", "rowid").map(madeRow),
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
