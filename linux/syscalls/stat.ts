/**
 * statx(2) and statfs(2).
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { cString, offThread, scratchCString } from "../../ffi/memory.ts";
import { getInt64AsNumber, getUint64AsNumber, Scratch } from "../../ffi/scratch.ts";
import { AT_FDCWD } from "./constants.ts";

/** The result of {@linkcode statx}: fields of struct statx in linux/stat.h. */
export interface Statx {
  /** The `STATX_…` flags of the fields that are filled. */
  mask: number;
  /** The `STATX_ATTR_…` flags that are set. */
  attributes: number;
  /** The `STATX_ATTR_…` flags that the file system supports. */
  attributesMask: number;
  /** The number of its hard links. */
  links: number;
  /** The owner. */
  uid: number;
  /** The owning group. */
  gid: number;
  /** The type and permission bits. */
  mode: number;
  /** The inode's number. */
  inode: bigint;
  /** Its size in bytes; the length of a symbolic link's target. */
  size: number;
  /** What it takes on the disk, in units of 512 bytes. */
  blocks: number;
  /** When it was last read, in seconds since 1970; negative before. */
  atime: number;
  /** The nanoseconds of `atime`. */
  atimeNsec: number;
  /** When its content last changed, in seconds since 1970; negative before. */
  mtime: number;
  /** The nanoseconds of `mtime`. */
  mtimeNsec: number;
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
 * statx(2): the attributes of a file, and the id of its mount.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd the directory of a relative path.
 * @param path the path; "" with `AT_EMPTY_PATH`.
 * @param flags `AT_…` flags. With `AT_STATX_DONT_SYNC` the call does not ask a server for current attributes.
 * @param mask `STATX_…` flags: the fields to fill.
 * @returns the fields.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, AT_STATX_DONT_SYNC, STATX_ATTR_MOUNT_ROOT, statx } from "@denomount/mount/linux";
 *
 * const { attributes } = statx(AT_FDCWD, "/proc", AT_STATX_DONT_SYNC, 0);
 * if (!(attributes & STATX_ATTR_MOUNT_ROOT)) throw new Error("/proc is not a mountpoint");
 * ```
 */
export function statx(dirfd: number, path: string, flags: number, mask: number): Statx {
  const { view } = statxAnswer;
  check(
    libc().statx(dirfd, scratchCString(path), flags, mask, statxAnswer.address),
    errno[0],
    "statx",
    path || undefined,
  );
  return {
    mask: view.getUint32(0, true), // stx_mask
    attributes: view.getUint32(8, true), // stx_attributes, whose upper half is unused
    links: view.getUint32(16, true), // stx_nlink
    uid: view.getUint32(20, true), // stx_uid
    gid: view.getUint32(24, true), // stx_gid
    mode: view.getUint16(28, true), // stx_mode
    inode: view.getBigUint64(32, true), // stx_ino
    size: getUint64AsNumber(view, 40), // stx_size
    blocks: getUint64AsNumber(view, 48), // stx_blocks
    atime: getInt64AsNumber(view, 64), // stx_atime.tv_sec
    atimeNsec: view.getUint32(72, true), // stx_atime.tv_nsec
    mtime: getInt64AsNumber(view, 112), // stx_mtime.tv_sec
    mtimeNsec: view.getUint32(120, true), // stx_mtime.tv_nsec
    attributesMask: view.getUint32(56, true), // stx_attributes_mask
    rdevMajor: view.getUint32(128, true), // stx_rdev_major
    rdevMinor: view.getUint32(132, true), // stx_rdev_minor
    devMajor: view.getUint32(136, true), // stx_dev_major
    devMinor: view.getUint32(140, true), // stx_dev_minor
    mountId: view.getBigUint64(144, true), // stx_mnt_id
  };
}

/**
 * statx(2) on another thread, for a path on a server that may not answer. It fills the dentry cache, and returns no
 * attributes.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path.
 * @param flags `AT_…` flags.
 * @param mask `STATX_…` flags: FUSE asks its server for no field of an empty mask, even with `AT_STATX_FORCE_SYNC`.
 * @returns a promise that resolves when the call returns, also if the path does not exist.
 *
 * @example
 * ```ts
 * import { statxOffThread } from "@denomount/mount/linux";
 *
 * await statxOffThread("/proc/self/status", 0);
 * ```
 */
export async function statxOffThread(path: string, flags: number, mask = 0): Promise<void> {
  const [name, result] = [cString(path), new Uint8Array(SIZE_OF_STATX)];
  await offThread(() => libc().statx_nonblocking(AT_FDCWD, name, flags, mask, result), name, result);
}

// Reused: allocating them takes longer than the calls.
const SIZE_OF_STATX = 256; // struct statx
const statxAnswer = new Scratch(SIZE_OF_STATX);
const SIZE_OF_STATFS = 120; // struct statfs on 64-bit architectures
const statfsAnswer = new Scratch(SIZE_OF_STATFS);

/** The result of {@linkcode statfs}: fields of struct statfs in asm-generic/statfs.h. */
export interface Statfs {
  /** The file system's magic number (linux/magic.h). */
  type: number;
  /** The block size, in bytes. */
  blockSize: number;
  /** The number of blocks. */
  blocks: number;
  /** The number of free blocks. */
  blocksFree: number;
  /** The number of inodes. */
  files: number;
  /** The number of free inodes. */
  filesFree: number;
  /** The mount's `ST_…` flags (linux/statfs.h). */
  flags: number;
}

/**
 * statfs(2): the size and free space of a file system, and the flags of the mount. It can block on a dead FUSE or network
 * mount.
 *
 * Needs the permission `ffi`.
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
  check(libc().statfs(scratchCString(path), statfsAnswer.address), errno[0], "statfs", path);
  return readStatfs(statfsAnswer.view);
}

/**
 * statfs(2) on another thread, for a server that may not answer.
 *
 * Needs the permission `ffi`.
 *
 * @param path a path on the mount.
 * @returns the fields; undefined for a failure, whose errno is lost.
 *
 * @example
 * ```ts
 * import { statfsOffThread } from "@denomount/mount/linux";
 *
 * const proc = await statfsOffThread("/proc");
 * if (proc?.type !== 0x9fa0) throw new Error("no /proc");
 * ```
 */
export async function statfsOffThread(path: string): Promise<Statfs | undefined> {
  const [name, answer] = [cString(path), new Uint8Array(SIZE_OF_STATFS)];
  const result = await offThread(() => libc().statfs_nonblocking(name, answer), name, answer);
  return result < 0 ? undefined : readStatfs(new DataView(answer.buffer));
}

function readStatfs(view: DataView<ArrayBuffer>): Statfs {
  return {
    type: getUint64AsNumber(view, 0), // f_type
    blockSize: getUint64AsNumber(view, 8), // f_bsize
    blocks: getUint64AsNumber(view, 16), // f_blocks
    blocksFree: getUint64AsNumber(view, 24), // f_bfree
    files: getUint64AsNumber(view, 40), // f_files
    filesFree: getUint64AsNumber(view, 48), // f_ffree
    flags: getUint64AsNumber(view, 80), // f_flags
  };
}
