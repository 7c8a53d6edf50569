/**
 * Unmounting what a handle has mounted, by the mounts' ids: never another mount at the same path.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { findMountById, listMounts } from "../mountinfo/list_mounts.ts";
import { lookupMountId } from "../mountinfo/lookup.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { deviceNumber, type StatxMount } from "../mountinfo/statx_mount.ts";
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
import { hidersIn } from "./order.ts";
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
  /** Whether the id is the unique one. Another one is used again for another mount, once this mount is gone. */
  readonly isUnique: boolean;
  /** The file system's device: major and minor as one number. */
  readonly device: number;
  /** Whether its last unmount has nothing to write and little to free. */
  readonly isImmediate: boolean;
}

/**
 * Throws if a mount that is not of the list covers or hides one of it: before anything is unmounted.
 *
 * @param list the mounts.
 * @param deadline how long to wait for a server on the way.
 * @throws {SyscallError} EBUSY that names the mount on top.
 */
export async function refuseCovered(list: readonly AttachedMount[], deadline: Deadline): Promise<void> {
  for (const own of list) {
    const top = await resolveTopMount(own.mountpoint, deadline.restarted());
    if (!top || !isTop(own, top, own.mountpoint)) return await refuseHidden(list); // or it was moved, or unmounted
  }
}

async function refuseHidden(list: readonly AttachedMount[]): Promise<void> {
  const infos = (await Promise.all(list.map(findMount))).filter((info) => info !== undefined);
  const table = await listMounts();
  const hidersOf = hidersIn(table);
  const ids = new Set(infos.map(({ id }) => id));
  for (const info of infos) {
    const [hider] = hidersOf(info).filter(({ id }) => !ids.has(id));
    if (hider) throw coveredError(info.mountpoint, topOf(hider, table));
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
  if (isTree) return await unmountTreeRetrying(path, deadline);
  let isCovered = false;
  // What was found without waiting is still on top: nothing else has run meanwhile in this process.
  const known = found instanceof Promise || path !== mountpoint ? undefined : found;
  await unmountRetrying(path, deadline, known, (found) => {
    isCovered = !isTop(own, found, path);
    return !isCovered;
  }, own.isImmediate);
  if (isCovered) await unmountOwn(own, deadline); // moved, gone, or covered while it was busy
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
  const { mountpoint } = info;
  const top = await resolveTopMount(mountpoint, deadline);
  if (top && isTop(own, top, mountpoint)) return mountpoint;
  const table = await listMounts();
  const [hider] = hidersIn(table)(info);
  throw coveredError(mountpoint, hider && topOf(hider, table));
}

async function findMount(
  { id, isUnique, mountpoint, device }: AttachedMount,
): Promise<MountInfo | undefined> {
  if (isUnique) {
    try {
      const info = lookupMountId(BigInt(id));
      return info.mountpoint === "" ? undefined : info;
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }
  const info = await findMountById(id);
  if (info === undefined || info.mountpoint === mountpoint) return info;
  if (deviceNumber(info.major, info.minor) !== device) return undefined; // the id was used again
  throw new SyscallError({
    syscall: "umount2",
    errno: errnoNumber("EBUSY"),
    path: info.mountpoint,
    reason: `${info.mountpoint} was ${mountpoint}, or is another mount with the same id`,
  });
}

/** The last one of a stack. */
function topOf(info: MountInfo, table: readonly MountInfo[]): MountInfo {
  const byParent = new Map(
    table.filter(({ mountpoint }) => mountpoint === info.mountpoint).map((m) => [m.parent, m]),
  );
  let top = info;
  for (let next = byParent.get(top.id); next && next !== top; next = byParent.get(top.id)) top = next;
  return top;
}

/** Without a table row, the other mount is gone again, and the next attempt succeeds. */
function coveredError(path: string, top: MountInfo | undefined): SyscallError {
  const what = top && `${top.fsType} ${top.source}`;
  const where = top && top.mountpoint !== path ? `${top.mountpoint}, above it` : "top of it";
  return new SyscallError({
    syscall: "umount2",
    errno: errnoNumber("EBUSY"),
    path,
    reason: `${path}, with ${what ?? "another mount"} mounted on ${where}, can't be unmounted before that`,
  });
}

/**
 * Detaches a mount with the mounts below it, even if they are busy: for a rollback, of a mount that the caller has not
 * seen yet. Nothing of a recursive bind's source is detached: the bind is a slave of it, or becomes one first.
 *
 * @param own the mount.
 * @param deadline how long to wait for a server on the way.
 * @returns false if another mount is on top of it, so that it stays.
 * @throws {SyscallError} ETIMEDOUT if a server on the way does not answer.
 */
export async function detachOwn(own: AttachedMount, deadline: Deadline): Promise<boolean> {
  let path = own.mountpoint;
  if (!await isOnTop(own, path, deadline)) {
    const info = await findMount(own);
    if (info === undefined) return true;
    path = info.mountpoint;
    if (!await isOnTop(own, path, deadline)) return false;
  }
  if (own.isPeer) await unmountTreeRetrying(path, deadline);
  else umount2(path, MNT_DETACH);
  return true;
}

/**
 * {@linkcode detachOwn} for a rollback, whose caller gets another error: what stays mounted is said.
 *
 * @param own the mount.
 * @param timeout how long to wait for a server on the way, in milliseconds; 2500 if left out.
 */
export async function detachOrWarn(own: AttachedMount, timeout?: number): Promise<void> {
  const { mountpoint } = own;
  await warnOfServer(`${mountpoint} stays mounted`, async () => {
    if (await detachOwn(own, new Deadline({ detach: true, timeout }))) return;
    console.warn(`${mountpoint} stays mounted, because another mount was made on top of it`);
  });
}

/**
 * Runs a step of a rollback, and says what stays because a server does not answer.
 *
 * @param what what stays then.
 * @param step takes it off.
 */
export async function warnOfServer(what: string, step: () => Promise<void>): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (!isErrno(error, "ETIMEDOUT")) throw error;
    console.warn(`${what}, because a server on its path does not answer`);
  }
}

async function isOnTop(own: AttachedMount, path: string, deadline: Deadline): Promise<boolean> {
  const top = await resolveTopMount(path, deadline.restarted());
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
