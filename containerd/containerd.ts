/**
 * The client of a containerd.
 *
 * @module
 */

import { Introspection } from "./api/introspection_pb.ts";
import { Namespaces } from "./api/namespace_pb.ts";
import { Version } from "./api/version_pb.ts";
import { type CallOptions, Connection, type ContainerdOptions } from "./connection.ts";
import { mountSnapshot, type MountSnapshotOptions, type SnapshotKey } from "./mount_snapshot.ts";
import { MountsClient } from "./mounts.ts";
import { SnapshotsClient } from "./snapshots.ts";
import type { MountHandle } from "../linux/mount/handle.ts";

/** The version of a containerd. */
export interface ContainerdVersion {
  /** Such as "2.2.0". */
  version: string;
  /** The commit that it was built from. */
  revision: string;
}

/**
 * A client of the containerd that listens on a socket. It connects at the first call, and again at the next call after
 * containerd has restarted. Deno's permissions for it are `--allow-net=unix:SOCKET`, `--allow-read=SOCKET`,
 * `--allow-write=SOCKET` and `--allow-env=GRPC_*`; containerd's socket needs root.
 *
 * @example
 * ```ts
 * import { Containerd } from "@denomount/mount/containerd";
 *
 * async function printSnapshots(address: string): Promise<void> {
 *   await using containerd = new Containerd({ address, namespace: "k8s.io" });
 *   for await (const { name, kind } of containerd.snapshots("overlayfs").list()) console.log(kind, name);
 * }
 * ```
 */
export class Containerd implements AsyncDisposable {
  readonly #connection: Connection;
  /** containerd's mount manager, since 2.2. */
  readonly mounts: MountsClient;

  /**
   * Connects to nothing yet.
   *
   * @param options the socket, the namespace, the lease, and the timeout of a call.
   * @throws {TypeError} for a path that is not absolute, a namespace or lease that is not ASCII, and a bad timeout.
   */
  constructor(options: ContainerdOptions = {}) {
    this.#connection = new Connection(options);
    this.mounts = new MountsClient(this.#connection);
  }

  /** The path of the socket. */
  get address(): string {
    return this.#connection.address;
  }

  /** The namespace of the snapshots and activations. */
  get namespace(): string {
    return this.#connection.namespace;
  }

  /**
   * One of its snapshotters.
   *
   * @param name its name, such as "overlayfs".
   * @returns a client of the snapshotter; its calls fail if containerd has none of that name.
   */
  snapshots(name: string): SnapshotsClient {
    return new SnapshotsClient(this.#connection, name);
  }

  /**
   * Asks for the version.
   *
   * @param options the timeout and the signal.
   * @returns the version.
   * @throws {UnavailableError} if no containerd listens on the socket.
   */
  async version(options?: CallOptions): Promise<ContainerdVersion> {
    const action = "get containerd's version";
    const { version, revision } = await this.#connection.call(Version.method.version, {}, action, options);
    return { version, revision };
  }

  /**
   * Asks for the names of its snapshotters: those that it has built in and can use on this machine, and its proxy plugins.
   *
   * @param options the timeout and the signal.
   * @returns the names, sorted.
   * @throws {ContainerdError} if the call fails.
   */
  async snapshotters(options?: CallOptions): Promise<string[]> {
    const request = { filters: ["type==io.containerd.snapshotter.v1"] };
    const { plugins } = await this.#connection.call(
      Introspection.method.plugins,
      request,
      "list the snapshotters",
      options,
    );
    return plugins.filter(({ initErr }) => initErr === undefined).map(({ id }) => id).sort();
  }

  /**
   * Asks for the names of all namespaces.
   *
   * @param options the timeout and the signal.
   * @returns the names, sorted.
   * @throws {ContainerdError} if the call fails.
   */
  async namespaces(options?: CallOptions): Promise<string[]> {
    const answer = await this.#connection.call(Namespaces.method.list, {}, "list the namespaces", options);
    return answer.namespaces.map(({ name }) => name).sort();
  }

  /**
   * Mounts a snapshot under a target, all of it or nothing: asks for its mounts, lets a mount manager activate what no
   * mount(2) takes, and mounts the rest.
   *
   * Needs the permission `ffi` and CAP_SYS_ADMIN, in the mount namespace of containerd.
   *
   * @param snapshot the snapshotter and the key of the snapshot, which is not committed.
   * @param target an existing directory.
   * @param options another manager than containerd's, the name of the activation, the timeout of each wait and the signal.
   * @returns the handle, which unmounts the snapshot and deactivates what was activated for it.
   * @throws {ContainerdError} if containerd has no such snapshot, or can't activate it. Nothing is mounted then.
   * @throws {MountError} if the rest can't be mounted. What was activated is deactivated then.
   *
   * @example
   * ```ts
   * import { Containerd } from "@denomount/mount/containerd";
   *
   * async function printFiles(snapshotter: string, key: string): Promise<void> {
   *   const target = await Deno.makeTempDir();
   *   await using containerd = new Containerd();
   *   {
   *     await using _root = await containerd.mountSnapshot({ snapshotter, key }, target);
   *     for await (const { name } of Deno.readDir(target)) console.log(name);
   *   }
   *   await Deno.remove(target);
   * }
   * ```
   */
  mountSnapshot(
    snapshot: SnapshotKey,
    target: string,
    { manager = this.mounts, name, ...wait }: MountSnapshotOptions = {},
  ): Promise<MountHandle> {
    const snapshots = this.snapshots(snapshot.snapshotter);
    return mountSnapshot({ ...snapshot, snapshots, manager, name }, target, wait);
  }

  /** Closes the connection; calls that run are cancelled. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
    return Promise.resolve();
  }
}
