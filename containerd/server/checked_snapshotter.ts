/**
 * A snapshotter that holds containerd's rules.
 *
 * @module
 */

import { childrenFilter, parseFilters } from "../filter.ts";
import {
  changedLabels,
  parentAtCommit,
  recordedLabels,
  refuseName,
  requireActive,
  requireChildless,
  requireFound,
  requireFree,
  requireMountable,
  requireParent,
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
import type { CallOptions } from "../connection.ts";
import { shown } from "../../ffi/text.ts";
import type { Mount } from "../../linux/spec/mount.ts";
import { NameLocks } from "../locks.ts";

/** Checks each call by containerd's rules, and lets those on one name run one after the other. */
export class CheckedSnapshotter implements Snapshotter {
  readonly #inner: Snapshotter;
  readonly #locks = new NameLocks();

  /**
   * Wraps a snapshotter.
   *
   * @param inner the snapshotter.
   */
  constructor(inner: Snapshotter) {
    this.#inner = inner;
  }

  /** See {@linkcode Snapshotter}. */
  prepare(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    return this.#make("prepare", key, parent, options);
  }

  /** See {@linkcode Snapshotter}. */
  view(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    return this.#make("view", key, parent, options);
  }

  async #make(
    method: "prepare" | "view",
    key: string,
    parent: string,
    { labels = {}, ...options }: SnapshotOptions,
  ): Promise<Mount[]> {
    const action = `${method} ${shown(key)}`;
    refuseName(key, action);
    const recorded = recordedLabels(labels, action);
    return await this.#run([key, ...parent === "" ? [] : [parent]], options, async () => {
      if (parent !== "") requireParent(await this.#find(parent, options), parent, action);
      requireFree(await this.#find(key, options), key, action);
      return await this.#inner[method](key, parent, { ...options, labels: recorded });
    });
  }

  /** See {@linkcode Snapshotter}. */
  async mounts(key: string, options: CallOptions = {}): Promise<Mount[]> {
    const action = `get the mounts of ${shown(key)}`;
    return await this.#run([key], options, async () => {
      requireMountable(requireFound(await this.#find(key, options), key, action), key, action);
      return await this.#inner.mounts(key, options);
    });
  }

  /** See {@linkcode Snapshotter}. */
  async commit(name: string, key: string, options: CommitOptions = {}): Promise<void> {
    const { labels = {}, parent = "", ...rest } = options;
    const action = `commit ${shown(key)}`;
    refuseName(name, action);
    const recorded = recordedLabels(labels, action);
    await this.#run([key, name, ...parent === "" ? [] : [parent]], rest, async () => {
      const info = requireFound(await this.#find(key, rest), key, action);
      requireActive(info, key, action);
      requireFree(await this.#find(name, rest), name, action);
      const chosen = parentAtCommit(info.parent, parent, action);
      if (chosen !== info.parent) requireParent(await this.#find(chosen, rest), chosen, action);
      await this.#inner.commit(name, key, { ...rest, labels: recorded, parent: chosen });
    });
  }

  /** See {@linkcode Snapshotter}. */
  async remove(key: string, options: CallOptions = {}): Promise<void> {
    const action = `remove ${shown(key)}`;
    await this.#run([key], options, async () => {
      requireFound(await this.#find(key, options), key, action);
      requireChildless(await this.#childOf(key, options), action);
      await this.#inner.remove(key, options);
    });
  }

  async #childOf(parent: string, options: CallOptions): Promise<string | undefined> {
    const filters = [childrenFilter(parent)];
    for await (const info of this.#inner.list({ ...options, filters })) {
      if (info.parent === parent) return info.name; // the snapshotter need not know filters
    }
    return undefined;
  }

  /** See {@linkcode Snapshotter}. */
  async stat(key: string, options: CallOptions = {}): Promise<SnapshotInfo> {
    const action = `stat ${shown(key)}`;
    return requireFound(await this.#find(key, options), key, action);
  }

  /** See {@linkcode Snapshotter}. */
  async update(name: string, change: SnapshotChange, options: CallOptions = {}): Promise<SnapshotInfo> {
    const action = `update ${shown(name)}`;
    return await this.#run([name], options, async () => {
      const info = requireFound(await this.#find(name, options), name, action);
      const labels = changedLabels(info.labels, change, action);
      return await this.#inner.update(name, { labels, paths: ["labels"] }, options);
    });
  }

  /** See {@linkcode Snapshotter}. */
  async *list(options: ListSnapshotsOptions = {}): AsyncGenerator<SnapshotInfo, void, void> {
    const isWanted = parseFilters(options.filters ?? []);
    for await (const info of this.#inner.list(options)) if (isWanted(info)) yield info;
  }

  /** See {@linkcode Snapshotter}. */
  async usage(key: string, options: CallOptions = {}): Promise<SnapshotUsage> {
    const action = `get the usage of ${shown(key)}`;
    return await this.#run([key], options, async () => {
      requireFound(await this.#find(key, options), key, action);
      return await this.#inner.usage(key, options);
    });
  }

  /** See {@linkcode Snapshotter}. */
  async cleanup(options: CallOptions = {}): Promise<void> {
    await this.#inner.cleanup(options);
  }

  async #run<T>(names: string[], { signal }: CallOptions, work: () => Promise<T>): Promise<T> {
    return await this.#locks.run(names, () => {
      signal?.throwIfAborted();
      return work();
    });
  }

  /** Undefined if the snapshotter says that it doesn't have the snapshot. */
  async #find(name: string, options: CallOptions): Promise<SnapshotInfo | undefined> {
    try {
      return await this.#inner.stat(name, options);
    } catch (error) {
      if (error instanceof Error && error.name === "NotFoundError") return undefined;
      throw error;
    }
  }
}
