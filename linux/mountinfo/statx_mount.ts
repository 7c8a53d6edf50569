/**
 * The mount that a path is on, by one statx(2). Lookups and unmounts call it often.
 *
 * @module
 */

import { check, isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { scratchCString } from "../../ffi/memory.ts";
import { getUint64AsNumber, Scratch } from "../../ffi/scratch.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_STATX_DONT_SYNC,
  STATX_ATTR_MOUNT_ROOT,
  STATX_MNT_ID_UNIQUE,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";

/** What tells a mount and its file system from others. */
export interface MountId {
  /** The mount's id: the unique one, or that of mountinfo. The kernel counts up and does not reach 2^53. */
  readonly mountId: number;
  /** Whether the id is the unique one, which statmount(2) takes. */
  readonly isUnique: boolean;
  /** The file system's device: major and minor as one number. */
  readonly device: number;
}

/**
 * A device's number: its major and minor as one.
 *
 * @param major the major number; 0 for a file system without a block device.
 * @param minor the minor number.
 * @returns the number.
 */
export function deviceNumber(major: number, minor: number): number {
  return major * MINORS + minor;
}

/**
 * Whether a file system is on a block device.
 *
 * @param mount a mount of it.
 * @returns false for one without, such as tmpfs, overlay and nearly all with a server.
 */
export function hasBlockDevice({ device }: MountId): boolean {
  return device >= MINORS;
}

const MINORS = 2 ** 20; // linux/kdev_t.h, MINORBITS

/** The fields of statx(2) that concern the mount of a path. */
export interface StatxMount extends MountId {
  /** Whether the path is a mountpoint: the root of a mount. */
  readonly isRoot: boolean;
  /** Whether the inode is 1, the root inode of tmpfs, proc, sysfs: the mount is not a bind of a subdirectory of one. */
  readonly isFirst: boolean;
}

// Neither waits for a server nor triggers an automount.
const NO_WAIT = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;

/**
 * The mount that a path is on. With an empty mask, the kernel fills the fields of the mount without asking a FUSE server.
 *
 * Needs the permission `ffi` and Linux 5.8.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns its mount, with the id of mountinfo.
 * @throws {SyscallError} with the errno of statx(2).
 */
export function statxMount(path: string, flags = 0): StatxMount {
  statxInto(AT_FDCWD, path, NO_WAIT | flags, 0);
  return readMount();
}

/**
 * The mount that a path is on, with its unique id if the kernel has statmount(2).
 *
 * Needs the permission `ffi` and Linux 5.8.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns its mount.
 * @throws {SyscallError} with the errno of statx(2).
 */
export function statxMountUnique(path: string, flags = 0): StatxMount {
  return statxUnique(AT_FDCWD, path, flags);
}

/**
 * The mount that an open file is on, with its unique id if the kernel has statmount(2).
 *
 * Needs the permission `ffi` and Linux 5.8.
 *
 * @param file an open descriptor, possibly O_PATH.
 * @returns its mount.
 * @throws {SyscallError} with the errno of statx(2).
 */
export function statxMountUniqueFd(file: OwnedFd): StatxMount {
  return statxUnique(file.fd, "", AT_EMPTY_PATH);
}

/**
 * The mountinfo id of the mount that a file is on. It triggers an automount.
 *
 * Needs the permission `ffi` and Linux 5.8.
 *
 * @param dirfd the directory of a relative path.
 * @param path the path; "" for the directory itself.
 * @returns the id.
 * @throws {SyscallError} with the errno of statx(2).
 */
export function mountIdAt(dirfd: number, path: string): number {
  statxInto(dirfd, path, AT_STATX_DONT_SYNC | (path === "" ? AT_EMPTY_PATH : 0), 0);
  return readMountId();
}

/**
 * The topmost mount at a mountpoint.
 *
 * Needs the permission `ffi` and Linux 5.8.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns the mount, with the id of mountinfo; undefined if the path is not a mountpoint or does not exist.
 * @throws {SyscallError} with another errno of statx(2).
 */
export function mountAt(path: string, flags = 0): StatxMount | undefined {
  return mountpointBy(path, flags, statxMount);
}

/**
 * The topmost mount at a mountpoint, with its unique id if the kernel has statmount(2).
 *
 * Needs the permission `ffi` and Linux 5.8.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns the mount; undefined if the path is not a mountpoint or does not exist.
 * @throws {SyscallError} with another errno of statx(2).
 */
export function uniqueMountAt(path: string, flags = 0): StatxMount | undefined {
  return mountpointBy(path, flags, statxMountUnique);
}

function mountpointBy(path: string, flags: number, lookup: typeof statxMount): StatxMount | undefined {
  try {
    const found = lookup(path, flags);
    return found.isRoot ? found : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

function statxUnique(dirfd: number, path: string, flags: number): StatxMount {
  try {
    statxInto(dirfd, path, NO_WAIT | flags, hasFeature("statmount") ? STATX_MNT_ID_UNIQUE : 0);
  } catch (error) {
    if (!isErrno(error, "EACCES")) throw error;
    // A FUSE mount that only its owner may access. The fields of an empty mask need no permission.
    statxInto(dirfd, path, NO_WAIT | flags, 0);
  }
  return readMount();
}

// struct statx of linux/stat.h. Only these fields are read: reading all of them takes as long as the call.
const scratch = new Scratch(256);
const { view } = scratch;

function statxInto(dirfd: number, path: string, flags: number, mask: number): void {
  check(
    libc().statx(dirfd, scratchCString(path), flags, mask, scratch.address),
    errno[0],
    "statx",
    path || undefined,
  );
}

function readMount(): StatxMount {
  return {
    isRoot: (view.getUint32(8, true) & STATX_ATTR_MOUNT_ROOT) !== 0, // stx_attributes
    mountId: readMountId(),
    isUnique: (view.getUint32(0, true) & STATX_MNT_ID_UNIQUE) !== 0, // stx_mask
    device: deviceNumber(view.getUint32(136, true), view.getUint32(140, true)), // stx_dev_major, stx_dev_minor
    isFirst: getUint64AsNumber(view, 32) === 1, // stx_ino
  };
}

function readMountId(): number {
  return getUint64AsNumber(view, 144); // stx_mnt_id
}
