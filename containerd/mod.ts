/**
 * A client of containerd: its snapshotters and its mount manager, over gRPC; and the other side: a snapshotter for
 * containerd, and a server for any. Only this entry uses gRPC.
 *
 * @example
 * ```ts
 * import { Containerd } from "@denomount/mount/containerd";
 *
 * async function printVersion(address: string): Promise<void> {
 *   await using containerd = new Containerd({ address });
 *   console.log((await containerd.version()).version);
 * }
 * ```
 *
 * @module
 */

export type { CallOptions, ContainerdOptions } from "./connection.ts";
export { Containerd, type ContainerdVersion } from "./containerd.ts";
export {
  AlreadyExistsError,
  ContainerdError,
  type ContainerdFailure,
  DeadlineExceededError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  UnavailableError,
  UnimplementedError,
} from "./errors.ts";
export {
  LocalSnapshotter,
  type LocalSnapshotterOptions,
  type PrepareMode,
} from "./local/local_snapshotter.ts";
export type { MountSnapshotOptions, SnapshotKey } from "./mount_snapshot.ts";
export type { MountsClient } from "./mounts.ts";
export { type ServeOptions, serveSnapshotter, type SnapshotServer } from "./server/serve.ts";
export type { SnapshotsClient } from "./snapshots.ts";
export type {
  CommitOptions,
  ListSnapshotsOptions,
  SnapshotChange,
  SnapshotInfo,
  SnapshotKind,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "./snapshotter.ts";
export type { OwnedFd } from "../ffi/fd.ts";
export type {
  ActivateOptions,
  Activation,
  ActivationChange,
  ActiveMount,
  ListOptions,
  MountManager,
} from "../linux/manager/types.ts";
export type { MountHandle } from "../linux/mount/handle.ts";
export type { MountNamespace } from "../linux/namespace/mount.ts";
export type { WaitOptions } from "../linux/path/wait.ts";
export type { Mount } from "../linux/spec/mount.ts";
export type { UnmountOptions } from "../linux/unmount/deadline.ts";
