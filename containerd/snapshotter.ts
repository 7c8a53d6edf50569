/**
 * What a snapshotter is: containerd's interface of that name.
 *
 * @module
 */

import type { CallOptions } from "./connection.ts";
import type { Mount } from "../linux/spec/mount.ts";

/** What a snapshot is: a read-only view, a writable one, or a layer that others are made on. */
export type SnapshotKind = "view" | "active" | "committed" | "unknown";

/** A snapshot, as its snapshotter has recorded it. */
export interface SnapshotInfo {
  /** Its key, or its name if it is committed. */
  name: string;
  /** The name of the snapshot that it is made on; "" if there is none. */
  parent: string;
  /** What it is. */
  kind: SnapshotKind;
  /** When it was made. */
  createdAt: Date;
  /** When its record last changed. */
  updatedAt: Date;
  /** Its labels. */
  labels: Record<string, string>;
}

/** What a snapshot takes on the disk, without its parents. */
export interface SnapshotUsage {
  /** Bytes. */
  size: number;
  /** Inodes. */
  inodes: number;
}

/** How to make a snapshot. */
export interface SnapshotOptions extends CallOptions {
  /** The labels of the snapshot. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** How to commit a snapshot. */
export interface CommitOptions extends SnapshotOptions {
  /** Another parent than the one that it was made on, for a snapshotter with the capability "rebase". */
  readonly parent?: string;
}

/** Which snapshots to list. */
export interface ListSnapshotsOptions extends CallOptions {
  /** Filters in containerd's syntax, such as `kind==active` or `labels."key"==value`; one of them must match. */
  readonly filters?: readonly string[];
}

/** What to change of a snapshot. */
export interface SnapshotChange {
  /** The labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** What of it is changed, such as `labels.KEY`; all labels if left out. */
  readonly paths?: readonly string[];
}

/** Keeps snapshots: file systems that are made on each other, each given as a list of mounts. */
export interface Snapshotter {
  /** Makes a writable snapshot on a committed one, or an empty one if the parent is "". */
  prepare(key: string, parent: string, options?: SnapshotOptions): Promise<Mount[]>;
  /** Makes a read-only snapshot on a committed one, or an empty one if the parent is "". */
  view(key: string, parent: string, options?: SnapshotOptions): Promise<Mount[]>;
  /** The mounts of a snapshot that is not committed. */
  mounts(key: string, options?: CallOptions): Promise<Mount[]>;
  /** Makes a committed snapshot of a writable one, which is then gone. */
  commit(name: string, key: string, options?: CommitOptions): Promise<void>;
  /** Removes a snapshot that no other is made on. */
  remove(key: string, options?: CallOptions): Promise<void>;
  /** The record of a snapshot. */
  stat(key: string, options?: CallOptions): Promise<SnapshotInfo>;
  /** Changes the labels of a snapshot. */
  update(name: string, change: SnapshotChange, options?: CallOptions): Promise<SnapshotInfo>;
  /** The records of all snapshots, or of those that a filter matches. */
  list(options?: ListSnapshotsOptions): AsyncIterable<SnapshotInfo>;
  /** What a snapshot takes on the disk. */
  usage(key: string, options?: CallOptions): Promise<SnapshotUsage>;
  /** Removes from the disk what removed snapshots have left there. */
  cleanup(options?: CallOptions): Promise<void>;
}
