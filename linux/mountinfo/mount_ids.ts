/**
 * The unique ids of mounts.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { STATMOUNT_MNT_BASIC } from "../syscalls/constants.ts";
import { LISTMOUNT_IDS, listmountPage, statmount } from "../syscalls/mod.ts";

/**
 * The mounts below a mount, at any depth, in steps. The kernel looks at all mounts of the namespace, in some 30 nanoseconds each.
 *
 * Needs the permission `ffi` and Linux 6.8.
 *
 * @param mountId the unique id; `LSMT_ROOT` for all mounts of the namespace.
 * @param namespaceId the id of the mount namespace; 0 for that of this process.
 * @returns the unique ids, in ascending order.
 * @throws {SyscallError} ENOENT if the mount namespace has no such mount.
 */
export function* subtreeIds(mountId: bigint, namespaceId = 0n): Generator<void, number[]> {
  const ids: number[] = [];
  for (;;) {
    const page = listmountPage(mountId, BigInt(ids.at(-1) ?? 0), namespaceId);
    for (const id of page) ids.push(id);
    if (page.length < LISTMOUNT_IDS) return ids;
    yield;
  }
}

/**
 * The id of a mount in mountinfo.
 *
 * Needs the permission `ffi` and Linux 6.8.
 *
 * @param mountId the unique id.
 * @param namespaceId the id of the mount namespace; 0 for that of this process.
 * @returns undefined if the mount namespace has no such mount.
 */
export function oldIdOf(mountId: number, namespaceId = 0n): number | undefined {
  try {
    return statmount(BigInt(mountId), STATMOUNT_MNT_BASIC, namespaceId).oldId;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
