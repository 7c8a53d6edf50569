/**
 * The mount that a path is on, by statmount(2) where the kernel has it, otherwise from the mount table.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
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
  O_PATH,
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
import { findMountById } from "./list_mounts.ts";
import type { MountInfo } from "./parse_mountinfo.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { type StatxMount, statxMountUniqueFd } from "./statx_mount.ts";
import { type Statmount, statmount } from "../syscalls/mod.ts";

/**
 * The mount that a path is on.
 *
 * Needs the permission `ffi`. From Linux 6.13 the time does not depend on the number of mounts; older kernels read the
 * whole mount table.
 *
 * @param path a path that exists; symbolic links are followed.
 * @param wait the timeout and the signal for a server on the path.
 * @returns the mount, with the fields of mountinfo.
 * @throws {SyscallError} ENOENT if the path does not exist, ETIMEDOUT if a server on the path does not answer.
 *
 * @example
 * ```ts
 * import { lookupMount } from "@denomount/mount";
 *
 * console.log((await lookupMount("/proc/self/status")).fsType); // "proc"
 * ```
 */
export async function lookupMount(path: string, wait: WaitOptions = {}): Promise<MountInfo> {
  checkWait(wait);
  using opened = await openMayWait(path, O_PATH, wait);
  const found = statxMountUniqueFd(opened);
  const fields = statmountBy(found, ALL_FIELDS);
  if (fields) return mountInfo(fields);
  const mount = await findMountById(found.mountId);
  if (mount === undefined) throw new Error(`the mount of ${path} was unmounted while it was looked up`);
  return mount;
}

/**
 * Whether a path is a mountpoint.
 *
 * Needs the permission `ffi` and Linux 5.8. The time does not depend on the number of mounts.
 *
 * @param path the path; symbolic links are followed.
 * @param wait the timeout and the signal for a server on the path.
 * @returns true for the root of a mount, also of a bind mount; false for any other path, also a missing one.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer; other errors of openat2(2), such as EACCES.
 *
 * @example
 * ```ts
 * import { isMountpoint } from "@denomount/mount";
 *
 * if (!(await isMountpoint("/proc"))) throw new Error("/proc is not mounted");
 * ```
 */
export async function isMountpoint(path: string, wait: WaitOptions = {}): Promise<boolean> {
  checkWait(wait);
  try {
    using opened = await openMayWait(path, O_PATH, wait);
    return statxMountUniqueFd(opened).isRoot;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

/**
 * The fields of a mount from statmount(2).
 *
 * @param found the result of {@linkcode statxMountUniqueFd}.
 * @param mask `STATMOUNT_…` flags: the fields to read.
 * @returns undefined without a unique id: the kernel has no statmount(2), or the path is on a FUSE mount that only its
 * owner may access. The caller then reads the mount table.
 * @throws {SyscallError} ENOENT if the mount was unmounted meanwhile.
 */
export function statmountBy(found: StatxMount, mask: number): Statmount | undefined {
  return found.isUnique ? statmount(BigInt(found.mountId), mask) : undefined;
}

const ALL_FIELDS = STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_PROPAGATE_FROM | STATMOUNT_MNT_ROOT |
  STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE | STATMOUNT_MNT_OPTS | STATMOUNT_FS_SUBTYPE | STATMOUNT_SB_SOURCE;

/**
 * Looks up a mount by its unique id.
 *
 * Needs the permission `ffi` and Linux 6.13.
 *
 * @param mountId the unique id.
 * @param namespaceId the id of its mount namespace; 0 for that of this process.
 * @returns the mount, with the fields of mountinfo; its mountpoint is "" if it is outside of this process's root.
 * @throws {SyscallError} ENOENT if the mount does not exist.
 */
export function lookupMountId(mountId: bigint, namespaceId = 0n): MountInfo {
  return mountInfo(statmount(mountId, ALL_FIELDS, namespaceId));
}

/** The fields as show_mountinfo() writes them, in the same order (fs/proc_namespace.c). */
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
