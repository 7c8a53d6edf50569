/**
 * One unmount. umount2(2) is called on this thread if it returns within microseconds, and on another thread if the
 * kernel may write to a disk or ask a server first. FUSE is unmounted through its helpers.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  MNT_DETACH,
  MNT_EXPIRE,
  OVERLAYFS_SUPER_MAGIC,
  STATMOUNT_FS_TYPE,
  TMPFS_MAGIC,
  UMOUNT_NOFOLLOW,
} from "../syscalls/constants.ts";
import { unmountFuse } from "./fuse.ts";
import { findMountById } from "../mountinfo/list_mounts.ts";
import { lookupMount, statmountBy } from "../mountinfo/lookup.ts";
import { isServed, PSEUDO_FILESYSTEMS } from "../mountinfo/filesystem_types.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { dirname } from "../path/path.ts";
import { withTimeout } from "../path/wait.ts";
import type { Deadline } from "./deadline.ts";
import { hasBlockDevice, type StatxMount, statxMount, statxMountUnique } from "../mountinfo/statx_mount.ts";
import { nameToHandleAt, statfs, statmountBasic, umount2, umount2OffThread } from "../syscalls/mod.ts";

/** The properties of a file system that decide how it is unmounted. */
export interface FilesystemState {
  /** Its type. */
  type: string;
  /** Whether its superblock is read-only. */
  readonly: boolean;
}

/**
 * Unmounts the topmost mount of a target, once.
 *
 * @param target the mountpoint.
 * @param deadline its flags, and how long to wait for a server or a helper.
 * @param top the topmost mount; undefined if there is none, for the error of umount2(2).
 * @param isImmediate whether it is known that umount2(2) need not wait.
 * @returns undefined if it is unmounted; else the work that may wait.
 * @throws {SyscallError} if umount2(2) fails, with EBUSY for a busy mount; ETIMEDOUT if a server does not answer.
 */
export function umountOnce(
  target: string,
  deadline: Deadline,
  top: StatxMount | undefined,
  isImmediate = false,
): Promise<void> | undefined {
  const result = tryUmountSync(target, deadline.flags, isImmediate ? undefined : top);
  return result === "unmounted" ? undefined : umountMayWait(target, deadline, result, top);
}

/**
 * Unmounts the topmost mount of a target if umount2(2) need not wait; most mounts are of this kind.
 *
 * @param target the mountpoint.
 * @param flags the flags for umount2(2).
 * @param top the topmost mount; undefined if there is none, for the error of umount2(2).
 * @returns "unmounted"; or else, if umount2(2) may wait, the file system for {@linkcode umountMayWait}, undefined if its
 * type takes a lookup of the mount.
 * @throws {SyscallError} if umount2(2) fails, with EBUSY for a busy mount.
 */
function tryUmountSync(
  target: string,
  flags: number,
  top: StatxMount | undefined,
): "unmounted" | FilesystemState | undefined {
  let filesystem: FilesystemState | undefined;
  if (top !== undefined && !(flags & MNT_EXPIRE)) { // the first call with MNT_EXPIRE only marks the mount
    // The root of a tmpfs is rarely a bind mount: then the file system decides, and is looked at first.
    let immediate = !top.isFirst && isInUseElsewhere(target, top);
    if (!immediate) {
      filesystem = statmountFilesystem(top);
      immediate = filesystem !== undefined && needsNoFlush(target, filesystem);
    }
    if (!immediate && !(top.isFirst && isInUseElsewhere(target, top))) return filesystem;
  }
  umount2(target, flags);
  return "unmounted";
}

/**
 * Unmounts the topmost mount of a target, where the kernel may write to a disk or ask a server first.
 *
 * @param target the mountpoint.
 * @param deadline its flags, and how long to wait for a server or a helper.
 * @param known the file system, if known.
 * @param top the topmost mount; undefined if there is none.
 * @throws {SyscallError} if umount2(2) fails; ETIMEDOUT if a server does not answer and the mount is still in the table.
 */
async function umountMayWait(
  target: string,
  deadline: Deadline,
  known: FilesystemState | undefined,
  top: StatxMount | undefined,
): Promise<void> {
  const { flags, signal } = deadline;
  const filesystem = known ?? await identify(target, deadline, top);
  if (filesystem?.type.startsWith("fuse") && await unmountByHelper(target, deadline)) return;
  if (known === undefined && filesystem && needsNoFlush(target, filesystem)) return umount2(target, flags);
  const unmounting = umount2OffThread(target, flags);
  // A disk takes as long as it takes to write the dirty pages: only a server gets a timeout.
  const timeout = filesystem && !isServed(filesystem.type) ? Infinity : deadline.timeout;
  try {
    await withTimeout(unmounting, { timeout, signal }, "umount2", target);
  } catch (error) {
    if (top === undefined || !isErrno(error, "ETIMEDOUT", "EPERM")) throw error;
    if (isErrno(error, "EPERM")) return await unmountUnpermitted(error, target, deadline, filesystem);
    // The kernel takes the mount out of the table before it waits for the server: fuse_send_destroy() of fs/fuse/inode.c.
    if (!await isMounted(top)) return;
    if (filesystem !== undefined || isServed((await findMountById(top.mountId))?.fsType ?? "")) throw error;
    await withTimeout(unmounting, { timeout: Infinity, signal }, "umount2", target);
  }
}

async function unmountByHelper(target: string, { flags, timeout, signal }: Deadline): Promise<boolean> {
  return await unmountFuse(target, (flags & MNT_DETACH) !== 0, { timeout: timeout / 2, signal });
}

/** Without CAP_SYS_ADMIN, only the helper of a FUSE mount can unmount it. */
async function unmountUnpermitted(
  error: SyscallError,
  target: string,
  deadline: Deadline,
  known: FilesystemState | undefined,
): Promise<void> {
  if (known !== undefined || !(await lookupMount(target)).fsType.startsWith("fuse")) throw error;
  if (!await unmountByHelper(target, deadline)) throw error;
}

/**
 * Finds out whether a helper unmounts a file system, without statmount(2). The mount table has its type, but among N mounts
 * reading it takes longer than N unmounts; statfs(2) has it too, but would wait for a server, and keep the mount busy
 * meanwhile. So only FUSE is distinguished, by its file handles.
 *
 * @returns undefined for another file system: what it is matters only if its unmount does not end.
 */
async function identify(
  target: string,
  deadline: Deadline,
  top: StatxMount | undefined,
): Promise<FilesystemState | undefined> {
  const handleType = top && handleTypeOf(target, deadline.flags);
  // The handles of XFS, on a block device, have the same type.
  const isFuse = handleType === FILEID_FUSE;
  if (top === undefined || handleType === undefined || isFuse && hasBlockDevice(top)) {
    return filesystemState(await lookupMount(target));
  }
  return isFuse ? { type: "fuse", readonly: false } : undefined;
}

/** The type of the file system's handles; 0 if it has none, undefined if the call is blocked. */
function handleTypeOf(target: string, flags: number): number | undefined {
  try {
    return nameToHandleAt(AT_FDCWD, target, flags & UMOUNT_NOFOLLOW ? 0 : AT_SYMLINK_FOLLOW);
  } catch (error) {
    if (isErrno(error, "EOPNOTSUPP", "EOVERFLOW")) return 0;
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

const FILEID_FUSE = 0x81; // fuse_encode_fh() of fs/fuse/inode.c

/**
 * Whether a mount is in the mount table.
 *
 * @param mount the mount.
 * @returns false if it is unmounted, or detached.
 */
export async function isMounted({ mountId, isUnique }: StatxMount): Promise<boolean> {
  if (!isUnique) return await findMountById(mountId) !== undefined;
  try {
    statmountBasic(mountId);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

/** Whether the parent directory is on another mount of the same file system: then this unmount flushes nothing. */
function isInUseElsewhere(target: string, top: StatxMount): boolean {
  const parent = (top.isUnique ? statxMountUnique : statxMount)(dirname(target));
  return parent.mountId !== top.mountId && parent.device === top.device;
}

/**
 * Reads the state of a file system from the mount table.
 *
 * @param info a mount of it.
 * @returns its state.
 */
export function filesystemState({ fsType, vfsOptions }: MountInfo): FilesystemState {
  return { type: fsType, readonly: /^ro(,|$)/.test(vfsOptions) };
}

/** The type by its magic number, if known: to read it as a string takes longer. */
function statmountFilesystem(top: StatxMount): FilesystemState | undefined {
  if (!top.isUnique) return undefined;
  const basic = statmountBasic(top.mountId);
  const type = typeByMagic.get(basic.magic) ?? statmountBy(top, STATMOUNT_FS_TYPE)?.fsType;
  return type === undefined ? undefined : { type, readonly: (basic.superFlags & SB_RDONLY) !== 0 };
}

const SB_RDONLY = 1; // linux/fs.h

// linux/magic.h, and fs/xfs/libxfs/xfs_format.h: the types that are unmounted most often
const typeByMagic = new Map([
  [TMPFS_MAGIC, "tmpfs"],
  [OVERLAYFS_SUPER_MAGIC, "overlay"],
  [0x9fa0, "proc"],
  [0x62656572, "sysfs"],
  [0xef53, "ext4"], // and ext2 and ext3, for which it is the same
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x73717368, "squashfs"],
  [0xe0f5e1e2, "erofs"],
]);

const TMPFS_BYTES = 16 * 2 ** 20; // the kernel takes some tenths of a second to free a gigabyte
const TMPFS_FILES = 10_000;

/**
 * Whether the last unmount of a file system has nothing to write and little to free.
 *
 * @param target its mountpoint.
 * @param filesystem its state.
 * @returns false if that is not known.
 */
export function needsNoFlush(target: string, { type, readonly }: FilesystemState): boolean {
  if (PSEUDO_FILESYSTEMS.has(type)) return true;
  if (type === "overlay") return readonly; // the last unmount of a writable overlay syncs the upper file system
  if (type !== "tmpfs") return false;
  const { blocks, blocksFree, blockSize, files, filesFree } = statfs(target);
  // tmpfs reports 0 blocks if it has no size limit: its use is unknown then.
  return blocks > 0 && (blocks - blocksFree) * blockSize <= TMPFS_BYTES && files - filesFree <= TMPFS_FILES;
}
