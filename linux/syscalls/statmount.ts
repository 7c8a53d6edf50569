/**
 * statmount(2) and listmount(2): mounts by their unique ids.
 *
 * @module
 */

import { check, isErrno } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { decodeCString } from "../../ffi/memory.ts";
import { getUint64AsNumber, Scratch } from "../../ffi/scratch.ts";
import { STATMOUNT_SB_BASIC } from "./constants.ts";

const SYS_statmount = 457; // asm-generic/unistd.h
const SYS_listmount = 458;

/** The result of {@linkcode statmount}: fields of struct statmount in linux/mount.h. */
export interface Statmount {
  /** The `STATMOUNT_…` flags of the fields that are filled. */
  mask: number;
  /** Major number of the file system's device. */
  devMajor: number;
  /** Minor number of the file system's device. */
  devMinor: number;
  /** The file system's magic number (linux/magic.h). */
  magic: number;
  /** The file system's `SB_…` flags. */
  superFlags: number;
  /** The mount's id in mountinfo. */
  oldId: number;
  /** The parent mount's id in mountinfo. */
  oldParentId: number;
  /** The mount's `MOUNT_ATTR_…` flags. */
  attributes: number;
  /** `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` and `MS_UNBINDABLE` flags. */
  propagation: number;
  /** The id of its peer group, for a shared mount. */
  peerGroup: number;
  /** The id of its master's peer group, for a slave mount. */
  master: number;
  /** The nearest dominating peer group under the process's root, for a slave mount. */
  propagateFrom: number;
  /** The file system's type. */
  fsType: string;
  /** The subtype, such as "sshfs" of "fuse.sshfs"; "" for none. */
  fsSubtype: string;
  /** The path in the file system that is the root of the mount. */
  root: string;
  /** The mountpoint, as a path from this process's root. */
  mountpoint: string;
  /** The file system's options, comma-separated. */
  options: string;
  /** The source, such as a device. */
  source: string;
}

const request = new Scratch(32); // struct mnt_id_req, MNT_ID_REQ_SIZE_VER1
const STRINGS = 512; // offsetof(struct statmount, str)
// Reused, and replaced by a larger one if needed. Calls are synchronous, so they do not overlap.
let mountResult = new Scratch(4096);

/**
 * statmount(2): the fields of one mount, without reading the mount table.
 *
 * Needs the permission `ffi` and Linux 6.8 (6.11 for another namespace, 6.13 for the source).
 *
 * @param mountId the unique id, from {@linkcode statx} with `STATX_MNT_ID_UNIQUE`.
 * @param mask `STATMOUNT_…` flags: the fields to fill.
 * @param namespaceId the id of the mount's namespace, from `NS_GET_MNTNS_ID`; 0 for that of this process.
 * @returns the fields; those without a flag in the returned mask are 0 or "".
 * @throws {SyscallError} ENOENT if the mount namespace has no such mount.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const { mountId } = linux.statx(linux.AT_FDCWD, "/proc", 0, linux.STATX_MNT_ID_UNIQUE);
 * console.log(linux.statmount(mountId, linux.STATMOUNT_FS_TYPE).fsType); // "proc"
 * ```
 */
export function statmount(mountId: bigint, mask: number, namespaceId = 0n): Statmount {
  setRequest(mountId, BigInt(mask), namespaceId);
  for (;;) {
    try {
      const size = BigInt(mountResult.bytes.length);
      check(
        libc().statmount(SYS_statmount, request.address, mountResult.address, size, 0),
        errno[0],
        "statmount",
      );
      return readStatmount(mountResult);
    } catch (error) {
      if (!isErrno(error, "EOVERFLOW")) throw error;
      mountResult = new Scratch(mountResult.bytes.length * 4);
    }
  }
}

/**
 * statmount(2) for the file system's magic number and flags only. Without strings, the call takes half a microsecond.
 *
 * Needs the permission `ffi` and Linux 6.8.
 *
 * @param mountId the unique id; the kernel counts up and does not reach 2^53.
 * @returns the magic number (linux/magic.h) and the file system's `SB_…` flags.
 * @throws {SyscallError} ENOENT if this mount namespace has no such mount.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const { mountId } = linux.statx(linux.AT_FDCWD, "/proc", 0, linux.STATX_MNT_ID_UNIQUE);
 * console.log(linux.statmountBasic(Number(mountId)).magic.toString(16)); // "9fa0", PROC_SUPER_MAGIC
 * ```
 */
export function statmountBasic(mountId: number): { magic: number; superFlags: number } {
  const { view } = basicRequest;
  view.setUint32(0, 24, true); // size
  view.setUint32(8, mountId % 2 ** 32, true); // mnt_id
  view.setUint32(12, mountId / 2 ** 32, true); // mnt_id, upper half
  view.setUint32(16, STATMOUNT_SB_BASIC, true); // param
  check(
    libc().statmount(SYS_statmount, basicRequest.address, basicResult.address, 512n, 0),
    errno[0],
    "statmount",
  );
  return {
    magic: getUint64AsNumber(basicResult.view, 24), // sb_magic
    superFlags: basicResult.view.getUint32(32, true), // sb_flags
  };
}

const basicRequest = new Scratch(24); // struct mnt_id_req, MNT_ID_REQ_SIZE_VER0
const basicResult = new Scratch(512); // struct statmount without strings

/** Without a namespace id, the struct has the size that kernels before 6.11 take. */
function setRequest(mountId: bigint, param: bigint, namespaceId: bigint): void {
  const { view } = request;
  view.setUint32(0, namespaceId === 0n ? 24 : 32, true); // size
  view.setBigUint64(8, mountId, true); // mnt_id
  view.setBigUint64(16, param, true); // param
  view.setBigUint64(24, namespaceId, true); // mnt_ns_id
}

/**
 * listmount(2): the unique ids of the mounts below a mount.
 *
 * Needs the permission `ffi` and Linux 6.8 (6.11 for another namespace).
 *
 * @param mountId the unique id; `LSMT_ROOT` for all mounts of the namespace.
 * @param namespaceId the id of the mount namespace, from `NS_GET_MNTNS_ID`; 0 for that of this process.
 * @returns the ids, in ascending order, which is the order in which the mounts were created.
 * @throws {SyscallError} ENOENT if the mount namespace has no such mount.
 *
 * @example
 * ```ts
 * import { listmount, LSMT_ROOT } from "@denomount/mount/linux";
 *
 * console.log(listmount(LSMT_ROOT).length, "mounts");
 * ```
 */
export function listmount(mountId: bigint, namespaceId = 0n): bigint[] {
  const ids: bigint[] = [];
  for (let last = 0n;;) {
    setRequest(mountId, last, namespaceId);
    const count = BigInt(IDS);
    const found = check(
      libc().listmount(SYS_listmount, request.address, idResult.address, count, 0),
      errno[0],
      "listmount",
    );
    for (let index = 0; index < found; index++) ids.push(idResult.view.getBigUint64(index * 8, true));
    if (found < IDS) return ids;
    last = ids.at(-1) ?? 0n;
  }
}

const IDS = 1024; // for each call
const idResult = new Scratch(IDS * 8);

function readStatmount({ view, bytes }: Scratch): Statmount {
  const mask = getUint64AsNumber(view, 8); // mask
  const text = (bit: number, offset: number) =>
    mask & bit ? decodeCString(bytes, STRINGS + view.getUint32(offset, true)) : "";
  return {
    mask,
    devMajor: view.getUint32(16, true), // sb_dev_major
    devMinor: view.getUint32(20, true), // sb_dev_minor
    magic: getUint64AsNumber(view, 24), // sb_magic
    superFlags: view.getUint32(32, true), // sb_flags
    oldId: view.getUint32(56, true), // mnt_id_old
    oldParentId: view.getUint32(60, true), // mnt_parent_id_old
    attributes: getUint64AsNumber(view, 64), // mnt_attr
    propagation: getUint64AsNumber(view, 72), // mnt_propagation
    peerGroup: getUint64AsNumber(view, 80), // mnt_peer_group
    master: getUint64AsNumber(view, 88), // mnt_master
    propagateFrom: getUint64AsNumber(view, 96), // propagate_from
    options: text(0x80, 4), // mnt_opts
    fsType: text(0x20, 36), // fs_type
    root: text(8, 104), // mnt_root
    mountpoint: text(0x10, 108), // mnt_point
    fsSubtype: text(0x100, 120), // fs_subtype
    source: text(0x200, 124), // sb_source
  };
}
