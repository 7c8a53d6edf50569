/**
 * Mounts a snapshot of containerd: asks for its mounts, has a mount manager activate what no mount(2) takes, and mounts
 * the rest.
 *
 * @module
 */

import type { CallOptions } from "./connection.ts";
import { NotFoundError } from "./errors.ts";
import type { Activation, MountManager } from "./manager_types.ts";
import type { Snapshotter } from "./snapshotter.ts";
import { shown } from "../ffi/text.ts";
import { mountAll, type MountHandle } from "../linux/mount/mount.ts";
import { isMountpoint } from "../linux/mountinfo/lookup.ts";
import type { Mount } from "../linux/spec/mount.ts";
import type { UnmountOptions } from "../linux/unmount/deadline.ts";

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
}

/** Where the parts come from. */
export interface SnapshotSource extends SnapshotKey {
  /** The client of the snapshotter. */
  readonly snapshots: Snapshotter;
  /** The manager. */
  readonly manager: MountManager;
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
  { snapshots, manager, snapshotter, key }: SnapshotSource,
  target: string,
  { timeout, signal }: CallOptions,
): Promise<MountHandle> {
  const wait = { timeout, signal };
  const mounts = await snapshots.mounts(key, wait);
  await using undo = new AsyncDisposableStack();
  let name: string | undefined;
  let system: readonly Mount[] = mounts;
  if (mounts.some(needsManager)) {
    name = `denomount-${crypto.randomUUID()}`;
    // The garbage collector removes the activation with the snapshot, and not before it.
    const labels = { [`containerd.io/gc.bref.snapshot.${snapshotter}`]: key };
    const activation = await manager.activate(name, mounts, { labels, ...signal && { signal } });
    undo.defer(() => manager.deactivate(activation.name));
    await refuseInvisible(activation);
    ({ system } = activation);
  }
  const handle = await mountAll(system, target, wait);
  undo.move();
  return name === undefined ? handle : new ActivatedSnapshot(handle, manager, name);
}

/** Whether a type has a part before the file system's, such as "format/overlay". */
const needsManager = ({ type }: Mount) => type.includes("/");

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

/** A mounted snapshot that was activated before. */
class ActivatedSnapshot implements MountHandle {
  readonly #handle: MountHandle;
  readonly #manager: MountManager;
  readonly #name: string;
  #isActive = true;

  constructor(handle: MountHandle, manager: MountManager, name: string) {
    this.#handle = handle;
    this.#manager = manager;
    this.#name = name;
  }

  get target(): string {
    return this.#handle.target;
  }

  get mountpoints(): readonly string[] {
    return this.#handle.mountpoints;
  }

  async unmount(options: Omit<UnmountOptions, "namespace"> = {}): Promise<void> {
    await this.#handle.unmount(options);
    if (!this.#isActive) return;
    const { timeout, signal } = options;
    try {
      await this.#manager.deactivate(this.#name, { timeout, signal });
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error; // otherwise it went with the snapshot
    }
    this.#isActive = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}
