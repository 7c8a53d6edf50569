/**
 * Opening the file that a loop device is attached to, and the device: their types are checked first.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { mayWaitForServer } from "../mountinfo/served.ts";
import { deviceNumber, type MountId } from "../mountinfo/statx_mount.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import { procFdPath } from "../path/mount_target.ts";
import type { WaitOptions } from "../path/wait.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  S_IFBLK,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  STATX_INO,
  STATX_MNT_ID_UNIQUE,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { open, statx } from "../syscalls/mod.ts";

/** What identifies a file for the kernel, in the form of struct loop_info64 of linux/loop.h. */
export interface FileId {
  /** The device of its file system (lo_device); for a block device its own number (lo_rdevice). */
  readonly device: number;
  /** The inode (lo_inode); undefined for a block device, which may have several nodes. */
  readonly inode: bigint | undefined;
}

/** An open backing file. */
export class BackingFile extends OwnedFd {
  /**
   * Takes ownership of a descriptor.
   *
   * @param fd the descriptor, open for reading and, unless the device is read-only, writing.
   * @param path the path that the caller passed.
   * @param id what identifies the file.
   */
  constructor(fd: number, readonly path: string, readonly id: FileId) {
    super(fd);
  }
}

// sys/stat.h: the file types that a loop device does not take
const KINDS: ReadonlyMap<number, string> = new Map([
  [S_IFDIR, "a directory"],
  [0o20000, "a character device"], // S_IFCHR
  [0o10000, "a FIFO"], // S_IFIFO
  [0o140000, "a socket"], // S_IFSOCK
]);

/**
 * Opens a backing file. Its type is checked on an O_PATH descriptor, because open(2) of a FIFO waits for another process
 * and that of a device may start it.
 *
 * Needs the permission `ffi`, and /proc.
 *
 * @param path the file.
 * @param readonly whether it is opened for reading only.
 * @param wait how long to wait for a server on the path.
 * @returns its descriptor.
 * @throws {TypeError} for what is neither a regular file nor a block device.
 * @throws {SyscallError} EROFS or EACCES with this path if the file can't be opened for writing.
 */
export async function openBackingFile(
  path: string,
  readonly: boolean,
  wait: WaitOptions,
): Promise<BackingFile> {
  using found = await openMayWait(path, O_PATH, wait);
  const { type, id, mount } = identify(found);
  if (type !== S_IFREG && type !== S_IFBLK) {
    const kind = KINDS.get(type) ?? "a special file";
    throw new TypeError(`${path} is ${kind}; a loop device takes a regular file or a block device`);
  }
  const isServed = await mayWaitForServer(mount);
  const file = isServed ? await openOnServer(path, readonly, id, wait) : reopen(found, path, readonly);
  return new BackingFile(file.release(), path, id);
}

/**
 * What identifies a file for the kernel.
 *
 * @param file an open descriptor.
 * @returns its type (S_IFMT of sys/stat.h), its identity, and its mount.
 */
export function identify(file: OwnedFd): { type: number; id: FileId; mount: MountId } {
  const mask = STATX_TYPE | STATX_INO | (hasFeature("statmount") ? STATX_MNT_ID_UNIQUE : 0);
  const stat = statx(file.fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, mask);
  const type = stat.mode & S_IFMT;
  const mount = {
    mountId: Number(stat.mountId),
    isUnique: (stat.mask & STATX_MNT_ID_UNIQUE) !== 0,
    device: deviceNumber(stat.devMajor, stat.devMinor),
  };
  const id = type === S_IFBLK
    ? { device: encodeDevice(stat.rdevMajor, stat.rdevMinor), inode: undefined }
    : { device: encodeDevice(stat.devMajor, stat.devMinor), inode: stat.inode };
  return { type, id, mount };
}

function reopen(found: OwnedFd, path: string, readonly: boolean): OwnedFd {
  try {
    return open(procFdPath(found), readonly ? O_RDONLY : O_RDWR);
  } catch (error) {
    throw withReason(error, path, readonly);
  }
}

/** open(2) asks the server. Its path may lead to another file meanwhile. */
async function openOnServer(
  path: string,
  readonly: boolean,
  expected: FileId,
  wait: WaitOptions,
): Promise<OwnedFd> {
  try {
    const file = await openMayWait(path, readonly ? O_RDONLY : O_RDWR, wait);
    const { id } = identify(file);
    if (id.device === expected.device && id.inode === expected.inode) return file;
    file.close();
  } catch (error) {
    throw withReason(error, path, readonly);
  }
  throw new Error(`${path} was replaced by another file while it was opened`);
}

/**
 * Opens a loop device for reading. Its type is checked on an O_PATH descriptor, as that of a backing file is; the open(2) of
 * a loop device waits for nothing.
 *
 * Needs the permission `ffi`, root, and /proc.
 *
 * @param path the device.
 * @param wait how long to wait for a server on the path.
 * @returns its descriptor.
 * @throws {TypeError} for what is not a loop device.
 * @throws {SyscallError} with the errno of open(2).
 */
export async function openLoopDevice(path: string, wait: WaitOptions = {}): Promise<OwnedFd> {
  using found = await openMayWait(path, O_PATH, wait);
  const { mode, rdevMajor } = statx(found.fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE);
  const type = mode & S_IFMT;
  if (type === S_IFBLK && rdevMajor === LOOP_MAJOR) return reopen(found, path, true);
  const kind = type === S_IFREG ? "a regular file" : KINDS.get(type) ?? "another block device";
  throw new TypeError(`${path} is ${kind}, not a loop device`);
}

const LOOP_MAJOR = 7; // linux/major.h

function withReason(error: unknown, path: string, readonly: boolean): unknown {
  if (!(error instanceof SyscallError) || error.code === "ETIMEDOUT") return error;
  const { syscall, errno, code } = error;
  const isUnwritable = !readonly && ["EROFS", "EACCES", "EPERM"].includes(code);
  const reason = isUnwritable ? `${path} can't be opened for writing; attach it read-only` : undefined;
  return new SyscallError({ syscall, errno, path, reason });
}

/** huge_encode_dev() of linux/kdev_t.h. */
function encodeDevice(major: number, minor: number): number {
  return (minor & 0xff | major << 8 | (minor & ~0xff) << 12) >>> 0;
}
