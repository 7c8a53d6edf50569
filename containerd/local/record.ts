/**
 * The record of a snapshotter: an SQLite database that holds every step before it is done.
 *
 * @module
 */

import {
  changedLabels,
  parentAtCommit,
  requireActive,
  requireChildless,
  requireFound,
  requireFree,
  requireParent,
} from "../rules.ts";
import type { SnapshotChange, SnapshotInfo, SnapshotUsage } from "../snapshotter.ts";
import { RecordDatabase, type RecordFormat } from "../../linux/manager/database.ts";

/** A snapshot as it is recorded. */
export interface Row extends SnapshotInfo {
  /** The number of the snapshot and of its directory, which no other one ever has. */
  readonly id: number;
  /** What a committed snapshot takes on the disk. */
  readonly usage: SnapshotUsage;
  /** Whether its root is mounted by the snapshotter. */
  readonly isMounted: boolean;
  /** The kernel's id of that mount and the boot that it is of; undefined if it is not mounted yet. */
  readonly mount: string | undefined;
}

/** A snapshot that is begun. */
export type NewRow = Pick<Row, "name" | "parent" | "kind" | "labels">;

const SCHEMA = `
  CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshot (id),
    kind TEXT NOT NULL,
    ready INTEGER NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    inodes INTEGER NOT NULL DEFAULT 0,
    mounted INTEGER NOT NULL DEFAULT 0,
    mount TEXT
  ) STRICT;
  CREATE INDEX snapshot_parent ON snapshot (parent);
  CREATE TABLE trash (id INTEGER PRIMARY KEY) STRICT;
`;

const FORMAT: RecordFormat = { application: 0x646e736e, /* "dnsn" */ version: 1, schema: SCHEMA };

const SELECT = `SELECT snapshot.*, coalesce(parent.name, '') AS parent_name
  FROM snapshot LEFT JOIN snapshot AS parent ON parent.id = snapshot.parent`;

/** The record of the snapshots. */
export class SnapshotRecord implements Disposable {
  readonly #db: RecordDatabase;

  private constructor(db: RecordDatabase) {
    this.#db = db;
  }

  /**
   * Opens the record, and makes it if it does not exist.
   *
   * @param path the database's file.
   * @returns the record.
   * @throws {RecordError} if it is damaged, of a newer version or another program's, or can't be written.
   */
  static async open(path: string): Promise<SnapshotRecord> {
    return new SnapshotRecord(await RecordDatabase.open(path, FORMAT));
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#db[Symbol.dispose]();
  }

  /**
   * Begins a snapshot, which no other call sees before {@linkcode finish}.
   *
   * @param row the snapshot.
   * @param action what the call is to do, for its errors.
   * @returns its number.
   */
  async begin({ name, parent, kind, labels }: NewRow, action: string): Promise<number> {
    const now = Date.now();
    return await this.#db.write(() => {
      const below = parent === "" ? undefined : this.#find(parent);
      if (parent !== "") requireParent(below, parent, action);
      requireFree(this.#db.get("SELECT id FROM snapshot WHERE name = ?", name), name, action);
      const { id } = this.#db.get(
        `INSERT INTO snapshot (name, parent, kind, ready, labels, created_at, updated_at)
         VALUES (?, ?, ?, 0, ?, ?, ?) RETURNING id`,
        name,
        below?.id ?? null,
        kind,
        JSON.stringify(labels),
        now,
        now,
      ) ?? {};
      return Number(id);
    });
  }

  /** Makes a begun snapshot visible, also after a loss of power. */
  async finish(id: number): Promise<void> {
    const now = Date.now();
    const sql = "UPDATE snapshot SET ready = 1, created_at = ?, updated_at = ? WHERE id = ?";
    await this.#db.write(() => this.#db.run(sql, now, now, id), undefined, true);
  }

  /** Writes down that the snapshotter mounts a snapshot's root: undefined before it does. */
  async setMount(id: number, mount: string | undefined): Promise<void> {
    const sql = "UPDATE snapshot SET mounted = 1, mount = ? WHERE id = ?";
    await this.#db.write(() => this.#db.run(sql, mount ?? null, id));
  }

  /**
   * Commits a snapshot.
   *
   * @param name its name from now on.
   * @param key its key.
   * @param change its labels, what it takes on the disk, and its parent if it was made without one.
   * @param action what the call is to do, for its errors.
   */
  async commit(
    name: string,
    key: string,
    { labels, usage, parent }: { labels: Record<string, string>; usage: SnapshotUsage; parent: string },
    action: string,
  ): Promise<void> {
    const now = Date.now();
    await this.#db.write(
      () => {
        const row = requireFound(this.#find(key), key, action);
        requireActive(row, key, action);
        requireFree(this.#db.get("SELECT id FROM snapshot WHERE name = ?", name), name, action);
        const chosen = parentAtCommit(row.parent, parent, action);
        const below = chosen === "" ? undefined : this.#find(chosen);
        if (chosen !== "") requireParent(below, chosen, action);
        this.#db.run(
          `UPDATE snapshot SET name = ?, kind = 'committed', labels = ?, created_at = ?, updated_at = ?, size = ?,
           inodes = ?, parent = ?, mounted = 0, mount = NULL WHERE id = ?`,
          name,
          JSON.stringify(labels),
          now,
          now,
          usage.size,
          usage.inodes,
          below?.id ?? null,
          row.id,
        );
      },
      undefined,
      true,
    );
  }

  /** Changes labels. Returns the snapshot as it is then. */
  async update(name: string, change: SnapshotChange, action: string): Promise<Row> {
    return await this.#db.write(
      () => {
        const row = requireFound(this.#find(name), name, action);
        const labels = changedLabels(row.labels, change, action);
        const sql = "UPDATE snapshot SET labels = ?, updated_at = ? WHERE id = ?";
        this.#db.run(sql, JSON.stringify(labels), Date.now(), row.id);
        return requireFound(this.#find(name), name, action);
      },
      undefined,
      true,
    );
  }

  /**
   * Forgets a snapshot, and writes down that its directory is to be deleted.
   *
   * @param key its key or name.
   * @param action what the call is to do, for its errors.
   * @returns its number.
   */
  async remove(key: string, action: string): Promise<number> {
    return await this.#db.write(
      () => {
        const { id } = requireFound(this.#find(key), key, action);
        requireChildless(this.#childOf(id), action);
        this.#discard(id);
        return id;
      },
      undefined,
      true,
    );
  }

  /** Forgets a snapshot that was begun and could not be finished. */
  async discard(id: number): Promise<void> {
    await this.#db.write(() => this.#discard(id));
  }

  #discard(id: number): void {
    this.#db.run("DELETE FROM snapshot WHERE id = ?", id);
    this.#db.run("INSERT INTO trash (id) VALUES (?)", id);
  }

  /** The name of a snapshot that is made on another, also of one that is just begun. */
  async childOf(id: number): Promise<string | undefined> {
    return await this.#db.read(() => this.#childOf(id));
  }

  #childOf(id: number): string | undefined {
    const found = this.#db.get("SELECT name FROM snapshot WHERE parent = ? LIMIT 1", id);
    return found && String(found["name"]);
  }

  /** The numbers of the directories that are to be deleted. */
  async trash(): Promise<number[]> {
    return await this.#db.read(() =>
      this.#db.all("SELECT id FROM trash ORDER BY id").map(({ id }) => Number(id))
    );
  }

  /** Forgets a directory that is deleted. */
  async removeTrash(id: number): Promise<void> {
    await this.#db.write(() => this.#db.run("DELETE FROM trash WHERE id = ?", id));
  }

  /** Looks up a snapshot by its key or name. */
  async find(name: string): Promise<Row | undefined> {
    return await this.#db.read(() => this.#find(name));
  }

  /** The numbers of the snapshots that one is made on, the nearest first. */
  async parents(id: number): Promise<number[]> {
    const sql = `WITH RECURSIVE chain (id, parent, depth) AS (
        SELECT id, parent, 0 FROM snapshot WHERE id = ?
        UNION ALL SELECT below.id, below.parent, depth + 1 FROM snapshot AS below JOIN chain ON below.id = chain.parent
      ) SELECT id FROM chain WHERE depth > 0 ORDER BY depth`;
    return await this.#db.read(() => this.#db.all(sql, id).map((found) => Number(found["id"])));
  }

  /** All snapshots by name; with a parent, those that are made on it. */
  async all(parent?: string): Promise<Row[]> {
    return await this.#db.read(() =>
      (parent === undefined
        ? this.#db.all(`${SELECT} WHERE snapshot.ready = 1 ORDER BY snapshot.name`)
        : this.#db.all(
          `${SELECT} WHERE snapshot.ready = 1 AND parent.name = ? ORDER BY snapshot.name`,
          parent,
        ))
        .map(toRow)
    );
  }

  /** The snapshots that a crash has left half made. */
  async begun(): Promise<number[]> {
    return await this.#db.read(() =>
      this.#db.all("SELECT id FROM snapshot WHERE ready = 0 ORDER BY id").map(({ id }) => Number(id))
    );
  }

  /** Whether no snapshot was ever recorded. */
  async isNew(): Promise<boolean> {
    return await this.#db.read(() => this.#db.get("SELECT seq FROM sqlite_sequence") === undefined);
  }

  #find(name: string): Row | undefined {
    const found = this.#db.get(`${SELECT} WHERE snapshot.ready = 1 AND snapshot.name = ?`, name);
    return found && toRow(found);
  }
}

function toRow(found: Record<string, unknown>): Row {
  return {
    id: Number(found["id"]),
    name: String(found["name"]),
    parent: String(found["parent_name"]),
    kind: String(found["kind"]) as Row["kind"],
    labels: JSON.parse(String(found["labels"])),
    createdAt: new Date(Number(found["created_at"])),
    updatedAt: new Date(Number(found["updated_at"])),
    usage: { size: Number(found["size"]), inodes: Number(found["inodes"]) },
    isMounted: Number(found["mounted"]) === 1,
    mount: found["mount"] === null ? undefined : String(found["mount"]),
  };
}
