/**
 * The client of containerd's Snapshots service.
 *
 * @module
 */

import { Snapshots } from "./api/snapshots_pb.ts";
import type { CallOptions, Connection } from "./connection.ts";
import { toInfo, toMounts } from "./convert.ts";
import type {
  CommitOptions,
  ListSnapshotsOptions,
  SnapshotChange,
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "./snapshotter.ts";
import { shown } from "../ffi/text.ts";
import type { Mount } from "../linux/spec/mount.ts";

/** One of containerd's snapshotters. */
export class SnapshotsClient implements Snapshotter {
  readonly #connection: Connection;
  readonly #snapshotter: string;

  /**
   * Calls nothing yet.
   *
   * @param connection the connection.
   * @param snapshotter the name of the snapshotter.
   */
  constructor(connection: Connection, snapshotter: string) {
    this.#connection = connection;
    this.#snapshotter = snapshotter;
  }

  /** See {@linkcode Snapshotter}. */
  async prepare(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    const request = { snapshotter: this.#snapshotter, key, parent, labels: { ...options.labels } };
    const action = this.#action("prepare", key);
    return toMounts((await this.#connection.call(Snapshots.method.prepare, request, action, options)).mounts);
  }

  /** See {@linkcode Snapshotter}. */
  async view(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mount[]> {
    const request = { snapshotter: this.#snapshotter, key, parent, labels: { ...options.labels } };
    const action = this.#action("make a view of", key);
    return toMounts((await this.#connection.call(Snapshots.method.view, request, action, options)).mounts);
  }

  /** See {@linkcode Snapshotter}. */
  async mounts(key: string, options?: CallOptions): Promise<Mount[]> {
    const request = { snapshotter: this.#snapshotter, key };
    const action = this.#action("get the mounts of", key);
    return toMounts((await this.#connection.call(Snapshots.method.mounts, request, action, options)).mounts);
  }

  /** See {@linkcode Snapshotter}. */
  async commit(name: string, key: string, options: CommitOptions = {}): Promise<void> {
    const { labels, parent = "" } = options;
    const request = { snapshotter: this.#snapshotter, name, key, parent, labels: { ...labels } };
    await this.#connection.call(Snapshots.method.commit, request, this.#action("commit", key), options);
  }

  /** See {@linkcode Snapshotter}. */
  async remove(key: string, options?: CallOptions): Promise<void> {
    const request = { snapshotter: this.#snapshotter, key };
    await this.#connection.call(Snapshots.method.remove, request, this.#action("remove", key), options);
  }

  /** See {@linkcode Snapshotter}. */
  async stat(key: string, options?: CallOptions): Promise<SnapshotInfo> {
    const request = { snapshotter: this.#snapshotter, key };
    const action = this.#action("stat", key);
    return toInfo((await this.#connection.call(Snapshots.method.stat, request, action, options)).info);
  }

  /** See {@linkcode Snapshotter}. */
  async update(
    name: string,
    { labels, paths = ["labels"] }: SnapshotChange,
    options?: CallOptions,
  ): Promise<SnapshotInfo> {
    const request = {
      snapshotter: this.#snapshotter,
      info: { name, labels: { ...labels } },
      updateMask: { paths: [...paths] },
    };
    const action = this.#action("update", name);
    return toInfo((await this.#connection.call(Snapshots.method.update, request, action, options)).info);
  }

  /** See {@linkcode Snapshotter}. */
  async *list(options: ListSnapshotsOptions = {}): AsyncGenerator<SnapshotInfo, void, void> {
    const request = { snapshotter: this.#snapshotter, filters: [...options.filters ?? []] };
    const action = `list the snapshots of ${shown(this.#snapshotter)}`;
    for await (const { info } of this.#connection.stream(Snapshots.method.list, request, action, options)) {
      for (const each of info) { // containerd sends 100 at a time
        options.signal?.throwIfAborted();
        yield toInfo(each);
      }
    }
  }

  /** See {@linkcode Snapshotter}. */
  async usage(key: string, options?: CallOptions): Promise<SnapshotUsage> {
    const request = { snapshotter: this.#snapshotter, key };
    const action = this.#action("get the usage of", key);
    const { size, inodes } = await this.#connection.call(Snapshots.method.usage, request, action, options);
    return { size: Number(size), inodes: Number(inodes) };
  }

  /** See {@linkcode Snapshotter}. */
  async cleanup(options?: CallOptions): Promise<void> {
    const action = `clean up the snapshotter ${shown(this.#snapshotter)}`;
    const request = { snapshotter: this.#snapshotter };
    await this.#connection.call(Snapshots.method.cleanup, request, action, options);
  }

  #action(verb: string, key: string): string {
    return `${verb} the snapshot ${shown(key)} of ${shown(this.#snapshotter)}`;
  }
}
