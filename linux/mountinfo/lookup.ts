/**
 * Which mount a path is on, without reading the mount table where the kernel can tell.
 *
 * @module
 */

import {
  MOUNT_ATTR__ATIME,
  MOUNT_ATTR_IDMAP,
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_NOSYMFOLLOW,
  MOUNT_ATTR_RDONLY,
  MOUNT_ATTR_RELATIME,
  MS_DIRSYNC,
  MS_LAZYTIME,
  MS_MANDLOCK,
  MS_SHARED,
  MS_SLAVE,
  MS_SYNCHRONOUS,
  MS_UNBINDABLE,
  STATMOUNT_FS_SUBTYPE,
  STATMOUNT_FS_TYPE,
  STATMOUNT_MNT_BASIC,
  STATMOUNT_MNT_OPTS,
  STATMOUNT_MNT_POINT,
  STATMOUNT_MNT_ROOT,
  STATMOUNT_PROPAGATE_FROM,
  STATMOUNT_SB_BASIC,
  STATMOUNT_SB_SOURCE,
} from "../syscalls/constants.ts";
import { listMounts } from "./list_mounts.ts";
import type { MountInfo } from "./parse_mountinfo.ts";
import { ensureResolvable, isCached, resolveOffThread, type WaitOptions } from "../path/cached_lookup.ts";
import { mountAt, type StatxMount, statxMountUnique } from "./statx_mount.ts";
import { type Statmount, statmount } from "../syscalls/mod.ts";

/**
 * The mount that a path is on.
 *
 * Needs the permission `ffi`. From Linux 6.13 it takes a few microseconds however many mounts there are; before, the
 * mount table is read.
 *
 * @param path a path that exists; symbolic links are followed.
 * @param patience how long a server on the way may take.
 * @returns the mount, as mountinfo would show it.
 * @throws {SyscallError} ENOENT where the path does not exist, ETIMEDOUT where a server on the way does not answer.
 *
 * @example
 * ```ts
 * import { lookupMount } from "@denomount/mount";
 *
 * console.log((await lookupMount("/proc/self/status")).fsType); // "proc"
 * ```
 */
export async function lookupMount(path: string, patience: WaitOptions = {}): Promise<MountInfo> {
  await ensureResolvable(path, patience);
  const spot = statxMountUnique(path);
  const quick = statmountBy(spot, EVERYTHING);
  if (quick) return mountInfo(quick);
  const id = spot.mountId;
  const filter = (info: MountInfo) => info.id === id ? { stop: true } : { skip: true };
  const [mount] = await listMounts({ filter });
  if (mount === undefined) throw new Error(`the mount of ${path} went away while it was looked up`);
  return mount;
}

/**
 * Whether something is mounted on a path.
 *
 * Needs the permission `ffi` and Linux 5.8. Takes a few microseconds however many mounts there are.
 *
 * @param path the path; symbolic links are followed.
 * @param patience how long a server on the way may take.
 * @returns true for the root of a mount, of a bind too; false for anything else, also where nothing exists.
 * @throws {SyscallError} where the path can't be looked at, such as EACCES; ETIMEDOUT where a server on the way does not
 * answer.
 *
 * @example
 * ```ts
 * import { isMountpoint } from "@denomount/mount";
 *
 * if (!(await isMountpoint("/proc"))) throw new Error("no /proc");
 * ```
 */
export async function isMountpoint(path: string, patience: WaitOptions = {}): Promise<boolean> {
  if (!isCached(path, patience)) await resolveOffThread(path, patience);
  return mountAt(path) !== undefined;
}

/**
 * What statmount(2) tells of a mount.
 *
 * @param spot what {@linkcode statxMountUnique} has told.
 * @param mask `STATMOUNT_…`: what is asked for.
 * @returns undefined where it has told no unique id: the kernel has no statmount(2), or the path's FUSE server lets
 * nobody but its owner ask. Then the mount table has to be read.
 */
export function statmountBy(spot: StatxMount, mask: number): Statmount | undefined {
  return spot.isUnique ? statmount(BigInt(spot.mountId), mask) : undefined;
}

const EVERYTHING = STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_PROPAGATE_FROM | STATMOUNT_MNT_ROOT |
  STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE | STATMOUNT_MNT_OPTS | STATMOUNT_FS_SUBTYPE | STATMOUNT_SB_SOURCE;

/**
 * A mount by its unique id.
 *
 * @param mountId the id.
 * @param namespaceId the id of its mount namespace; this process's own for 0.
 * @returns the mount, as mountinfo would show it; its mountpoint is "" where it is outside of this process's root.
 * @throws {SyscallError} ENOENT where there is no such mount any more.
 */
export function mountOfId(mountId: bigint, namespaceId = 0n): MountInfo {
  return mountInfo(statmount(mountId, EVERYTHING, namespaceId));
}

/** The fields in the words of mountinfo: the same order as in show_mountinfo() of the kernel's fs/proc_namespace.c. */
function mountInfo(mount: Statmount): MountInfo {
  return {
    id: mount.oldId,
    parent: mount.oldParentId,
    major: mount.devMajor,
    minor: mount.devMinor,
    root: mount.root,
    mountpoint: mount.mountpoint,
    options: attributeNames(mount.attributes),
    optional: propagationNames(mount),
    fsType: mount.fsType + (mount.fsSubtype && `.${mount.fsSubtype}`),
    source: mount.source,
    vfsOptions: superFlagNames(mount.superFlags) + (mount.options && `,${mount.options}`),
  };
}

function attributeNames(attributes: number): string {
  const names = [attributes & MOUNT_ATTR_RDONLY ? "ro" : "rw"];
  if (attributes & MOUNT_ATTR_NOSUID) names.push("nosuid");
  if (attributes & MOUNT_ATTR_NODEV) names.push("nodev");
  if (attributes & MOUNT_ATTR_NOEXEC) names.push("noexec");
  if ((attributes & MOUNT_ATTR__ATIME) === MOUNT_ATTR_NOATIME) names.push("noatime");
  if (attributes & MOUNT_ATTR_NODIRATIME) names.push("nodiratime");
  if ((attributes & MOUNT_ATTR__ATIME) === MOUNT_ATTR_RELATIME) names.push("relatime");
  if (attributes & MOUNT_ATTR_NOSYMFOLLOW) names.push("nosymfollow");
  if (attributes & MOUNT_ATTR_IDMAP) names.push("idmapped");
  return names.join(",");
}

function propagationNames(mount: Statmount): string {
  const names: string[] = [];
  if (mount.propagation & MS_SHARED) names.push(`shared:${mount.peerGroup}`);
  if (mount.propagation & MS_SLAVE) {
    names.push(`master:${mount.master}`);
    if (mount.propagateFrom && mount.propagateFrom !== mount.master) {
      names.push(`propagate_from:${mount.propagateFrom}`);
    }
  }
  if (mount.propagation & MS_UNBINDABLE) names.push("unbindable");
  return names.join(" ");
}

function superFlagNames(flags: number): string {
  const names = [flags & 1 ? "ro" : "rw"]; // SB_RDONLY
  if (flags & MS_SYNCHRONOUS) names.push("sync");
  if (flags & MS_DIRSYNC) names.push("dirsync");
  if (flags & MS_MANDLOCK) names.push("mand");
  if (flags & MS_LAZYTIME) names.push("lazytime");
  return names.join(",");
}
