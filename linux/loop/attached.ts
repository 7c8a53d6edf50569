/**
 * The loop devices that a file is attached to already.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { getUint64AsNumber, struct } from "../../ffi/scratch.ts";
import { readTextFile } from "../path/text_file.ts";
import { withTimeout } from "../path/wait.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_READ_ONLY,
  LOOP_GET_STATUS64,
  O_RDONLY,
} from "../syscalls/constants.ts";
import { ioctlOffThread, ioctlStruct, open } from "../syscalls/mod.ts";
import type { FileId } from "./backing_file.ts";

const BLKSSZGET = 0x1268; // linux/fs.h: the logical block size

/** The size of struct loop_info64 of linux/loop.h, and the offsets of its fields. */
export const INFO = {
  size: 232,
  lo_device: 0,
  lo_inode: 8,
  lo_rdevice: 16,
  lo_offset: 24,
  lo_sizelimit: 32,
  lo_flags: 52,
  lo_file_name: 56,
  LO_NAME_SIZE: 64,
};

/** The part of a file that a loop device is attached to, and how. */
export interface LoopRange {
  /** The first byte. */
  readonly offset: number;
  /** The number of bytes; 0 for the rest of the file. */
  readonly sizeLimit: number;
  /** Whether the device is read-only. */
  readonly readonly: boolean;
  /** Whether the kernel detaches the device when its last user closes it. */
  readonly autoclear: boolean;
  /** The logical block size, in bytes; 0 in a request for any. */
  readonly blockSize: number;
}

/** A loop device that a file is attached to. */
export interface AttachedDevice extends LoopRange {
  /** The path of the device. */
  readonly path: string;
}

/**
 * Finds the devices that a file is attached to.
 *
 * Needs the permission `ffi`, and root to open the devices.
 *
 * @param file what identifies the file.
 * @returns the devices. Each may be detached by now: {@linkcode rangeOn} is certain while the device is held open.
 */
export async function devicesOf(file: FileId): Promise<AttachedDevice[]> {
  const found: AttachedDevice[] = [];
  for (const path of attachedPaths()) { // one by one: each takes a descriptor
    const range = await askWithTimeout(path, file);
    if (range) found.push({ path, ...range });
  }
  return found;
}

/** From /proc/partitions, which has the devices with a size: Deno.readDir() of /sys needs all permissions. */
function attachedPaths(): string[] {
  const table = readTextFile("/proc/partitions");
  return [...table.matchAll(/ (loop\d+)$/gm)].map(([, name]) => `/dev/${name}`);
}

/** Devices whose backing file's server has not answered, until it does. */
const silent = new Set<string>();

/**
 * The kernel asks the file system of a backing file for its attributes, and a dead server never answers. The server of
 * the caller's file has answered before, so this is another file.
 */
async function askWithTimeout(path: string, file: FileId): Promise<LoopRange | undefined> {
  if (silent.has(path)) return undefined;
  const answer = ask(path, file);
  try {
    return await withTimeout(answer, {}, "ioctl", path);
  } catch (error) {
    if (!isErrno(error, "ETIMEDOUT")) throw error;
    silent.add(path);
    const forget = () => silent.delete(path);
    answer.then(forget, forget);
    return undefined;
  }
}

async function ask(path: string, file: FileId): Promise<LoopRange | undefined> {
  using device = openAttached(path);
  return device && await rangeOn(device, file);
}

function openAttached(path: string): OwnedFd | undefined {
  try {
    return open(path, O_RDONLY);
  } catch (error) {
    // Detached meanwhile, without a node in this /dev, or not allowed by a container's device filter.
    if (isErrno(error, "ENXIO", "ENODEV", "ENOENT", "EACCES", "EPERM")) return undefined;
    throw error;
  }
}

/**
 * Asks a device whether a file is attached to it. The answer holds for as long as the descriptor is open: the kernel
 * detaches no device that is open.
 *
 * Needs the permission `ffi`.
 *
 * @param device an open device.
 * @param file what identifies the file.
 * @returns the range; undefined if another file is attached, or none.
 */
export async function rangeOn(device: OwnedFd, file: FileId): Promise<LoopRange | undefined> {
  const info = struct(INFO.size);
  const result = await ioctlOffThread(device.fd, LOOP_GET_STATUS64, new Uint8Array(info.buffer));
  // ENXIO without a file; ENOTCONN or ESTALE if the file's server is gone: it is another file.
  if (result < 0 || !isAttached(info, file)) return undefined;
  const flags = info.getUint32(INFO.lo_flags, true);
  return {
    offset: getUint64AsNumber(info, INFO.lo_offset),
    sizeLimit: getUint64AsNumber(info, INFO.lo_sizelimit),
    readonly: (flags & LO_FLAGS_READ_ONLY) !== 0,
    autoclear: (flags & LO_FLAGS_AUTOCLEAR) !== 0,
    blockSize: blockSizeOf(device),
  };
}

function blockSizeOf(device: OwnedFd): number {
  const size = new Int32Array(1);
  ioctlStruct(device.fd, BLKSSZGET, new Uint8Array(size.buffer));
  return size[0] ?? 0;
}

function isAttached(info: DataView<ArrayBuffer>, { device, inode }: FileId): boolean {
  if (inode === undefined) return getUint64AsNumber(info, INFO.lo_rdevice) === device;
  return getUint64AsNumber(info, INFO.lo_device) === device &&
    info.getBigUint64(INFO.lo_inode, true) === inode;
}

/**
 * Whether a device can be shared: both want autoclear, and the same bytes and access.
 *
 * @param device the range of the device.
 * @param wanted the range that is asked for.
 * @returns true if the device serves the request.
 */
export function isShareable(device: LoopRange, wanted: LoopRange): boolean {
  return device.autoclear && wanted.autoclear && device.offset === wanted.offset &&
    device.sizeLimit === wanted.sizeLimit && device.readonly === wanted.readonly &&
    (wanted.blockSize === 0 || wanted.blockSize === device.blockSize);
}

/**
 * Whether two devices of a file would corrupt it: they overlap, and one of them is writable.
 *
 * @param a the range of a device.
 * @param b the other range.
 * @returns true if both must not be attached at the same time.
 */
export function isConflict(a: LoopRange, b: LoopRange): boolean {
  return !(a.readonly && b.readonly) && a.offset < endOf(b) && b.offset < endOf(a);
}

function endOf({ offset, sizeLimit }: LoopRange): number {
  return sizeLimit === 0 ? Infinity : offset + sizeLimit;
}

/**
 * Describes an attached device in an error.
 *
 * @param device the device.
 * @returns such as "/dev/loop3 already, from byte 0, writable".
 */
export function describeAttached({ path, offset, sizeLimit, readonly }: AttachedDevice): string {
  const end = sizeLimit === 0 ? "" : ` to ${offset + sizeLimit}`;
  return `${path} already, from byte ${offset}${end}, ${readonly ? "read-only" : "writable"}`;
}
