/**
 * One mount, or a list, onto a target.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { enterNamespace, explainNamespace, type MountNamespace, openNamespace } from "../namespace/mount.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import type { Mount } from "../spec/mount.ts";
import { type Plan, planMounts } from "../spec/plan.ts";
import { executePlans } from "./execute.ts";
import { AttachedMounts, type MountHandle } from "./handle.ts";
import { type ListActivator, mountManaged } from "./managed.ts";

export type { ListActivator, MountHandle };

/** Where to mount, and how long to wait for a server that does not answer. */
export interface MountOptions extends WaitOptions {
  /**
   * The timeout of each wait for a server, in milliseconds; 2500 if left out. Several waits can take longer in all. A
   * FUSE helper, which starts a server, gets 30 seconds if no timeout is given. A disk is waited for without a timeout.
   */
  readonly timeout?: number | undefined;
  /** Ends the call, with its reason as the error. What is mounted already is unmounted again. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The mount namespace that the target is in; this process's own if left out. Sources are looked up in this process's
   * namespace all the same: a container can so get a directory or an image that it can't see. The target is a path from
   * the root directory of the other namespace. The handle keeps a descriptor of the namespace open until everything is
   * unmounted.
   */
  namespace?: MountNamespace;
  /**
   * Prepares the list, which may be one that the kernel doesn't take as it stands: `LocalMountManager` of `./manager`. The
   * handle deactivates it.
   */
  manager?: ListActivator | undefined;
}

/**
 * Mounts one mount under a target.
 *
 * Needs the permission `ffi`, and `run` for FUSE; CAP_SYS_ADMIN; Linux 5.10.
 *
 * @param mount the mount; it is not changed.
 * @param target an existing directory, or a file to bind a file on. `mount.target` is joined inside it: no symbolic link
 * and no `..` in it leads out.
 * @param options the target's mount namespace, the timeout and the signal.
 * @returns the handle that unmounts it.
 * @throws {MountError} with the kernel's own sentence if it has one; its `code` is "ETIMEDOUT" if a server on one of the
 * paths does not answer. Nothing is mounted then.
 * @throws the signal's reason, if it is aborted. Nothing is mounted then.
 *
 * @example
 * ```ts
 * import { mount } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   await using _usr = await mount({ type: "bind", source: "/usr", options: ["rbind", "ro"] }, target);
 * }
 * await Deno.remove(target);
 * ```
 */
export function mount(mount: Mount, target: string, options: MountOptions = {}): Promise<MountHandle> {
  return mountAll([mount], target, options);
}

/**
 * Mounts a list under a target, in its order: all of it or nothing.
 *
 * Needs the permission `ffi`, and `run` for FUSE; CAP_SYS_ADMIN; Linux 5.10.
 *
 * @param mounts the mounts, in containerd's shape; they are not changed.
 * @param target the directory that they go under.
 * @param options the target's mount namespace, a mount manager, the timeout and the signal.
 * @returns the handle that unmounts all of it.
 * @throws {MountError} for the mount that failed, as {@linkcode mount} does. Those before it are unmounted again.
 * @throws the signal's reason, if it is aborted. What is mounted already is unmounted again.
 *
 * @example
 * ```ts
 * import { mountAll } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   await using root = await mountAll([
 *     { type: "overlay", source: "overlay", options: ["lowerdir=/usr:/etc"] },
 *     { type: "tmpfs", source: "tmpfs", target: "/share", options: ["size=1m", "nosuid"] },
 *   ], target);
 *   console.log(root.mountpoints);
 * }
 * await Deno.remove(target);
 * ```
 */
export async function mountAll(
  mounts: readonly Mount[],
  target: string,
  options: MountOptions = {},
): Promise<MountHandle> {
  checkWait(options);
  const { namespace, manager, ...wait } = options;
  if (manager !== undefined) {
    return await mountManaged(
      mounts,
      manager,
      wait,
      (rest) => mountAll(rest, target, { ...options, manager: undefined }),
    );
  }
  const plans = planMounts(mounts, target);
  if (namespace !== undefined && plans.length > 0) {
    return await mountInNamespace(plans, target, namespace, options);
  }
  return new AttachedMounts(target, await executePlans(plans, target, options));
}

async function mountInNamespace(
  plans: Plan[],
  target: string,
  namespace: MountNamespace,
  { timeout, signal }: WaitOptions,
): Promise<MountHandle> {
  const wait = { timeout, signal };
  let opened: OwnedFd | undefined;
  try {
    refuseRelative(target);
    opened = await openNamespace(namespace, wait);
    await using thread = await enterNamespace(opened);
    return new AttachedMounts(target, await executePlans(plans, target, wait, thread), opened);
  } catch (error) {
    opened?.close();
    signal?.throwIfAborted();
    const [first] = plans;
    if (error instanceof MountError || first === undefined) throw error;
    throw new MountError(first.mount, target, explainNamespace(error, namespace));
  }
}

/** A thread that has joined a mount namespace has its root directory as the working directory. */
function refuseRelative(target: string): void {
  if (!target.startsWith("/")) {
    throw new TypeError("in another mount namespace, the target is an absolute path");
  }
}
