/**
 * Which mount a path is on: the question that lookups and unmounts ask again and again, of statx(2) alone.
 *
 * @module
 */

import { check, isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
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

/** What statx(2) tells of a path's mount. */
export interface StatxMount {
  /** Whether the path is a mountpoint. */
  readonly isRoot: boolean;
  /** The mount's id: the unique one, or that of mountinfo. The kernel counts from 1, and will not come to 2^53. */
  readonly mountId: number;
  /** Whether the id is the unique one, which statmount(2) can be asked about. */
  readonly isUnique: boolean;
  /** The file system's device, as one number. */
  readonly device: number;
  /** Inode 1, which is the root of tmpfs, proc, sysfs and their like: so it is no bind of a directory in one. */
  readonly isFirst: boolean;
}

// A dead server is never waited for, and an automount point is looked at as it is.
const QUIETLY = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;

/**
 * The mount that a path is on. The kernel tells this even when it is asked for nothing, and of nothing else a FUSE
 * server has a say.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns what statx(2) tells, with the id that mountinfo shows.
 * @throws {SyscallError} as statx(2) says.
 */
export function statxMount(path: string, flags = 0): StatxMount {
  ask(AT_FDCWD, path, QUIETLY | flags, 0);
  return spot();
}

/**
 * The same, but with the mount's unique id where statmount(2) is there to be asked about it.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns what statx(2) tells.
 * @throws {SyscallError} as statx(2) says.
 */
export function statxMountUnique(path: string, flags = 0): StatxMount {
  return askUnique(AT_FDCWD, path, flags);
}

/**
 * The same of an open file.
 *
 * @param file the file; O_PATH is enough.
 * @returns what statx(2) tells.
 * @throws {SyscallError} as statx(2) says.
 */
export function statxMountUniqueFd(file: OwnedFd): StatxMount {
  return askUnique(file.fd, "", AT_EMPTY_PATH);
}

/**
 * The id, as mountinfo shows it, of the mount that a file is on; an automount point is mounted for it.
 *
 * @param dirfd the directory that a relative path is in.
 * @param path the path; "" for the directory itself.
 * @returns the id.
 * @throws {SyscallError} as statx(2) says.
 */
export function mountIdAt(dirfd: number, path: string): number {
  ask(dirfd, path, AT_STATX_DONT_SYNC | (path === "" ? AT_EMPTY_PATH : 0), 0);
  return mountId();
}

/**
 * What is mounted on a path.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns its mount, with the id that mountinfo shows; undefined where it is no mountpoint or does not exist.
 * @throws {SyscallError} as statx(2) says of anything else.
 */
export function mountAt(path: string, flags = 0): StatxMount | undefined {
  return rootAt(path, flags, statxMount);
}

/**
 * The same, but with the mount's unique id where statmount(2) is there to be asked about it.
 *
 * @param path the path.
 * @param flags more `AT_…` flags.
 * @returns its mount; undefined where it is no mountpoint or does not exist.
 * @throws {SyscallError} as statx(2) says of anything else.
 */
export function uniqueMountAt(path: string, flags = 0): StatxMount | undefined {
  return rootAt(path, flags, statxMountUnique);
}

function rootAt(path: string, flags: number, of: typeof statxMount): StatxMount | undefined {
  try {
    const found = of(path, flags);
    return found.isRoot ? found : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

function askUnique(dirfd: number, path: string, flags: number): StatxMount {
  try {
    ask(dirfd, path, QUIETLY | flags, hasFeature("statmount") ? STATX_MNT_ID_UNIQUE : 0);
  } catch (error) {
    if (!isErrno(error, "EACCES")) throw error;
    ask(dirfd, path, QUIETLY | flags, 0); // of a FUSE server that lets nobody but its owner ask
  }
  return spot();
}

// struct statx of linux/stat.h. Only what is asked for here is taken out of it: a whole one is as much work as the call.
const scratch = new Scratch(256);
const answer = scratch.view;

function ask(dirfd: number, path: string, flags: number, mask: number): void {
  check(libc().statx(dirfd, scratchCString(path), flags, mask, scratch.address), "statx", path || undefined);
}

function spot(): StatxMount {
  return {
    isRoot: (answer.getUint32(8, true) & STATX_ATTR_MOUNT_ROOT) !== 0, // stx_attributes
    mountId: mountId(),
    isUnique: (answer.getUint32(0, true) & STATX_MNT_ID_UNIQUE) !== 0, // stx_mask
    device: answer.getUint32(136, true) * 2 ** 20 + answer.getUint32(140, true), // stx_dev_major, with MINORBITS
    isFirst: getUint64AsNumber(answer, 32) === 1, // stx_ino
  };
}

function mountId(): number {
  return getUint64AsNumber(answer, 144); // stx_mnt_id
}
