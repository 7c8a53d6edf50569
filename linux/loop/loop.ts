/**
 * Loop devices: files as block devices.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { struct } from "../../ffi/scratch.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_READ_ONLY,
  LOOP_CLR_FD,
  LOOP_CONFIGURE,
  LOOP_CTL_GET_FREE,
  LOOP_GET_STATUS64,
  LOOP_SET_STATUS64,
  O_RDONLY,
  O_RDWR,
} from "../syscalls/constants.ts";
import { ioctl, ioctlStruct, open } from "../syscalls/mod.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import { delay } from "../path/delay.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";

/** The parameters of a loop device, and how long to wait for a server on the path of its backing file. */
export interface LoopParams extends WaitOptions {
  /** The device is read-only, and the backing file is opened read-only. */
  readonly?: boolean;
  /** The kernel detaches the device when its last user, a mount or the {@linkcode LoopDevice}, closes it. */
  autoclear?: boolean;
  /** Reads and writes the backing file with O_DIRECT, without the page cache. */
  direct?: boolean;
  /** The offset of the data in the backing file, in bytes; a multiple of the block size. */
  offset?: number;
  /** The maximum size of the device, in bytes; 0 for the rest of the backing file. */
  sizeLimit?: number;
  /** The logical block size of the device, in bytes: 512, 1024, 2048 or 4096. */
  blockSize?: number;
}

// struct loop_info64 and struct loop_config of linux/loop.h
const INFO = { size: 232, lo_offset: 24, lo_sizelimit: 32, lo_flags: 52, lo_file_name: 56, LO_NAME_SIZE: 64 };
const CONFIG = { size: 304, fd: 0, block_size: 4, info: 8 };

/**
 * An attached loop device, detached at the end of its scope. If it is mounted then, the kernel detaches it after the last
 * unmount.
 *
 * Needs the permission `ffi` and root.
 *
 * @example
 * ```ts
 * import { setupLoop } from "@denomount/mount";
 *
 * const image = await Deno.makeTempFile();
 * await Deno.truncate(image, 1 << 20);
 * {
 *   using device = await setupLoop(image, { readonly: true });
 *   console.log(device.path); // "/dev/loop0"
 * }
 * await Deno.remove(image);
 * ```
 */
export class LoopDevice implements Disposable {
  #device: OwnedFd;
  #isOpen = true;

  /**
   * Takes ownership of an attached device.
   *
   * @param number the number of the device.
   * @param device an open descriptor of the device.
   */
  constructor(readonly number: number, device: OwnedFd) {
    this.#device = device;
  }

  /** The path of the device, such as "/dev/loop0". */
  get path(): string {
    return `/dev/loop${this.number}`;
  }

  /**
   * The open descriptor of the device.
   *
   * @throws {TypeError} after the device was closed.
   */
  get fd(): number {
    return this.#device.fd;
  }

  /** Closes the descriptor. The device stays attached unless `autoclear` is set and it has no other user. */
  close(): void {
    this.#isOpen = false;
    this.#device.close();
  }

  /**
   * Detaches the device and closes the descriptor. If the device has other users, the kernel detaches it when the last
   * one closes it. Does nothing after {@linkcode LoopDevice.close}.
   *
   * @throws {SyscallError} if ioctl(2) fails.
   */
  detach(): void {
    if (!this.#isOpen) return;
    try {
      ioctl(this.fd, LOOP_CLR_FD, 0, this.path);
    } finally {
      this.close();
    }
  }

  /**
   * Sets whether the kernel detaches the device when its last user closes it.
   *
   * @param on true to set LO_FLAGS_AUTOCLEAR, false to clear it.
   * @throws {SyscallError} if ioctl(2) fails.
   */
  setAutoclear(on: boolean): void {
    const info = struct(INFO.size);
    const bytes = new Uint8Array(info.buffer);
    ioctlStruct(this.fd, LOOP_GET_STATUS64, bytes, this.path);
    const flags = info.getUint32(INFO.lo_flags, true);
    info.setUint32(INFO.lo_flags, on ? flags | LO_FLAGS_AUTOCLEAR : flags & ~LO_FLAGS_AUTOCLEAR, true);
    ioctlStruct(this.fd, LOOP_SET_STATUS64, bytes, this.path);
  }

  /** Detaches the device unless it was closed. */
  [Symbol.dispose](): void {
    this.detach();
  }
}

/**
 * Attaches a file to a free loop device.
 *
 * Needs the permission `ffi`, root, and Linux 5.8.
 *
 * @param backingFile the path of the file.
 * @param params the parameters of the device.
 * @returns the device, which the caller disposes of.
 * @throws {SyscallError} ENOENT or EACCES for the file or /dev/loop-control, ETIMEDOUT if a server on the path of the file
 * does not answer.
 * @throws {TypeError} for an offset or size that is not a number of bytes, or an unsupported block size.
 *
 * @example
 * ```ts
 * import { setupLoop } from "@denomount/mount";
 *
 * const image = await Deno.makeTempFile();
 * await Deno.truncate(image, 1 << 20);
 * using device = await setupLoop(image, { offset: 4096 });
 * await Deno.remove(image);
 * ```
 */
export async function setupLoop(backingFile: string, params: LoopParams = {}): Promise<LoopDevice> {
  refuseBadSizes(params);
  checkWait(params);
  using file = await openMayWait(backingFile, params.readonly ? O_RDONLY : O_RDWR, params);
  const config = loopConfig(file, backingFile, params);
  using control = open("/dev/loop-control", O_RDWR);
  for (let tries = 1;; tries++) {
    try {
      return attachFree(control, config);
    } catch (error) {
      // Another process may attach the free device first, and udev may not have created its node yet.
      if (!isErrno(error, "EBUSY", "ENXIO", "ENOENT") || tries >= 100) throw error;
      await delay(Math.random() * Math.min(50, tries * 2));
    }
  }
}

function refuseBadSizes({ offset = 0, sizeLimit = 0, blockSize = 0 }: LoopParams): void {
  for (const [name, bytes] of Object.entries({ offset, sizeLimit, blockSize })) {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new TypeError(`a loop device's ${name} is a number of bytes, not ${bytes}`);
    }
  }
  if (blockSize !== 0 && ![512, 1024, 2048, 4096].includes(blockSize)) {
    throw new TypeError(`a loop device's blockSize is 512, 1024, 2048 or 4096, not ${blockSize}`);
  }
}

function loopConfig(file: OwnedFd, name: string, params: LoopParams): Uint8Array<ArrayBuffer> {
  const { readonly, autoclear, direct, offset = 0, sizeLimit = 0, blockSize = 0 } = params;
  const config = struct(CONFIG.size);
  const flags = (readonly ? LO_FLAGS_READ_ONLY : 0) | (autoclear ? LO_FLAGS_AUTOCLEAR : 0) |
    (direct ? LO_FLAGS_DIRECT_IO : 0);
  config.setUint32(CONFIG.fd, file.fd, true);
  config.setUint32(CONFIG.block_size, blockSize, true);
  config.setBigUint64(CONFIG.info + INFO.lo_offset, BigInt(offset), true);
  config.setBigUint64(CONFIG.info + INFO.lo_sizelimit, BigInt(sizeLimit), true);
  config.setUint32(CONFIG.info + INFO.lo_flags, flags, true);
  const bytes = new Uint8Array(config.buffer);
  // losetup(8) can show this name; /sys/block/loopN/loop/backing_file has the whole path.
  const start = CONFIG.info + INFO.lo_file_name;
  new TextEncoder().encodeInto(name, bytes.subarray(start, start + INFO.LO_NAME_SIZE - 1));
  return bytes;
}

function attachFree(control: OwnedFd, config: Uint8Array<ArrayBuffer>): LoopDevice {
  const number = ioctl(control.fd, LOOP_CTL_GET_FREE, 0, "/dev/loop-control");
  const path = `/dev/loop${number}`;
  const device = open(path, O_RDWR);
  try {
    ioctlStruct(device.fd, LOOP_CONFIGURE, config, path);
    return new LoopDevice(number, device);
  } catch (error) {
    device.close();
    throw error;
  }
}

/**
 * Attaches a file to a free loop device, which stays attached until {@linkcode detachLoop}.
 *
 * Needs the permission `ffi`, root, and Linux 5.8.
 *
 * @param backingFile the path of the file, which has to be writable.
 * @param wait the timeout and the signal for a server on the path.
 * @returns the path of the device.
 * @throws {SyscallError} as {@linkcode setupLoop} does.
 *
 * @example
 * ```ts
 * import { attachLoop, detachLoop } from "@denomount/mount";
 *
 * const image = await Deno.makeTempFile();
 * await Deno.truncate(image, 1 << 20);
 * await detachLoop(await attachLoop(image));
 * await Deno.remove(image);
 * ```
 */
export async function attachLoop(backingFile: string, wait: WaitOptions = {}): Promise<string> {
  const device = await setupLoop(backingFile, wait);
  device.close();
  return device.path;
}

/**
 * Detaches loop devices. If a device has other users, the kernel detaches it when the last one closes it.
 *
 * Needs the permission `ffi` and root.
 *
 * @param devices the paths of the devices.
 * @throws {SyscallError} ENXIO for the first device that has no file attached; the devices before it are detached.
 *
 * @example
 * ```ts
 * import { attachLoop, detachLoop } from "@denomount/mount";
 *
 * const image = await Deno.makeTempFile();
 * await Deno.truncate(image, 1 << 20);
 * const devices = [await attachLoop(image), await attachLoop(image)];
 * await detachLoop(...devices);
 * await Deno.remove(image);
 * ```
 */
export async function detachLoop(...devices: string[]): Promise<void> {
  for (const path of devices) {
    using device = await openMayWait(path, O_RDONLY);
    ioctl(device.fd, LOOP_CLR_FD, 0, path);
  }
}
