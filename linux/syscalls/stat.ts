/**
 * The system calls that tell what a path and a mount are, one to one.
 *
 * @module
 */

import { check, isErrno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { cString, decodeCString, offThread, scratchCString } from "../../ffi/memory.ts";
import { getUint64AsNumber, Scratch } from "../../ffi/scratch.ts";
import { AT_FDCWD, STATMOUNT_SB_BASIC } from "./constants.ts";

const SYS_statmount = 457; // asm-generic/unistd.h
const SYS_listmount = 458;

/** What {@linkcode statx} tells, of struct statx in linux/stat.h. */
export interface Statx {
  /** Which of the fields that were asked for hold something (`STATX_…`). */
  mask: number;
  /** `STATX_ATTR_…` that are set. */
  attributes: number;
  /** The attributes that this file system tells about. */
  attributesMask: number;
  /** The owner. */
  uid: number;
  /** The owning group. */
  gid: number;
  /** Type and permission bits. */
  mode: number;
  /** The inode's number. */
  inode: bigint;
  /** Major number of the device that the file is on. */
  devMajor: number;
  /** Minor number of the device that the file is on. */
  devMinor: number;
  /** For a device file: its own major number. */
  rdevMajor: number;
  /** For a device file: its own minor number. */
  rdevMinor: number;
  /** The mount's id: that of mountinfo for `STATX_MNT_ID`, the unique one for `STATX_MNT_ID_UNIQUE`. */
  mountId: bigint;
}

/**
 * statx(2): what a path is, and which mount it is on.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd where a relative path starts.
 * @param path the path; "" with `AT_EMPTY_PATH`.
 * @param flags `AT_…` flags. With `AT_STATX_DONT_SYNC` it never waits for a server.
 * @param mask `STATX_…`: what is asked for.
 * @returns the fields.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, AT_STATX_DONT_SYNC, STATX_ATTR_MOUNT_ROOT, statx } from "@denomount/mount/linux";
 *
 * const { attributes } = statx(AT_FDCWD, "/proc", AT_STATX_DONT_SYNC, 0);
 * if (!(attributes & STATX_ATTR_MOUNT_ROOT)) throw new Error("/proc is no mountpoint");
 * ```
 */
export function statx(dirfd: number, path: string, flags: number, mask: number): Statx {
  const { view } = statxAnswer;
  check(
    libc().statx(dirfd, scratchCString(path), flags, mask, statxAnswer.address),
    "statx",
    path || undefined,
  );
  return {
    mask: view.getUint32(0, true), // stx_mask
    attributes: view.getUint32(8, true), // stx_attributes, whose upper half is unused
    uid: view.getUint32(20, true), // stx_uid
    gid: view.getUint32(24, true), // stx_gid
    mode: view.getUint16(28, true), // stx_mode
    inode: view.getBigUint64(32, true), // stx_ino
    attributesMask: view.getUint32(56, true), // stx_attributes_mask
    rdevMajor: view.getUint32(128, true), // stx_rdev_major
    rdevMinor: view.getUint32(132, true), // stx_rdev_minor
    devMajor: view.getUint32(136, true), // stx_dev_major
    devMinor: view.getUint32(140, true), // stx_dev_minor
    mountId: view.getBigUint64(144, true), // stx_mnt_id
  };
}

/**
 * statx(2) on another thread, for a path that leads over a server which may not answer. What it tells is not returned:
 * when it is done, statx(2) on this thread need not wait.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path.
 * @param flags `AT_…` flags.
 * @returns settles when the path has been walked, also where there is nothing.
 *
 * @example
 * ```ts
 * import { statxOffThread } from "@denomount/mount/linux";
 *
 * await statxOffThread("/proc/self/status", 0);
 * ```
 */
export async function statxOffThread(path: string, flags: number): Promise<void> {
  const [name, room] = [cString(path), new Uint8Array(SIZE_OF_STATX)];
  await offThread(() => libc().statx_nonblocking(AT_FDCWD, name, flags, 0, room), name, room);
}

// Kept, because allocating takes longer than the calls that use them, which are done with them when they return.
const SIZE_OF_STATX = 256; // struct statx
const statxAnswer = new Scratch(SIZE_OF_STATX);
const statfsAnswer = new Scratch(120); // struct statfs with 64-bit words
const request = new Scratch(32); // struct mnt_id_req, MNT_ID_REQ_SIZE_VER1

/** What {@linkcode statfs} tells, of struct statfs in asm-generic/statfs.h. */
export interface Statfs {
  /** The size of a block, in bytes. */
  blockSize: number;
  /** How many blocks the file system has. */
  blocks: number;
  /** How many of them are free. */
  blocksFree: number;
  /** How many inodes it can have. */
  files: number;
  /** How many of them are free. */
  filesFree: number;
  /** The mount's `ST_…` flags (linux/statfs.h). */
  flags: number;
}

/**
 * statfs(2): how full a file system is, and its mount's flags.
 *
 * Needs the permission `ffi`. On a dead network or FUSE mount it can hang.
 *
 * @param path a path on the mount.
 * @returns the fields.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { statfs } from "@denomount/mount/linux";
 *
 * const nosuid = (statfs("/proc").flags & 2) !== 0; // ST_NOSUID
 * ```
 */
export function statfs(path: string): Statfs {
  check(libc().statfs(scratchCString(path), statfsAnswer.address), "statfs", path);
  const { view } = statfsAnswer;
  return {
    blockSize: getUint64AsNumber(view, 8), // f_bsize
    blocks: getUint64AsNumber(view, 16), // f_blocks
    blocksFree: getUint64AsNumber(view, 24), // f_bfree
    files: getUint64AsNumber(view, 40), // f_files
    filesFree: getUint64AsNumber(view, 48), // f_ffree
    flags: getUint64AsNumber(view, 80), // f_flags
  };
}

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
