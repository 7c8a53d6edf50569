/**
 * Lists that a mount manager prepares before they are mounted.
 *
 * @module
 */

import type { WaitOptions } from "../path/wait.ts";
import type { Mount } from "../spec/mount.ts";
import type { UnmountOptions } from "../unmount/deadline.ts";
import type { MountHandle } from "./handle.ts";

/**
 * What {@linkcode mountAll} asks of a mount manager: `LocalMountManager` of `./manager` is one.
 *
 * Needs what its manager needs: for `LocalMountManager` the permissions `ffi`, `read` and `write`, and CAP_SYS_ADMIN.
 */
export interface ListActivator {
  /** Prepares a list; `system` is what remains to be mounted. */
  activate(
    name: string,
    mounts: readonly Mount[],
    options?: WaitOptions,
  ): Promise<{ system: readonly Mount[] }>;
  /** Unmounts what `activate` has mounted. */
  deactivate(name: string, options?: Omit<UnmountOptions, "namespace">): Promise<void>;
}

/**
 * Activates a list under a new name and mounts what remains. If that fails, the list is deactivated.
 *
 * @param mounts the list.
 * @param manager the manager.
 * @param wait the timeout and the signal.
 * @param mountRest mounts what remains.
 * @returns the handle, which deactivates the list when it has unmounted its own mounts.
 */
export async function mountManaged(
  mounts: readonly Mount[],
  manager: ListActivator,
  wait: WaitOptions,
  mountRest: (mounts: readonly Mount[]) => Promise<MountHandle>,
): Promise<MountHandle> {
  const name = `mount-${crypto.randomUUID()}`;
  const { system } = await manager.activate(name, mounts, wait);
  try {
    return new ManagedMounts(await mountRest(system), manager, name);
  } catch (error) {
    await manager.deactivate(name);
    throw error;
  }
}

/** The mounts of a list, and the activation below them. */
class ManagedMounts implements MountHandle {
  #isActive = true;

  constructor(readonly mounts: MountHandle, readonly manager: ListActivator, readonly name: string) {}

  get target(): string {
    return this.mounts.target;
  }

  get mountpoints(): readonly string[] {
    return this.mounts.mountpoints;
  }

  async unmount(options: Omit<UnmountOptions, "namespace"> = {}): Promise<void> {
    await this.mounts.unmount(options);
    if (!this.#isActive) return;
    this.#isActive = false;
    try {
      await this.manager.deactivate(this.name, options);
    } catch (error) {
      this.#isActive = true;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}
