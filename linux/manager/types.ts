/**
 * What a mount manager is: lists that can't be mounted as they stand, activated under a name.
 *
 * @module
 */

import type { Mount } from "../spec/mount.ts";
import type { UnmountOptions } from "../unmount/deadline.ts";

/**
 * Prepares lists of mounts that the kernel doesn't take as they stand, in the shape of containerd's mount manager.
 *
 * Needs what its implementation needs: `LocalMountManager` the permissions `ffi`, `read` and `write`, and CAP_SYS_ADMIN.
 */
export interface MountManager {
  /**
   * Prepares a list: all of it or nothing.
   *
   * @param name the name of the activation.
   * @param mounts the list; it is not changed.
   * @param options labels, and what the caller mounts itself.
   * @returns what was mounted, and the list that the caller mounts.
   * @throws {AlreadyExistsError} if an activation has the name.
   */
  activate(name: string, mounts: readonly Mount[], options?: ActivateOptions): Promise<Activation>;
  /**
   * Unmounts what an activation has mounted, and removes it.
   *
   * @param name its name.
   * @param options how to unmount.
   * @throws {NotFoundError} if no activation has the name.
   */
  deactivate(name: string, options?: Omit<UnmountOptions, "namespace">): Promise<void>;
  /**
   * Looks up an activation.
   *
   * @param name its name.
   * @returns the activation.
   * @throws {NotFoundError} if no activation has the name.
   */
  info(name: string): Promise<Activation>;
  /**
   * Lists the activations.
   *
   * @param options the labels that an activation must have; all activations if left out.
   * @returns the activations, by name.
   */
  list(options?: ListOptions): AsyncIterable<Activation>;
  /**
   * Changes the labels of an activation.
   *
   * @param name its name.
   * @param change all of its labels from now on.
   * @returns the activation.
   * @throws {NotFoundError} if no activation has the name.
   */
  update(name: string, change: ActivationChange): Promise<Activation>;
}

/** How to activate a list. */
export interface ActivateOptions {
  /** Mounts everything: the caller mounts one bind. */
  temporary?: boolean;
  /** Names and values, by which activations are found. */
  labels?: Readonly<Record<string, string>>;
  /**
   * Types that the caller mounts itself, although the manager has a handler or a modifier for them: a whole type, such as
   * "format/overlay", or one that a handler mounts, such as "erofs".
   */
  allowMountTypes?: readonly string[];
  /**
   * The timeout of each wait for a server or for the record, in milliseconds; 2500 if left out. A mkfs program has none.
   */
  readonly timeout?: number | undefined;
  /** Ends the call, with its reason as the error. What is mounted already is unmounted again. */
  readonly signal?: AbortSignal | undefined;
}

/** Which activations to list. */
export interface ListOptions {
  /** Labels that an activation must have, with these values. */
  labels?: Readonly<Record<string, string>>;
}

/** What of an activation can be changed. */
export interface ActivationChange {
  /** All of its labels from now on. */
  labels: Readonly<Record<string, string>>;
}

/** A list that was prepared. */
export interface Activation {
  /** Its name. */
  name: string;
  /** What the manager has mounted, in that order. */
  active: ActiveMount[];
  /** What the caller mounts, in that order, to get the root directory of the list. */
  system: Mount[];
  /** Its labels. */
  labels: Record<string, string>;
  /**
   * Set if its mounts are gone, after a reboot for example: `sync()` has found it so. It can be activated again, or
   * deactivated.
   */
  lost?: true;
}

/** A mount that the manager, or a handler, has made. */
export interface ActiveMount extends Mount {
  /** Where it is mounted. A handler of a device may leave a symbolic link to it here. */
  mountPoint: string;
  /** When it was mounted. */
  mountedAt: Date;
  /** What a handler has written down. */
  data: Record<string, string>;
}

/**
 * Mounts a type that the kernel doesn't know.
 *
 * Needs what it does itself.
 *
 * @example
 * ```ts
 * import { mountAll } from "@denomount/mount";
 * import { LocalMountManager, type MountHandler } from "@denomount/mount/manager";
 *
 * const scratch: MountHandler = {
 *   async mount(mount, mountPoint) {
 *     await Deno.mkdir(mountPoint);
 *     await mountAll([{ type: "tmpfs", source: mount.source }], mountPoint);
 *     return { ...mount, mountPoint, mountedAt: new Date(), data: {} };
 *   },
 *   async unmount(mountPoint) {
 *     await new Deno.Command("umount", { args: ["-q", mountPoint] }).output();
 *   },
 * };
 *
 * const root = await Deno.makeTempDir();
 * {
 *   await using manager = await LocalMountManager.open({ root, handlers: { scratch } });
 *   const { active } = await manager.activate("example", [{ type: "scratch", source: "one" }]);
 *   console.log(active[0]?.mountPoint);
 *   await manager.deactivate("example");
 * }
 * await Deno.remove(root, { recursive: true });
 * ```
 */
export interface MountHandler {
  /**
   * Mounts it.
   *
   * @param mount the mount, without its modifiers.
   * @param mountPoint a path in a directory of this activation, which does not exist yet: the handler makes a directory,
   * or a symbolic link to a device.
   * @param active the mounts before it.
   * @param wait the timeout and the signal of the call.
   * @returns what it has mounted; `data` is kept.
   */
  mount(
    mount: Mount,
    mountPoint: string,
    active: readonly ActiveMount[],
    wait?: { readonly timeout?: number | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<ActiveMount>;
  /**
   * Unmounts it. After a crash it is also called for a mount that was only begun, so a mountpoint on which nothing is
   * mounted, or which does not exist, is no error. What is still mounted on the mountpoint then, the manager unmounts itself, and it
   * removes the mountpoint.
   *
   * @param mountPoint the path that was given to `mount`.
   * @param mount the mount; with what the handler has written down, if `mount` had returned.
   */
  unmount(mountPoint: string, mount?: Mount & { data?: Record<string, string> }): Promise<void>;
}
