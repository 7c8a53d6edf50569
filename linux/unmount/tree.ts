/**
 * Unmounting a recursive bind: a mount together with the mounts that it contains.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { isRedirected } from "../../ffi/libc.ts";
import { MNT_DETACH, MS_PRIVATE, MS_REC } from "../syscalls/constants.ts";
import { Deadline, type UnmountOptions } from "./deadline.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import { ensureResolvable } from "../path/cached_lookup.ts";
import { mount, umount2 } from "../syscalls/mod.ts";
import { mountAt, type StatxMount } from "../mountinfo/statx_mount.ts";
import { topMount, unmountRetrying } from "./retry.ts";
import { tryUmountSync, umountMayWait } from "./umount_once.ts";
import { openTopMount, procFdPath } from "../path/mount_target.ts";

/**
 * Unmounts the topmost mount of a target together with the mounts that it contains.
 *
 * @param target the mountpoint.
 * @param options how to unmount.
 * @throws {SyscallError} as {@linkcode unmount} does.
 */
export async function unmountTree(target: string, options: UnmountOptions = {}): Promise<void> {
  const deadline = new Deadline(options);
  await ensureResolvable(target, deadline);
  await unmountTreeRetrying(target, deadline);
}

/**
 * Detaches a tree of mounts at once, even if it is busy. For a rollback, of mounts that the caller has not seen yet.
 *
 * @param target the mountpoint.
 */
export function detachTree(target: string): void {
  makePrivate(target);
  umount2(target, MNT_DETACH);
}

/**
 * Detaches the tree of the topmost mount of a mountpoint, wherever that was renamed to.
 *
 * @param mountpoint a descriptor of the mountpoint.
 */
export function detachTopMount(mountpoint: OwnedFd): void {
  using top = openTopMount(mountpoint);
  detachTree(isRedirected() ? top.path : procFdPath(top)); // the thread in another namespace may have no such /proc
}

/**
 * Unmounts the topmost mount of a target together with the mounts that it contains, and retries while one is busy.
 *
 * @param target the mountpoint.
 * @param deadline its flags, and how long to retry and wait.
 * @throws {SyscallError} as {@linkcode unmount} does.
 */
export async function unmountTreeRetrying(target: string, deadline: Deadline): Promise<void> {
  const top = mountAt(target);
  if (top === undefined) return await unmountRetrying(target, deadline);
  makePrivate(target);
  if (!(deadline.flags & MNT_DETACH)) {
    if (await unmountIfChildless(target, deadline)) return;
    try {
      for (const mountpoint of await mountpointsWithin(top)) await unmountRetrying(mountpoint, deadline);
    } catch (error) {
      // In a user namespace, the mounts of a tree are locked to it: they can only be detached as a whole.
      if (isErrno(error, "EINVAL")) return umount2(target, deadline.flags | MNT_DETACH);
      throw error;
    }
  }
  await unmountRetrying(target, deadline);
}

/** Most trees are a single mount: this avoids reading the mount table. A mount with children is busy. */
async function unmountIfChildless(target: string, deadline: Deadline): Promise<boolean> {
  deadline.signal?.throwIfAborted();
  try {
    const result = tryUmountSync(target, deadline.flags, topMount(target, deadline));
    if (result !== "unmounted") await umountMayWait(target, deadline, result);
    return true;
  } catch (error) {
    if (isErrno(error, "EBUSY")) return false;
    throw error;
  }
}

/** A bind of a shared tree is its peer: without this, an unmount here would propagate to the source. */
function makePrivate(target: string): void {
  mount(null, target, null, MS_REC | MS_PRIVATE, null);
}

/** The mountpoints of all descendants of a mount, the deepest first; without mounts that are hidden under it. */
async function mountpointsWithin(top: StatxMount): Promise<string[]> {
  const tree = new Set([top.mountId]);
  const within: string[] = [];
  const mounts = await listMounts();
  for (let size = -1; size !== tree.size;) { // until nothing is added: the table may list a child before its parent
    size = tree.size;
    for (const { id, parent, mountpoint } of mounts) {
      if (!tree.has(parent) || tree.has(id)) continue;
      tree.add(id);
      within.unshift(mountpoint);
    }
  }
  return within;
}
