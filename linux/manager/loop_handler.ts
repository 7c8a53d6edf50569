/**
 * The type `loop`: a file as a block device, which later entries name.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { quote } from "../../ffi/text.ts";
import { rangeOn } from "../loop/attached.ts";
import { type FileId, openBackingFile } from "../loop/backing_file.ts";
import { LoopDevice, type LoopParams, setupLoop } from "../loop/loop.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import type { WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import type { Mount } from "../spec/mount.ts";
import { parseOptions } from "../spec/options.ts";
import { O_RDONLY } from "../syscalls/constants.ts";
import { readlink, symlink } from "../syscalls/mod.ts";
import type { ActiveMount, MountHandler } from "./types.ts";

/** Attaches a file; the mountpoint is a symbolic link to the device. */
export const loopHandler: MountHandler = {
  async mount(mount, mountPoint, _active, wait = {}) {
    const params = loopParams(mount);
    try {
      return await attach(mount, params, mountPoint, wait);
    } catch (error) {
      throw wait.signal?.aborted ? wait.signal.reason : new MountError(mount, mountPoint, error);
    }
  },

  async unmount(mountPoint, active) {
    const path = linkTarget(mountPoint);
    const number = Number(/^\/dev\/loop(\d+)$/.exec(path ?? "")?.[1] ?? NaN);
    if (path === undefined || Number.isNaN(number)) return;
    const file = await fileOf(active);
    if (file === undefined) return;
    const opened = await openMayWait(path, O_RDONLY);
    using device = new LoopDevice(number, opened, true);
    if (await rangeOn(opened, file)) device.setAutoclear(true); // closing it detaches it, unless it has other users
  },
};

async function attach(
  mount: Mount,
  params: LoopParams & { readonly: boolean },
  mountPoint: string,
  wait: WaitOptions,
): Promise<ActiveMount> {
  using device = await setupLoop(mount.source, { ...params, ...wait, autoclear: true });
  // Until the link exists, the kernel detaches the device when this process ends.
  symlink(device.path, mountPoint);
  const data = { device: device.path, ...await describeFile(mount.source, params.readonly, wait) };
  device.setAutoclear(false);
  device.close();
  return { ...mount, mountPoint, mountedAt: new Date(), data };
}

/**
 * Whether the device of a `loop` mount still has its file.
 *
 * @param active the mount.
 * @returns false if it was detached meanwhile.
 */
export async function isAttached(active: ActiveMount): Promise<boolean> {
  const file = await fileOf(active);
  const path = linkTarget(active.mountPoint);
  if (file === undefined || path === undefined) return false;
  try {
    using device = await openMayWait(path, O_RDONLY);
    return await rangeOn(device, file) !== undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENXIO")) return false;
    throw error;
  }
}

function loopParams(mount: Mount) {
  const { superFlags, loop = { direct: false }, data } = parseOptions(["loop", ...mount.options ?? []]);
  const word = superFlags.find((flag) => flag !== "ro" && flag !== "rw") ?? data[0];
  if (word !== undefined) throw new TypeError(`${quote(word)} is no option of the type "loop"`);
  return { ...loop, readonly: superFlags.findLast((flag) => flag === "ro" || flag === "rw") === "ro" };
}

async function describeFile(path: string, readonly: boolean, wait: WaitOptions) {
  using file = await openBackingFile(path, readonly, wait);
  const { device, inode } = file.id;
  return { fileDevice: `${device}`, ...inode === undefined ? {} : { fileInode: `${inode}` } };
}

/** The file that was attached: as it was written down, or, if a crash came first, as the path leads to now. */
async function fileOf(
  active: (Mount & { data?: Record<string, string> }) | undefined,
): Promise<FileId | undefined> {
  if (active === undefined) return undefined;
  const { fileDevice, fileInode } = active.data ?? {};
  if (fileDevice !== undefined) {
    return { device: Number(fileDevice), inode: fileInode === undefined ? undefined : BigInt(fileInode) };
  }
  try {
    using file = await openBackingFile(active.source, true, {});
    return file.id;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES") || error instanceof TypeError) return undefined;
    throw error;
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return readlink(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "EINVAL", "ENOTDIR")) return undefined;
    throw error;
  }
}
