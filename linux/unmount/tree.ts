/**
 * Taking off a mount with all that is mounted within it: a recursive bind, with what came with it.
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
import { openTopMount, procFdPath } from "../path/mount_target.ts";
import { umountOnce } from "./umount_once.ts";

/**
 * Takes the topmost mount off a target with all that is mounted within it: a recursive bind with what came with it.
 *
 * @param target the mountpoint.
 * @param options how.
 * @throws {SyscallError} as {@linkcode unmount} does.
 */
export async function unmountTree(target: string, options: UnmountOptions = {}): Promise<void> {
  const effort = new Deadline(options);
  await ensureResolvable(target, effort);
  await unmountTreeRetrying(target, effort);
}

/**
 * Takes a tree of mounts out of sight at once, however busy it is. For what nobody was told of yet.
 *
 * @param target the mountpoint.
 */
export function detachTree(target: string): void {
  makePrivate(target);
  umount2(target, MNT_DETACH);
}

/**
 * The same for what is mounted on a place that is still held, wherever it has been renamed to.
 *
 * @param place the place.
 */
export function detachTopMount(place: OwnedFd): void {
  using top = openTopMount(place);
  detachTree(isRedirected() ? top.path : procFdPath(top)); // /proc is looked up on this side, whose mounts these are not
}

/**
 * The same, for a call that takes more off than this.
 *
 * @param target the mountpoint.
 * @param effort how hard to try.
 */
export async function unmountTreeRetrying(target: string, effort: Deadline): Promise<void> {
  const top = mountAt(target);
  if (top === undefined) return await unmountRetrying(target, effort);
  makePrivate(target);
  if (!(effort.flags & MNT_DETACH)) {
    if (await comesOffAlone(target, effort)) return;
    try {
      for (const mountpoint of await mountedWithin(top)) await unmountRetrying(mountpoint, effort);
    } catch (error) {
      // In a user namespace, what came with the tree is locked to it, and comes off with it and in no other way.
      if (isErrno(error, "EINVAL")) return umount2(target, effort.flags | MNT_DETACH);
      throw error;
    }
  }
  await unmountRetrying(target, effort);
}

/** Most trees are of one mount: then the mount table need not be read. */
async function comesOffAlone(target: string, effort: Deadline): Promise<boolean> {
  try {
    effort.signal?.throwIfAborted();
    await umountOnce(target, effort.flags, topMount(target, effort), effort);
    return true;
  } catch (error) {
    if (isErrno(error, "EBUSY")) return false;
    throw error;
  }
}

/** A bind of a shared tree is its peer: without this, an unmount in one would be one in the other. */
function makePrivate(target: string): void {
  mount(null, target, null, MS_REC | MS_PRIVATE, null);
}

/** The mountpoints within a mount, the deepest first; what is hidden under that mount is not. */
async function mountedWithin(top: StatxMount): Promise<string[]> {
  const tree = new Set([top.mountId]);
  const within: string[] = [];
  const mounts = await listMounts();
  for (let found = -1; found !== tree.size;) { // again while there is news: a child may stand before its parent
    found = tree.size;
    for (const { id, parent, mountpoint } of mounts) {
      if (!tree.has(parent) || tree.has(id)) continue;
      tree.add(id);
      within.unshift(mountpoint);
    }
  }
  return within;
}
