/**
 * One mount, or a list, onto a target.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { enterNamespace, explainNamespace, type MountNamespace, openNamespace } from "../namespace/mount.ts";
import {
  explainUserNamespace,
  type OpenedUserNamespace,
  openUserNamespace,
  type UserNamespace,
} from "../namespace/open_user.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import type { Mount } from "../spec/mount.ts";
import { mountpointOf, type Plan, planMounts } from "../spec/plan.ts";
import { type ExecuteOptions, executePlans } from "./execute.ts";
import { AttachedMounts, type MountHandle } from "./handle.ts";
import { type ListActivator, mountManaged } from "./managed.ts";
import { refuseReplacing } from "./replace.ts";

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
  /**
   * Replaces what is mounted on the mountpoints of the list, so that a path always leads to the old mount or to the new
   * one, and never to an empty or half done mountpoint: every mount is made first, and attached beneath the one that is on
   * its mountpoint, which is then unmounted. Of a stack only the topmost mount is replaced. Where nothing is mounted, it is
   * a plain mount.
   *
   * An old mount that is in use is detached (MNT_DETACH), with the mounts below it: a process that has a file of it open,
   * or its working directory in it, keeps it, and the kernel frees it when the last one is gone. Its handle then unmounts
   * nothing. The new handle unmounts the new mounts only; the old ones don't come back.
   *
   * Sources and layers below the target are looked up in what is mounted there until then; the mountpoint of an entry that
   * is inside of another entry's, in that new mount. If an entry fails, the old mounts stay. If a mount of several can't be
   * attached beneath, those that were are taken off again, and their old mounts are put back as clones of themselves: with
   * new ids, and the new mount is visible for an instant. If another process mounts on one of the places during the call,
   * the error says so; old mounts that are unmounted by then are gone.
   *
   * Needs Linux 6.5, and 6.15 for a list with an entry inside of another one in another mount namespace; else the list is
   * refused before anything is mounted, and so are entries that change a mount, and the root directory. The kernel mounts
   * nothing beneath a mount that a user namespace has locked, and beneath one onto which what is mounted on its parent
   * propagates, such as a directory that is bound on itself below a shared mount. A FUSE helper, and what mount(2) makes, mounts at a temporary
   * place first; the server gets the path of that place.
   */
  replace?: boolean | undefined;
  /**
   * The user namespace whose id maps every new mount of the list gets, as `uidmap=` and `gidmap=` are the maps of one
   * mount: a bind with the mounts below it (`idmap` maps the top mount alone), a file system, and the lower layers of an
   * overlay. No process is started, and several calls share the namespace. An entry with `uidmap=`, `gidmap=` or
   * `X-mount.idmap=` of its own is refused, for a mount has one id map; so is one that can't be mapped, such as FUSE or
   * proc. Entries that change a mount are as they are without.
   *
   * The former upper directory of an overlay of `readonlyMounts` has to be named with `X-denomount.unmapped=`, and what a
   * `manager` mounts itself is not mapped.
   *
   * A descriptor stays open and belongs to the caller; it need not stay open after the call.
   */
  userNamespace?: UserNamespace | undefined;
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
  const { manager } = options;
  if (manager !== undefined) {
    return await mountManaged(
      mounts,
      manager,
      { timeout: options.timeout, signal: options.signal },
      (rest) => mountAll(rest, target, { ...options, manager: undefined }),
    );
  }
  return await mountAttached(mounts, target, options);
}

/**
 * Mounts a list without a manager.
 *
 * @param mounts the mounts.
 * @param target the directory that they go under.
 * @param options where to mount, and how long to wait; they are checked, and `manager` is ignored.
 * @returns the mounts that are attached.
 * @throws {MountError} as `mountAll` does.
 */
export async function mountAttached(
  mounts: readonly Mount[],
  target: string,
  options: MountOptions,
): Promise<AttachedMounts> {
  const { replace = false, userNamespace } = options;
  const plans = planMounts(mounts, target, userNamespace !== undefined);
  if (replace) refuseReplacing(plans, target, options.namespace !== undefined);
  if (userNamespace !== undefined) return await mountMapped(plans, target, options, userNamespace);
  return await mountPlans(plans, target, options, { replace });
}

async function mountPlans(
  plans: Plan[],
  target: string,
  options: MountOptions,
  how: ExecuteOptions,
): Promise<AttachedMounts> {
  if (options.namespace !== undefined && plans.length > 0) {
    return await mountInNamespace(plans, target, options.namespace, options, how);
  }
  return new AttachedMounts(target, await executePlans(plans, target, options, how));
}

async function mountMapped(
  plans: Plan[],
  target: string,
  options: MountOptions,
  userNamespace: UserNamespace,
): Promise<AttachedMounts> {
  using userns = await openUserns(plans, target, userNamespace, options);
  return await mountPlans(plans, target, options, { replace: options.replace, userns: userns?.fd });
}

/** Undefined for an empty list. */
async function openUserns(
  [first]: readonly Plan[],
  target: string,
  userNamespace: UserNamespace,
  wait: WaitOptions,
): Promise<OpenedUserNamespace | undefined> {
  if (first === undefined) return undefined;
  try {
    return await openUserNamespace(userNamespace, wait);
  } catch (error) {
    wait.signal?.throwIfAborted();
    throw new MountError(
      first.mount,
      mountpointOf(first, target),
      explainUserNamespace(error, userNamespace),
    );
  }
}

async function mountInNamespace(
  plans: Plan[],
  target: string,
  namespace: MountNamespace,
  { timeout, signal }: WaitOptions,
  how: ExecuteOptions,
): Promise<AttachedMounts> {
  const wait = { timeout, signal };
  let opened: OwnedFd | undefined;
  try {
    refuseRelative(target);
    opened = await openNamespace(namespace, wait);
    await using thread = await enterNamespace(opened);
    return new AttachedMounts(target, await executePlans(plans, target, wait, { ...how, thread }), opened);
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
