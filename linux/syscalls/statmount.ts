/**
 * statmount(2) and listmount(2): mounts by their unique ids.
 *
 * @module
 */

import { check, isErrno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { decodeCString } from "../../ffi/memory.ts";
import { getUint64AsNumber, Scratch } from "../../ffi/scratch.ts";
import { STATMOUNT_SB_BASIC } from "./constants.ts";

const SYS_statmount = 457; // asm-generic/unistd.h
const SYS_listmount = 458;

/** What {@linkcode statmount} tells, of struct statmount in linux/mount.h. */
export interface Statmount {
  /** Which of the fields that were asked for hold something (`STATMOUNT_…`). */
  mask: number;
  /** Major number of the file system's device. */
  devMajor: number;
  /** Minor number of the file system's device. */
  devMinor: number;
  /** The file system's magic number (linux/magic.h). */
  magic: number;
  /** The file system's `SB_…` flags. */
  superFlags: number;
  /** The id that mountinfo shows. */
  oldId: number;
  /** The parent's id as mountinfo shows it. */
  oldParentId: number;
  /** `MOUNT_ATTR_…` of the mount. */
  attributes: number;
  /** `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, joined. */
  propagation: number;
  /** The peer group's id, for a shared mount. */
  peerGroup: number;
  /** The master's peer group, for a slave. */
  master: number;
  /** The nearest dominating peer group under the same root, for a slave. */
  propagateFrom: number;
  /** The file system's type. */
  fsType: string;
  /** The subtype, such as "sshfs" of "fuse.sshfs"; "" where there is none. */
  fsSubtype: string;
  /** The directory of the file system that is mounted. */
  root: string;
  /** The mountpoint, seen from this process's root. */
  mountpoint: string;
  /** The file system's options, comma-separated. */
  options: string;
  /** The source, such as a device. */
  source: string;
}

const request = new Scratch(32); // struct mnt_id_req, MNT_ID_REQ_SIZE_VER1
const STRINGS = 512; // offsetof(struct statmount, str)
// Kept and grown: one call at a time uses it, and nothing waits in between.
let mountAnswer = new Scratch(4096);

/**
 * statmount(2): what a mount is, without reading the mount table.
 *
 * Needs the permission `ffi` and Linux 6.8 (the source from 6.13, another namespace from 6.11).
 *
 * @param mountId the unique id, from {@linkcode statx} with `STATX_MNT_ID_UNIQUE`.
 * @param mask `STATMOUNT_…`: what is asked for.
 * @param namespaceId the id of the mount's namespace, from `NS_GET_MNTNS_ID`; this process's own for 0.
 * @returns the fields; those not in the returned mask are 0 or "".
 * @throws {SyscallError} ENOENT where there is no such mount in that mount namespace.
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
      const size = BigInt(mountAnswer.bytes.length);
      check(libc().statmount(SYS_statmount, request.address, mountAnswer.address, size, 0), "statmount");
      return readStatmount(mountAnswer);
    } catch (error) {
      if (!isErrno(error, "EOVERFLOW")) throw error;
      mountAnswer = new Scratch(mountAnswer.bytes.length * 4);
    }
  }
}

/**
 * statmount(2), asked for nothing but its file system's magic number and flags: without a text, it is done in half a
 * microsecond.
 *
 * Needs the permission `ffi` and Linux 6.8.
 *
 * @param mountId the unique id; the kernel counts them up, and none will reach 2^53.
 * @returns the magic number (linux/magic.h) and the file system's `SB_…` flags.
 * @throws {SyscallError} ENOENT where there is no such mount in this mount namespace.
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
  view.setUint32(12, mountId / 2 ** 32, true);
  view.setUint32(16, STATMOUNT_SB_BASIC, true); // param
  check(libc().statmount(SYS_statmount, basicRequest.address, basicAnswer.address, 512n, 0), "statmount");
  return { magic: getUint64AsNumber(basicAnswer.view, 24), superFlags: basicAnswer.view.getUint32(32, true) }; // sb_magic, sb_flags
}

const basicRequest = new Scratch(24); // struct mnt_id_req, MNT_ID_REQ_SIZE_VER0
const basicAnswer = new Scratch(512); // struct statmount without texts

/** Kernels before 6.11 know the struct without its last field. */
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
 * Needs the permission `ffi` and Linux 6.8 (another namespace from 6.11).
 *
 * @param mountId the unique id; `LSMT_ROOT` for all mounts of the namespace.
 * @param namespaceId the id of the mount namespace, from `NS_GET_MNTNS_ID`; this process's own for 0.
 * @returns the ids, in the order that the mounts were made.
 * @throws {SyscallError} ENOENT where there is no such mount in that mount namespace.
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
    const room = BigInt(IDS);
    const found = check(
      libc().listmount(SYS_listmount, request.address, idAnswer.address, room, 0),
      "listmount",
    );
    for (let index = 0; index < found; index++) ids.push(idAnswer.view.getBigUint64(index * 8, true));
    if (found < IDS) return ids;
    last = ids.at(-1) ?? 0n;
  }
}

const IDS = 1024;
const idAnswer = new Scratch(IDS * 8);

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
