/**
 * Unmounting a mount that another one, attached beneath it, replaces; and putting it back.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type StatxMount, statxMountUniqueFd, uniqueMountAt } from "../mountinfo/statx_mount.ts";
import { attachMount, openTarget } from "../path/mount_target.ts";
import {
  AT_FDCWD,
  AT_RECURSIVE,
  AT_SYMLINK_NOFOLLOW,
  MNT_DETACH,
  MOVE_MOUNT_BENEATH,
  MS_REC,
  MS_SLAVE,
  OPEN_TREE_CLONE,
  UMOUNT_NOFOLLOW,
} from "../syscalls/constants.ts";
import { mount, openTree, umount2 } from "../syscalls/mod.ts";
import { Deadline } from "./deadline.ts";
import { resolveTopMount } from "./retry.ts";
import { detachTree, treesOf } from "./tree.ts";
import { umountOnce } from "./umount_once.ts";

/**
 * Unmounts the topmost mount of a mountpoint. One that is in use, or has mounts below it, is detached with these in one
 * step: a process that has it open keeps it, and the next path lookup finds what is beneath.
 *
 * @param target the mountpoint.
 * @param old the mount that has to be on top.
 * @param timeout how long to wait for its server, in milliseconds; 2500 if left out.
 * @returns false if it is not on top, or was unmounted by another process meanwhile.
 * @throws {SyscallError} as umount2(2) does; ETIMEDOUT if its server does not answer and the mount is still in the table,
 * or if one on the way does not answer.
 */
export async function unmountOrDetach(target: string, old: StatxMount, timeout?: number): Promise<boolean> {
  if (!await isFoundOnTop(target, old, timeout)) return false;
  try {
    await umountOnce(target, new Deadline({ noFollow: true, timeout }), old);
    return true;
  } catch (error) {
    if (!isErrno(error, "EBUSY")) return falseIfGone(error, target, old);
  }
  if (await hasPeerOutside(target)) mount(null, target, null, MS_SLAVE | MS_REC, null);
  if (!isOnTop(target, old)) return false;
  try {
    await umountOnce(target, new Deadline({ noFollow: true, detach: true, timeout }), old);
    return true;
  } catch (error) {
    return falseIfGone(error, target, old);
  }
}

/** Between the look at the mount and the call, another process may have unmounted it. */
function falseIfGone(error: unknown, target: string, old: StatxMount): false {
  if (isErrno(error, "EINVAL", "ENOENT") && !isOnTop(target, old)) return false;
  throw error;
}

/**
 * Takes off a mount from beneath another one: that is replaced by a clone of itself, for the kernel has no call for it.
 * The mountpoint is never empty, but the mount that is taken off is visible for an instant.
 *
 * @param target the mountpoint.
 * @param old the mount that has to be on top, and is cloned.
 * @param timeout how long to wait for a server on the way, in milliseconds; 2500 if left out.
 * @returns the clone; undefined if the mount is not on top, and nothing was changed.
 * @throws {SyscallError} ETIMEDOUT if a server on the way does not answer.
 */
export async function restoreBeneath(
  target: string,
  old: StatxMount,
  timeout?: number,
): Promise<StatxMount | undefined> {
  if (!await isFoundOnTop(target, old, timeout)) return undefined;
  using clone = openTree(AT_FDCWD, target, OPEN_TREE_CLONE | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW);
  const restored = statxMountUniqueFd(clone);
  detachTree(target, true, UMOUNT_NOFOLLOW); // as a slave: the clone is its peer, and would lose its submounts
  {
    using mountpoint = openTarget(target);
    attachMount(clone, mountpoint, MOVE_MOUNT_BENEATH);
  }
  umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
  return restored;
}

/** {@linkcode isOnTop}, after a wait for the servers on the way. */
async function isFoundOnTop(target: string, old: StatxMount, timeout: number | undefined): Promise<boolean> {
  const top = await resolveTopMount(target, new Deadline({ noFollow: true, timeout }));
  return top?.mountId === old.mountId;
}

function isOnTop(target: string, old: StatxMount): boolean {
  return uniqueMountAt(target, AT_SYMLINK_NOFOLLOW)?.mountId === old.mountId;
}

/** Whether a mount, or one below it, has a peer outside of its tree, whose submounts the unmount would unmount too. */
async function hasPeerOutside(target: string): Promise<boolean> {
  const top = uniqueMountAt(target, AT_SYMLINK_NOFOLLOW);
  if (top === undefined) return false;
  const { table, isWithin, hasPeer } = await treesOf(top);
  return table.filter(isWithin).some(hasPeer);
}
