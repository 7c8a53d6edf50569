/**
 * Mounts a snapshot of containerd: asks for its mounts, has a mount manager activate what no mount(2) takes, and mounts
 * the rest.
 *
 * @module
 */

import type { CallOptions } from "./connection.ts";
import { MountsClient } from "./mounts.ts";
import type { Snapshotter } from "./snapshotter.ts";
import { shown } from "../ffi/text.ts";
import { NotFoundError } from "../linux/manager/errors.ts";
import type { Activation, MountManager } from "../linux/manager/types.ts";
import type { ListActivator } from "../linux/mount/managed.ts";
import { mountAll, type MountHandle } from "../linux/mount/mount.ts";
import { isMountpoint } from "../linux/mountinfo/lookup.ts";
import type { Mount } from "../linux/spec/mount.ts";

/** A snapshot of containerd. */
export interface SnapshotKey {
  /** The name of the snapshotter, such as "overlayfs". */
  readonly snapshotter: string;
  /** The key of a snapshot that is not committed. */
  readonly key: string;
}

/** How to mount a snapshot. */
export interface MountSnapshotOptions extends CallOptions {
  /** Activates a list that needs it; containerd's own manager if left out. */
  readonly manager?: MountManager;
  /** The name of the activation of such a list; a new one if left out. */
  readonly name?: string | undefined;
}

/** Where the parts come from. */
export interface SnapshotSource extends SnapshotKey {
  /** The client of the snapshotter. */
  readonly snapshots: Snapshotter;
  /** The manager. */
  readonly manager: MountManager;
  /** The name of the activation, if it is not to be a new one. */
  readonly name?: string | undefined;
}

/**
 * Mounts a snapshot under a target, all of it or nothing.
 *
 * @param source the snapshot and the manager.
 * @param target an existing directory.
 * @param options the timeout of each wait and the signal.
 * @returns the handle, which unmounts the snapshot and deactivates what was activated for it.
 */
export async function mountSnapshot(
  { snapshots, manager, name, snapshotter, key }: SnapshotSource,
  target: string,
  { timeout, signal }: CallOptions,
): Promise<MountHandle> {
  const wait = { timeout, signal };
  const mounts = await snapshots.mounts(key, wait);
  if (!mounts.some(needsManager)) return await mountAll(mounts, target, wait);
  // The garbage collector removes the activation with the snapshot, and not before it.
  const labels = { [labelOf(snapshotter)]: key };
  return await mountAll(mounts, target, { ...wait, manager: activatorOf(manager, labels, name) });
}

/**
 * The label that keeps an activation as long as its snapshot.
 *
 * @param snapshotter the name of the snapshotter.
 * @returns the label, whose value is the key of the snapshot.
 */
export function labelOf(snapshotter: string): string {
  return `containerd.io/gc.bref.snapshot.${snapshotter}`;
}

/** The manager, as mountAll() takes one. */
function activatorOf(
  manager: MountManager,
  labels: Record<string, string>,
  name: string | undefined,
): ListActivator {
  const deactivate: ListActivator["deactivate"] = async (given, options = {}) => {
    const { signal } = options;
    try {
      // The other options are for the snapshot's mounts: containerd unmounts its own as it always does, and a timeout of 0
      // to wait for a busy mount is none for a call.
      await manager.deactivate(name ?? given, manager instanceof MountsClient ? { signal } : options);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error; // otherwise it went with the snapshot
    }
  };
  return {
    deactivate,
    async activate(given, mounts, wait) {
      const activation = await manager.activate(name ?? given, mounts, { ...wait, labels });
      await using undo = new AsyncDisposableStack();
      undo.defer(() => deactivate(given));
      await refuseInvisible(activation);
      undo.move();
      return activation;
    },
  };
}

/**
 * Whether a mount is for a mount manager.
 *
 * @param mount the mount.
 * @returns true for a type with a part before the file system's, such as "format/overlay".
 */
export function needsManager({ type }: Mount): boolean {
  return type.includes("/");
}

/** What a manager mounts in another mount namespace is an empty directory here, which would be mounted without an error. */
async function refuseInvisible({ active }: Activation): Promise<void> {
  for (const { type, mountPoint } of active) {
    if (type === "loop" || await isMountpoint(mountPoint)) continue; // a loop device is a link
    throw new Error(
      `the mount manager's mount ${shown(mountPoint)} is not in this mount namespace; ` +
        "run this in containerd's mount namespace, or pass a manager of this one",
    );
  }
}
