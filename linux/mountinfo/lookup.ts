/**
 * The mount that a path is on, by statmount(2) where the kernel has it, otherwise from the mount table.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { O_PATH } from "../syscalls/constants.ts";
import { MOUNT_FIELDS, mountInfoOf, PROPAGATION_FIELDS } from "./from_statmount.ts";
import { findMountById } from "./list_mounts.ts";
import type { MountInfo } from "./parse_mountinfo.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { type MountId, statxMountUniqueFd } from "./statx_mount.ts";
import { type Statmount, statmount } from "../syscalls/mod.ts";

/** How {@linkcode lookupMount} looks. */
export interface LookupOptions extends WaitOptions {
  /** Whether `optional` has `propagate_from:N`, as in `listMounts()`. */
  propagation?: boolean;
}

/**
 * The mount that a path is on.
 *
 * Needs the permission `ffi`. From Linux 6.13 the time does not depend on the number of mounts; older kernels read the
 * whole mount table.
 *
 * @param path a path that exists; symbolic links are followed.
 * @param options the timeout and the signal for a server on the path, and whether to look for `propagate_from`.
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
export async function lookupMount(path: string, options: LookupOptions = {}): Promise<MountInfo> {
  const { propagation = false, ...wait } = options;
  checkWait(wait);
  using opened = await openMayWait(path, O_PATH, wait);
  const found = statxMountUniqueFd(opened);
  if (found.isUnique) return lookupMountId(BigInt(found.mountId), 0n, propagation);
  const mount = await findMountById(found.mountId, propagation);
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
 * @param found the mount, from statx(2).
 * @param mask `STATMOUNT_…` flags: the fields to read.
 * @returns undefined without a unique id: the kernel has no statmount(2), or the path is on a FUSE mount that only its
 * owner may access. The caller then reads the mount table.
 * @throws {SyscallError} ENOENT if the mount was unmounted meanwhile.
 */
export function statmountBy(found: MountId, mask: number): Statmount | undefined {
  return found.isUnique ? statmount(BigInt(found.mountId), mask) : undefined;
}

/**
 * Looks up a mount by its unique id.
 *
 * Needs the permission `ffi` and Linux 6.13.
 *
 * @param mountId the unique id.
 * @param namespaceId the id of its mount namespace; 0 for that of this process.
 * @param propagation whether to look for `propagate_from`.
 * @returns the mount, with the fields of mountinfo; its mountpoint is "" if it is outside of this process's root.
 * @throws {SyscallError} ENOENT if the mount does not exist.
 */
export function lookupMountId(mountId: bigint, namespaceId = 0n, propagation = false): MountInfo {
  const fields = propagation ? PROPAGATION_FIELDS : MOUNT_FIELDS;
  return mountInfoOf(statmount(mountId, fields, namespaceId), mountId, namespaceId);
}
