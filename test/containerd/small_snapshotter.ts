/**
 * The smallest snapshotter that serves: it keeps records only, holds none of containerd's rules, and notes each call.
 *
 * @module
 */

import type {
  Mount,
  SnapshotChange,
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
} from "../../containerd/mod.ts";

/** What a snapshotter throws for a snapshot that it doesn't have. */
class NotFound extends Error {
  override readonly name = "NotFoundError";
}

/** A snapshotter without rules. */
export class SmallSnapshotter implements Snapshotter {
  /** The records, in the order made. */
  readonly infos = new Map<string, SnapshotInfo>();
  /** The calls that have reached it, as "begin prepare a" and "end prepare a". */
  readonly calls: string[] = [];
  /** How many snapshots it has listed. */
  listed = 0;
  /** Awaited in each call that changes something. */
  pause: (call: string, signal?: AbortSignal) => Promise<unknown> = () => Promise.resolve();

  async #note<T>(call: string, work: () => T, signal?: AbortSignal): Promise<T> {
    this.calls.push(`begin ${call}`);
    await this.pause(call, signal);
    const value = work();
    this.calls.push(`end ${call}`);
    return value;
  }

  #make(kind: "active" | "view", key: string, parent: string, { labels = {}, signal }: SnapshotOptions) {
    return this.#note(`${kind} ${key}`, () => {
      const now = new Date();
      this.infos.set(key, { name: key, parent, kind, labels: { ...labels }, createdAt: now, updatedAt: now });
      return [{ type: "bind", source: `/${key}`, options: ["rbind"] }];
    }, signal ?? undefined);
  }

  prepare(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    return this.#make("active", key, parent, options);
  }

  view(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    return this.#make("view", key, parent, options);
  }

  mounts(key: string): Promise<Mount[]> {
    return this.#note(`mounts ${key}`, () => [{ type: "bind", source: `/${key}` }]);
  }

  async commit(
    name: string,
    key: string,
    { labels = {}, parent = "" }: SnapshotOptions & { parent?: string } = {},
  ) {
    await this.#note(`commit ${key}`, () => {
      const info = this.#get(key);
      this.infos.delete(key);
      this.infos.set(name, { ...info, name, parent, kind: "committed", labels: { ...labels } });
    });
  }

  async remove(key: string): Promise<void> {
    await this.#note(`remove ${key}`, () => this.infos.delete(key));
  }

  #get(key: string): SnapshotInfo {
    const info = this.infos.get(key);
    if (info === undefined) throw new NotFound(`no ${key}`);
    return info;
  }

  async stat(key: string): Promise<SnapshotInfo> {
    return await Promise.resolve().then(() => this.#get(key));
  }

  async update(name: string, { labels }: SnapshotChange): Promise<SnapshotInfo> {
    await this.#note(`update ${name}`, () => this.#get(name).labels = { ...labels });
    return this.#get(name);
  }

  async *list(): AsyncGenerator<SnapshotInfo> {
    for (const info of this.infos.values()) {
      this.listed++;
      yield info;
    }
  }

  usage(): Promise<{ size: number; inodes: number }> {
    return Promise.resolve({ size: 2 ** 40, inodes: 7 });
  }

  async cleanup(): Promise<void> {
    await this.#note("cleanup", () => {});
  }
}
