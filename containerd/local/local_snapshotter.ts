/**
 * The snapshotter of this library: directories on this machine, and overlay mounts of them.
 *
 * @module
 */

import { shown } from "../../ffi/text.ts";
import { bootId } from "../../linux/manager/context.ts";
import { makeRootDirectory, refuseRootPath } from "../../linux/manager/root_directory.ts";
import { mountAll } from "../../linux/mount/mount.ts";
import { uniqueMountAt } from "../../linux/mountinfo/statx_mount.ts";
import { join } from "../../linux/path/path.ts";
import { checkWait, type WaitOptions } from "../../linux/path/wait.ts";
import type { Mount } from "../../linux/spec/mount.ts";
import {
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  STATX_BASIC_STATS,
} from "../../linux/syscalls/constants.ts";
import { chmod, fchownat, getdents64, mkdir, open, statx } from "../../linux/syscalls/mod.ts";
import { unmount } from "../../linux/unmount/unmount.ts";
import { unmountRecursive } from "../../linux/unmount/recursive.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { CallOptions } from "../connection.ts";
import { parentOfFilters, parseFilters } from "../filter.ts";
import { NameLocks } from "../locks.ts";
import {
  recordedLabels,
  refuseName,
  requireActive,
  requireChildless,
  requireFound,
  requireMountable,
} from "../rules.ts";
import type {
  CommitOptions,
  ListSnapshotsOptions,
  SnapshotChange,
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "../snapshotter.ts";
import { mountpointOf, type Place, placeOf } from "./in_use.ts";
import { bind, idMapsOf, isTooLong, type Layers, mountsOf } from "./layers.ts";
import { failed, makeDirectory, openDirectories, SNAPSHOTS, TRASH } from "./open.ts";
import type { Row, SnapshotRecord } from "./record.ts";
import { removeTree, usageOf } from "./tree.ts";

/** Which snapshots the snapshotter mounts itself, and gives as a bind of the mount. */
export type PrepareMode = "auto" | "always" | "never";

/** Where a snapshotter keeps its snapshots. */
export interface LocalSnapshotterOptions extends WaitOptions {
  /** The directory of the snapshots and their record, which is made if it does not exist; an absolute path. */
  readonly root: string;
  /**
   * Which snapshots it mounts itself: with "auto" those whose ids are mapped by labels, and those with more layers than
   * containerd can mount; with "always" all, with "never" none. "auto" if left out.
   */
  readonly prepare?: PrepareMode;
}

/** What the methods share. */
interface Parts {
  readonly root: string;
  readonly prepare: PrepareMode;
  readonly record: SnapshotRecord;
  readonly place: Place;
  readonly boot: string;
  /** Held while the snapshotter is open: the snapshots have one owner. */
  readonly lock: OwnedFd;
}

/**
 * Keeps snapshots in directories, with an SQLite record in which each step is written down before it is done. The mounts
 * are those of containerd's overlayfs snapshotter. Where ids are mapped by the labels `containerd.io/snapshot/uidmapping`
 * and `gidmapping`, it mounts the snapshot itself, with mapped layers that are attached nowhere, and gives a bind of it.
 *
 * Needs the permissions `ffi`, `read` and `write` for the root directory, and root; to mount itself, CAP_SYS_ADMIN in the
 * mount namespace of containerd.
 *
 * @example
 * ```ts
 * import { mountAll } from "@denomount/mount";
 * import { LocalSnapshotter } from "@denomount/mount/containerd";
 *
 * const root = await Deno.makeTempDir();
 * const target = await Deno.makeTempDir();
 * {
 *   await using snapshots = await LocalSnapshotter.open({ root });
 *   {
 *     await using _layer = await mountAll(await snapshots.prepare("making", ""), target);
 *     await Deno.writeTextFile(`${target}/file`, "in the layer");
 *   }
 *   await snapshots.commit("layer", "making");
 *   {
 *     await using _view = await mountAll(await snapshots.view("reading", "layer"), target);
 *     console.log(await Deno.readTextFile(`${target}/file`));
 *   }
 *   for (const key of ["reading", "layer"]) await snapshots.remove(key);
 * }
 * await Deno.remove(root, { recursive: true });
 * await Deno.remove(target);
 * ```
 */
export class LocalSnapshotter implements Snapshotter, AsyncDisposable {
  /** What {@linkcode open} could not put right after a crash; the snapshots that it concerns are tried again when used. */
  readonly problems: readonly Error[];
  readonly #parts: Parts;
  readonly #locks = new NameLocks();
  #isOpen = true;

  private constructor(parts: Parts, problems: Error[]) {
    this.#parts = parts;
    this.problems = problems;
  }

  /**
   * Opens a snapshotter, and puts right what a crash or a reboot has left: what was half made or half removed goes, and
   * what it had mounted itself is mounted again.
   *
   * @param options where the snapshots are.
   * @returns the snapshotter. Closing it leaves its mounts as they are.
   * @throws {TypeError} for a root directory that other users can write to, or whose path an overlay's options can't hold.
   * @throws {FailedPreconditionError} if another process has it open, or the record of existing snapshots is missing.
   * @throws {RecordError} if the record is damaged, of a newer version, or can't be written.
   */
  static async open(
    { root, prepare = "auto", timeout, signal }: LocalSnapshotterOptions,
  ): Promise<LocalSnapshotter> {
    const wait = { timeout, signal };
    checkWait(wait);
    if (!["auto", "always", "never"].includes(prepare)) {
      throw new TypeError(`prepare is auto, always or never, not ${shown(prepare)}`);
    }
    refuseRootPath(root, "the snapshotter");
    const canonical = await makeRootDirectory(root, "the snapshotter", wait);
    await using stack = new AsyncDisposableStack();
    const { lock, record } = await openDirectories(canonical, stack);
    const place = await placeOf(canonical);
    const problems: Error[] = [];
    const snapshotter = new LocalSnapshotter(
      { root: canonical, prepare, record, place, boot: bootId(), lock },
      problems,
    );
    await snapshotter.#recover(problems);
    stack.move();
    return snapshotter;
  }

  async #recover(problems: Error[]): Promise<void> {
    const { record } = this.#parts;
    const attempt = async (work: () => Promise<unknown>) => {
      try {
        await work();
      } catch (error) {
        problems.push(error instanceof Error ? error : new Error(String(error)));
      }
    };
    for (const id of await record.begun()) await attempt(() => this.#undo(id));
    for (const id of await record.trash()) await attempt(() => this.#deleteTrash(id));
    for (const row of await record.all()) if (row.isMounted) await attempt(() => this.#ensureMounted(row));
  }

  /** See {@linkcode Snapshotter}. */
  prepare(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    return this.#make("active", key, parent, options);
  }

  /** See {@linkcode Snapshotter}. */
  view(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    return this.#make("view", key, parent, options);
  }

  async #make(
    kind: "active" | "view",
    key: string,
    parent: string,
    { labels = {}, signal }: SnapshotOptions,
  ): Promise<Mount[]> {
    const action = `${kind === "view" ? "view" : "prepare"} ${shown(key)}`;
    refuseName(key, action);
    const recorded = recordedLabels(labels, action);
    idMapsOf(recorded, action);
    return await this.#run(key, async () => {
      const { record } = this.#parts;
      const id = await record.begin({ name: key, parent, kind, labels: recorded }, action);
      await using failing = new AsyncDisposableStack();
      failing.defer(() => this.#undo(id));
      const row = { id, kind, labels: recorded, isMounted: false, mount: undefined };
      const mounts = await this.#makeDirectories(row, action);
      const isMounted = this.#isOurs(mounts);
      if (isMounted) await this.#mountRoot(row, mounts, signal);
      signal?.throwIfAborted();
      await record.finish(id);
      failing.move();
      return isMounted ? [bind(this.#path(id, ROOT), kind)] : mounts;
    });
  }

  /** Makes the directories of a snapshot, as containerd's overlayfs snapshotter does; returns its mounts. */
  async #makeDirectories(row: RowOfMounts, action: string): Promise<Mount[]> {
    const { id, kind, labels } = row;
    const maps = idMapsOf(labels, action);
    const layers = await this.#layers(id);
    mkdir(this.#path(id), 0o700);
    mkdir(layers.upper, 0o755);
    chmod(layers.upper, 0o755); // the umask has cleared bits
    if (kind === "active") mkdir(layers.work, 0o711);
    const [nearest] = layers.lower;
    const owner = maps ??
      (nearest === undefined ? undefined : statx(AT_FDCWD, nearest, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS));
    if (owner !== undefined) fchownat(AT_FDCWD, layers.upper, owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW);
    return mountsOf(row, layers, maps);
  }

  #isOurs(mounts: readonly Mount[]): boolean {
    const { prepare, root } = this.#parts;
    if (prepare !== "auto") return prepare === "always";
    const isMapped = mounts.some(({ options = [] }) =>
      options.some((option) => option.startsWith("uidmap="))
    );
    return isMapped || isTooLong(mounts, `${join(root, SNAPSHOTS)}/`);
  }

  async #layers(id: number): Promise<Layers> {
    const parents = await this.#parts.record.parents(id);
    return {
      upper: this.#path(id, UPPER),
      work: this.#path(id, WORK),
      lower: parents.map((parent) => this.#path(parent, UPPER)),
    };
  }

  async #mountRoot({ id }: RowOfMounts, mounts: readonly Mount[], signal?: AbortSignal): Promise<void> {
    const { record, boot } = this.#parts;
    const root = this.#path(id, ROOT);
    await record.setMount(id, undefined);
    makeDirectory(root);
    await mountAll(mounts, root, { signal }); // it stays, without its handle
    await record.setMount(id, `${boot} ${mountIdOf(root)}`);
  }

  /** Mounts the root of a snapshot again if a reboot, or another process, has unmounted it. */
  async #ensureMounted(row: Row, signal?: AbortSignal): Promise<void> {
    const root = this.#path(row.id, ROOT);
    if (this.#isMountedAt(row)) return;
    await unmountRecursive(root, { noFollow: true }); // what a crash has left before its id was recorded
    const mounts = mountsOf(
      row,
      await this.#layers(row.id),
      idMapsOf(row.labels, `mount ${shown(row.name)}`),
    );
    await this.#mountRoot(row, mounts, signal);
  }

  #isMountedAt({ id, mount }: RowOfMounts): boolean {
    const found = mountIdOf(this.#path(id, ROOT));
    return found !== undefined && mount === `${this.#parts.boot} ${found}`;
  }

  /** See {@linkcode Snapshotter}. */
  async mounts(key: string, { signal }: CallOptions = {}): Promise<Mount[]> {
    const action = `get the mounts of ${shown(key)}`;
    return await this.#run(key, async () => {
      const row = await this.#find(key, action);
      requireMountable(row, key, action);
      if (row.isMounted) {
        await this.#ensureMounted(row, signal);
        return [bind(this.#path(row.id, ROOT), row.kind)];
      }
      return mountsOf(row, await this.#layers(row.id), idMapsOf(row.labels, action));
    });
  }

  /** See {@linkcode Snapshotter}. */
  async commit(name: string, key: string, options: CommitOptions = {}): Promise<void> {
    const { labels = {}, parent = "", signal } = options;
    const action = `commit ${shown(key)}`;
    refuseName(name, action);
    const recorded = recordedLabels(labels, action);
    await this.#run(key, async () => {
      const row = await this.#find(key, action);
      requireActive(row, key, action);
      const usage = await usageOf(this.#path(row.id, UPPER), signal);
      await this.#unmountRoot(row, action); // a layer of others must not be written to
      await this.#parts.record.commit(name, key, { labels: recorded, usage, parent }, action);
    });
  }

  /** See {@linkcode Snapshotter}. What another process has mounted of it is not deleted. */
  async remove(key: string): Promise<void> {
    const action = `remove ${shown(key)}`;
    await this.#run(key, async () => {
      const { record, place } = this.#parts;
      const row = await this.#find(key, action);
      requireChildless(await record.childOf(row.id), action);
      await this.#unmountRoot(row, action);
      const inside = `/${SNAPSHOTS}/${row.id}`;
      const used = await mountpointOf(this.#path(row.id), { ...place, path: `${place.path}${inside}` });
      if (used !== undefined) throw failed(action, `remove its mount first, at ${shown(used)}`);
      const id = await record.remove(key, action);
      try {
        await this.#deleteTrash(id);
      } catch (error) {
        // The snapshot is gone, and its key is free: the call has succeeded.
        console.warn(`files of the removed snapshot ${shown(key)} stay until cleanup(): ${messageOf(error)}`);
      }
    });
  }

  /** Unmounts what this snapshotter has mounted, and only that. */
  async #unmountRoot(row: Row, action: string): Promise<void> {
    if (!row.isMounted) return;
    const root = this.#path(row.id, ROOT);
    if (mountIdOf(root) === undefined) return;
    if (!this.#isMountedAt(row)) {
      throw failed(action, `another process has mounted something at ${shown(root)}: unmount it first`);
    }
    await unmount(root, { noFollow: true });
  }

  /** Undoes a snapshot that is not finished. */
  async #undo(id: number): Promise<void> {
    await unmountRecursive(this.#path(id, ROOT), { noFollow: true });
    await this.#parts.record.discard(id);
    await this.#deleteTrash(id);
  }

  /** Deletes the directory of a snapshot that is recorded as removed. */
  async #deleteTrash(id: number): Promise<void> {
    const { root, record } = this.#parts;
    const trash = join(root, TRASH);
    try {
      Deno.renameSync(this.#path(id), join(trash, String(id)));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it was renamed, or never made
    }
    using parent = open(trash, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (getdents64(parent.fd).includes(String(id))) await removeTree(parent, String(id));
    await record.removeTrash(id);
  }

  /** See {@linkcode Snapshotter}. */
  async stat(key: string): Promise<SnapshotInfo> {
    return toInfo(await this.#find(key, `stat ${shown(key)}`));
  }

  /** See {@linkcode Snapshotter}. */
  async update(name: string, change: SnapshotChange): Promise<SnapshotInfo> {
    this.#requireOpen();
    return toInfo(await this.#parts.record.update(name, change, `update ${shown(name)}`));
  }

  /** See {@linkcode Snapshotter}. */
  async *list({ filters = [] }: ListSnapshotsOptions = {}): AsyncGenerator<SnapshotInfo, void, void> {
    this.#requireOpen();
    const isWanted = parseFilters(filters);
    for (const row of await this.#parts.record.all(parentOfFilters(filters))) {
      const info = toInfo(row);
      if (isWanted(info)) yield info;
    }
  }

  /** See {@linkcode Snapshotter}. */
  async usage(key: string, { signal }: CallOptions = {}): Promise<SnapshotUsage> {
    const row = await this.#find(key, `get the usage of ${shown(key)}`);
    return row.kind === "active" ? await usageOf(this.#path(row.id, UPPER), signal) : row.usage;
  }

  /** See {@linkcode Snapshotter}. */
  async cleanup(): Promise<void> {
    this.#requireOpen();
    const errors: unknown[] = [];
    for (const id of await this.#parts.record.trash()) {
      try {
        await this.#deleteTrash(id);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) {
      throw new AggregateError(
        errors,
        `not everything could be deleted: ${errors.map(messageOf).join("; ")}`,
      );
    }
  }

  async #find(key: string, action: string): Promise<Row> {
    this.#requireOpen();
    return requireFound(await this.#parts.record.find(key), key, action);
  }

  #path(id: number, name = ""): string {
    return join(this.#parts.root, SNAPSHOTS, String(id), name);
  }

  async #run<T>(key: string, work: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    return await this.#locks.run([key], work);
  }

  #requireOpen(): void {
    if (!this.#isOpen) throw new TypeError("the snapshotter is closed");
  }

  /** Waits for its calls and closes the record. What it has mounted stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#locks.idle();
    this.#parts.record[Symbol.dispose]();
    this.#parts.lock.close();
  }
}

// The directories of a snapshot.
const UPPER = "fs";
const WORK = "work";
const ROOT = "root";

type RowOfMounts = Pick<Row, "id" | "kind" | "labels" | "isMounted" | "mount">;

function toInfo({ name, parent, kind, createdAt, updatedAt, labels }: Row): SnapshotInfo {
  return { name, parent, kind, createdAt, updatedAt, labels };
}

const messageOf = (error: unknown) => error instanceof Error ? error.message : String(error);

const mountIdOf = (path: string) => uniqueMountAt(path, AT_SYMLINK_NOFOLLOW)?.mountId;
