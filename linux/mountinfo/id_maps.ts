/**
 * The id maps of id-mapped mounts, from Linux 6.15. mountinfo only says "idmapped".
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import {
  LSMT_ROOT,
  NS_GET_MNTNS_ID,
  O_RDONLY,
  STATMOUNT_MNT_GIDMAP,
  STATMOUNT_MNT_UIDMAP,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { ioctlStruct, open, statmount } from "../syscalls/mod.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { oldIdOf, subtreeIds } from "./mount_ids.ts";
import type { MappedLine, MountInfo } from "./parse_mountinfo.ts";

/** The id maps of a mount; none if the kernel does not tell. */
export type IdMaps = Pick<MountInfo, "uidmap" | "gidmap">;

/**
 * Reads the id maps of a mount.
 *
 * Needs the permission `ffi`.
 *
 * @param mountId its unique id.
 * @param namespaceId the id of its mount namespace; 0 for that of this process.
 * @returns the maps. A range that this process's user namespace does not have is left out by the kernel.
 */
export function readIdMaps(mountId: bigint, namespaceId = 0n): IdMaps {
  if (!hasFeature("mountIdMaps")) return {};
  try {
    const { uidMap, gidMap } = statmount(mountId, STATMOUNT_MNT_UIDMAP | STATMOUNT_MNT_GIDMAP, namespaceId);
    // None of the ranges is known in this process's user namespace.
    if (uidMap.length === 0 && gidMap.length === 0) return {};
    return { uidmap: textOf(uidMap), gidmap: textOf(gidMap) };
  } catch (error) {
    if (isErrno(error, "ENOENT")) return {}; // unmounted meanwhile
    throw error;
  }
}

function textOf(ranges: readonly string[]): string {
  return ranges.map((range) => range.replaceAll(" ", ":")).join(",");
}

/**
 * Adds the id maps to mounts that were read from mountinfo, in steps.
 *
 * Needs the permission `ffi`.
 *
 * @param mapped the id-mapped mounts of the table.
 * @param pid the process of the table; this process if left out.
 */
export function* addIdMaps(mapped: readonly MappedLine[], pid?: number): Generator<void, void> {
  if (mapped.length === 0 || !hasFeature("mountIdMaps")) return;
  try {
    const namespaceId = pid === undefined ? 0n : namespaceIdOf(pid);
    const ids = yield* subtreeIds(LSMT_ROOT, namespaceId);
    for (const { mount, index } of mapped) {
      const found = near(index, ids, (id) => oldIdOf(id, namespaceId) === mount.id);
      if (found !== undefined) Object.assign(mount, readIdMaps(BigInt(found), namespaceId));
      yield;
    }
  } catch (error) {
    // Without CAP_SYS_ADMIN in that namespace, or its process has ended.
    if (!isErrno(error, "EPERM", "EACCES", "ENOENT", "ENOTTY")) throw error;
  }
}

const MOVED = 64; // mounts that were mounted or unmounted since mountinfo was read

/** Both lists have the order of the unique ids, so a mount is at the same place in both, or near it. */
function near(index: number, ids: readonly number[], isMount: (id: number) => boolean): number | undefined {
  for (let distance = 0; distance <= MOVED; distance++) {
    for (const at of distance === 0 ? [index] : [index - distance, index + distance]) {
      const id = ids[at];
      if (id !== undefined && isMount(id)) return id;
    }
  }
  return undefined;
}

function namespaceIdOf(pid: number): bigint {
  using namespace = open(`/proc/${pid}/ns/mnt`, O_RDONLY);
  return namespaceId(namespace);
}

/**
 * The id of a mount namespace, which listmount(2) and statmount(2) take.
 *
 * Needs the permission `ffi` and Linux 6.11.
 *
 * @param namespace the open namespace.
 * @returns the id.
 * @throws {SyscallError} ENOTTY before Linux 6.11.
 */
export function namespaceId(namespace: OwnedFd): bigint {
  const id = new BigUint64Array(1);
  ioctlStruct(namespace.fd, NS_GET_MNTNS_ID, new Uint8Array(id.buffer), "/proc/PID/ns/mnt");
  return id[0] ?? 0n;
}
