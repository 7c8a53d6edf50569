/**
 * Unmounting what a handle has mounted, by the mounts' ids: never another mount at the same path.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import { lookupMount, lookupMountId } from "../mountinfo/lookup.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { type StatxMount, uniqueMountAt } from "../mountinfo/statx_mount.ts";
import {
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_STATX_DONT_SYNC,
  MNT_DETACH,
  STATX_MNT_ID,
  STATX_MNT_ID_UNIQUE,
} from "../syscalls/constants.ts";
import { statx, umount2 } from "../syscalls/mod.ts";
import { Deadline } from "./deadline.ts";
import { resolveTopMount, unmountRetrying } from "./retry.ts";
import { unmountTreeRetrying } from "./tree.ts";

/** One attached mount. */
export interface AttachedMount {
  /** Its mountpoint when it was attached. */
  readonly mountpoint: string;
  /** Whether it is a recursive bind, which brings mounts below it. */
  readonly isTree: boolean;
  /** Whether it may be a peer of its source. */
  readonly isPeer: boolean;
  /** Its id: the unique one if the kernel has that, else that of mountinfo. */
  readonly id: number;
  /** Whether the id is the unique one. */
  readonly isUnique: boolean;
}

/**
 * Throws if a mount that is not of the list is on top of one of its mountpoints: before anything is unmounted.
 *
 * @param list the mounts.
 * @param deadline how long to wait for a server on the way.
 * @throws {SyscallError} EBUSY that names the mount on top.
 */
export async function refuseCovered(list: readonly AttachedMount[], deadline: Deadline): Promise<void> {
  for (const { mountpoint } of list) {
    const top = await resolveTopMount(mountpoint, deadline.restarted());
    if (top === undefined || list.some((own) => isTop(own, top, mountpoint))) continue;
    for (const own of list) if (own.mountpoint === mountpoint) await locate(own, deadline);
  }
}

/**
 * Unmounts a mount, with those below it if it is a recursive bind.
 *
 * @param own the mount.
 * @param deadline its flags, and how long to retry and wait.
 * @throws {SyscallError} EBUSY if another mount is on top, or if it is in use.
 */
export async function unmountOwn(own: AttachedMount, deadline: Deadline): Promise<void> {
  const { mountpoint, isTree } = own;
  const found = resolveTopMount(mountpoint, deadline);
  const top = found instanceof Promise ? await found : found;
  const path = top && isTop(own, top, mountpoint) ? mountpoint : await locate(own, deadline);
  if (path === undefined) return;
  if (isTree) await unmountTreeRetrying(path, deadline);
  else await unmountRetrying(path, deadline, undefined, (found) => isTop(own, found, path));
}

/**
 * Where a mount is now that is not on top at the mountpoint where it was attached.
 *
 * @returns its mountpoint; undefined if it is no longer mounted.
 * @throws {SyscallError} EBUSY if another mount is on top of it.
 */
async function locate(own: AttachedMount, deadline: Deadline): Promise<string | undefined> {
  const info = await findMount(own);
  if (info === undefined) return undefined;
  const top = await resolveTopMount(info.mountpoint, deadline);
  if (top && isTop(own, top, info.mountpoint)) return info.mountpoint;
  throw await coveredError(info.mountpoint);
}

async function findMount({ id, isUnique }: AttachedMount): Promise<MountInfo | undefined> {
  if (isUnique) {
    try {
      const info = lookupMountId(BigInt(id));
      return info.mountpoint === "" ? undefined : info;
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }
  const [info] = await listMounts({ filter: (mount) => mount.id === id ? { stop: true } : { skip: true } });
  return info;
}

async function coveredError(path: string): Promise<SyscallError> {
  const { fsType, source } = await lookupMount(path);
  return new SyscallError({
    syscall: "umount2",
    errno: errnoNumber("EBUSY"),
    path: `${path}, with ${fsType} ${source} mounted on top of it`,
  });
}

/**
 * Detaches a mount with the mounts below it, even if they are busy: for a rollback, of a mount that the caller has not
 * seen yet. Nothing of a recursive bind's source is detached: the bind is a slave of it, or becomes one first.
 *
 * @param own the mount.
 * @returns false if another mount is on top of it, so that it stays.
 */
export async function detachOwn(own: AttachedMount): Promise<boolean> {
  let path = own.mountpoint;
  if (!isOnTop(own, path)) {
    const info = await findMount(own);
    if (info === undefined) return true;
    path = info.mountpoint;
    if (!isOnTop(own, path)) return false;
  }
  if (own.isPeer) await unmountTreeRetrying(path, new Deadline({ detach: true }));
  else umount2(path, MNT_DETACH);
  return true;
}

function isOnTop(own: AttachedMount, path: string): boolean {
  const top = uniqueMountAt(path);
  return top !== undefined && isTop(own, top, path);
}

/** Compares ids of the same kind: in a process that tests a fallback, they may have been read by different ones. */
function isTop({ id, isUnique }: AttachedMount, top: StatxMount, path: string): boolean {
  if (top.isUnique === isUnique) return top.mountId === id;
  const { mountId } = isUnique
    ? statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_MNT_ID_UNIQUE)
    : statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_MNT_ID);
  return Number(mountId) === id;
}
