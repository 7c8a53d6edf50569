/**
 * One unmount: at once where that takes microseconds, on another thread where it may wait for a disk or a server, and by
 * the FUSE helpers where they are to know of it.
 *
 * @module
 */

import { MNT_DETACH, MNT_EXPIRE, STATMOUNT_FS_TYPE } from "../syscalls/constants.ts";
import { isErrno } from "../../ffi/errno.ts";
import { unmountFuse } from "./fuse.ts";
import { lookupMount, statmountBy } from "../mountinfo/lookup.ts";
import { isServed, PSEUDO_FILESYSTEMS } from "../mountinfo/filesystem_types.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { dirname } from "../path/path.ts";
import { DEFAULT_TIMEOUT, type WaitOptions, withTimeout } from "../path/cached_lookup.ts";
import { type StatxMount, statxMount, statxMountUnique } from "../mountinfo/statx_mount.ts";
import { statfs, statmountBasic, umount2, umount2OffThread } from "../syscalls/mod.ts";

/**
 * Takes the topmost mount off a target where that takes microseconds, which is mostly so.
 *
 * @param target the mountpoint.
 * @param flags those of umount2(2).
 * @param found what {@linkcode statxMountUnique} tells of the mountpoint.
 * @returns whether it is off. Where it is not, {@linkcode umountOnce} tries it in every way, and says why it failed.
 */
export function tryUmountSync(target: string, flags: number, found: StatxMount): boolean {
  if (flags & MNT_EXPIRE) return false; // its second call does something else than its first
  // Both questions have the same answer in the end; the likelier one first.
  const isQuick = found.isFirst
    ? endsQuickly(target, found) || isInUseElsewhere(target, found)
    : isInUseElsewhere(target, found) || endsQuickly(target, found);
  return isQuick && tryUmount(target, flags);
}

function endsQuickly(target: string, found: StatxMount): boolean {
  const filesystem = quickFilesystem(found);
  return filesystem !== undefined && needsNoFlush(target, filesystem);
}

/**
 * Tries an unmount that need not wait.
 *
 * @param target the mountpoint.
 * @param flags those of umount2(2).
 * @returns false where it is busy, or no mountpoint.
 */
export function tryUmount(target: string, flags: number): boolean {
  try {
    umount2(target, flags);
    return true;
  } catch (error) {
    if (isErrno(error, "EBUSY", "EINVAL")) return false;
    throw error;
  }
}

/**
 * Takes the topmost mount off a target, once.
 *
 * @param target the mountpoint.
 * @param flags those of umount2(2).
 * @param found what {@linkcode statxMountUnique} tells of the mountpoint; undefined where it is none.
 * @param patience how long a server or a helper may take.
 * @throws {SyscallError} as umount2(2) says; ETIMEDOUT where a server does not answer.
 */
export async function umountOnce(
  target: string,
  flags: number,
  found: StatxMount | undefined,
  patience: WaitOptions,
): Promise<void> {
  if (found === undefined || flags & MNT_EXPIRE || isInUseElsewhere(target, found)) {
    return umount2(target, flags);
  }
  const filesystem = await filesystemAt(target, found);
  const lazy = (flags & MNT_DETACH) !== 0;
  const isFuse = filesystem.type.startsWith("fuse");
  if (isFuse && await unmountFuse(target, lazy, halfOf(patience))) return;
  if (needsNoFlush(target, filesystem)) return umount2(target, flags);
  // A disk takes as long as it takes to write what it has been given.
  const { timeout, signal } = patience;
  const limit = { timeout: isServed(filesystem.type) ? timeout : Infinity, signal };
  await withTimeout(umount2OffThread(target, flags), limit, "umount2", target);
}

function halfOf({ timeout = DEFAULT_TIMEOUT, signal }: WaitOptions): WaitOptions {
  return { timeout: timeout / 2, signal };
}

/**
 * Whether the file system stays mounted at the parent directory, as with a bind within one file system: then the unmount
 * flushes nothing.
 */
function isInUseElsewhere(target: string, found: StatxMount): boolean {
  const parent = (found.isUnique ? statxMountUnique : statxMount)(dirname(target));
  return parent.mountId !== found.mountId && parent.device === found.device;
}

/** What is asked about a file system before it is unmounted. */
export interface FilesystemState {
  /** Its type. */
  type: string;
  /** Whether it can't be written to through any mount. */
  readonly: boolean;
}

/**
 * A file system as the mount table tells of it.
 *
 * @param info a mount of it.
 * @returns what is to be known.
 */
export function filesystemState({ fsType, vfsOptions }: MountInfo): FilesystemState {
  return { type: fsType, readonly: /^ro(,|$)/.test(vfsOptions) };
}

async function filesystemAt(target: string, found: StatxMount): Promise<FilesystemState> {
  return quickFilesystem(found) ?? filesystemState(await lookupMount(target));
}

/** By the magic number where that tells the type: the kernel's and our own work with strings takes longer. */
function quickFilesystem(found: StatxMount): FilesystemState | undefined {
  if (!found.isUnique) return undefined;
  const basic = statmountBasic(found.mountId);
  const type = magics.get(basic.magic) ?? statmountBy(found, STATMOUNT_FS_TYPE)?.fsType;
  return type === undefined ? undefined : { type, readonly: (basic.superFlags & SB_RDONLY) !== 0 };
}

const SB_RDONLY = 1; // linux/fs.h

// linux/magic.h: those that come and go most.
const magics = new Map([[0x01021994, "tmpfs"], [0x794c7630, "overlay"], [0x9fa0, "proc"], [
  0x62656572,
  "sysfs",
]]);

const QUICKLY_FREED = 16 * 2 ** 20; // bytes; a gigabyte takes the kernel some tenths of a second

/**
 * Whether a file system is gone at once with its last mount, with nothing to be written and little to be freed.
 *
 * @param target its mountpoint.
 * @param filesystem what it is.
 * @returns false where nothing is known.
 */
export function needsNoFlush(target: string, { type, readonly }: FilesystemState): boolean {
  if (PSEUDO_FILESYSTEMS.has(type)) return true;
  if (type === "overlay") return readonly; // without an upper directory, it has nothing to flush
  if (type !== "tmpfs") return false;
  const { blocks, blocksFree, blockSize, files, filesFree } = statfs(target);
  // Without a limit, tmpfs tells of no blocks at all: then nothing is known.
  return blocks > 0 && (blocks - blocksFree) * blockSize <= QUICKLY_FREED && files - filesFree <= 10_000;
}
