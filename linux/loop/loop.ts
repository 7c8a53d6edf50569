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
import { delay } from "../path/delay.ts";

/** How a loop device is attached. */
export interface LoopParams {
  /** The device can't be written to, and the backing file need not be writable. */
  readonly?: boolean;
  /** The device frees itself when its last user closes it: a mount, or the {@linkcode LoopDevice}. */
  autoclear?: boolean;
  /** Reads and writes the backing file past the page cache. */
  direct?: boolean;
  /** Where the data begins in the backing file, in bytes; a multiple of the block size. */
  offset?: number;
  /** How much of the backing file is used, in bytes; all of it for 0. */
  sizeLimit?: number;
  /** The device's logical block size in bytes: 512, 1024, 2048 or 4096. */
  blockSize?: number;
}

// struct loop_info64 and struct loop_config of linux/loop.h
const INFO = { size: 232, lo_offset: 24, lo_sizelimit: 32, lo_flags: 52, lo_file_name: 56, LO_NAME_SIZE: 64 };
const CONFIG = { size: 304, fd: 0, block_size: 4, info: 8 };

/**
 * An attached loop device. At the end of its `using` scope it is detached; where something is mounted from it then,
 * it is freed when that goes.
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
  #open = true;

  /**
   * Takes an attached device over.
   *
   * @param number the device's number.
   * @param device its open descriptor.
   */
  constructor(readonly number: number, device: OwnedFd) {
    this.#device = device;
  }

  /** The device's path, such as "/dev/loop0". */
  get path(): string {
    return `/dev/loop${this.number}`;
  }

  /**
   * The device's open descriptor.
   *
   * @throws {TypeError} after it was closed.
   */
  get fd(): number {
    return this.#device.fd;
  }

  /** Closes the descriptor; the device stays attached unless `autoclear` is set and nothing else has it open. */
  close(): void {
    this.#open = false;
    this.#device.close();
  }

  /**
   * Takes the backing file away, or has the kernel do so when the device is no longer used; then closes.
   *
   * @throws {SyscallError} with ioctl's errno.
   */
  detach(): void {
    if (!this.#open) return;
    try {
      ioctl(this.fd, LOOP_CLR_FD, 0, this.path);
    } finally {
      this.close();
    }
  }

  /**
   * Sets whether the device frees itself when its last user closes it.
   *
   * @param on whether it does.
   * @throws {SyscallError} with ioctl's errno.
   */
  setAutoclear(on: boolean): void {
    const info = struct(INFO.size);
    const bytes = new Uint8Array(info.buffer);
    ioctlStruct(this.fd, LOOP_GET_STATUS64, bytes, this.path);
    const flags = info.getUint32(INFO.lo_flags, true);
    info.setUint32(INFO.lo_flags, on ? flags | LO_FLAGS_AUTOCLEAR : flags & ~LO_FLAGS_AUTOCLEAR, true);
    ioctlStruct(this.fd, LOOP_SET_STATUS64, bytes, this.path);
  }

  /** Detaches the device, unless it was closed. */
  [Symbol.dispose](): void {
    this.detach();
  }
}

/**
 * Attaches a file to a free loop device.
 *
 * @param backingFile the file.
 * @param params how.
 * @returns the device, to be disposed of.
 * @throws {SyscallError} ENOENT or EACCES for the file; EACCES or ENOENT for /dev/loop-control without root.
 * @throws {TypeError} for numbers that are no sizes.
 *
 * Needs the permission `ffi`, root and Linux 5.8.
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
  using file = open(backingFile, params.readonly ? O_RDONLY : O_RDWR);
  const config = loopConfig(file, backingFile, params);
  using control = open("/dev/loop-control", O_RDWR);
  for (let tries = 1;; tries++) {
    try {
      return attachFree(control, config);
    } catch (error) {
      // Between asking for a free device and taking it another process may take it, and udev may not have made
      // its node yet.
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
  // Only for people: the kernel shows the whole path in /sys/block/loopN/loop/backing_file.
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
 * Attaches a file to a free loop device that stays until {@linkcode detachLoop}.
 *
 * @param backingFile the file.
 * @returns the device's path.
 * @throws {SyscallError} as {@linkcode setupLoop} does.
 *
 * Needs the permission `ffi`, root and Linux 5.8.
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
export async function attachLoop(backingFile: string): Promise<string> {
  const device = await setupLoop(backingFile);
  device.close();
  return device.path;
}

/**
 * Detaches loop devices; one that is used is freed when it no longer is.
 *
 * @param devices their paths.
 * @throws {SyscallError} ENXIO where nothing is attached. The devices before it are detached.
 *
 * Needs the permission `ffi` and root. See {@linkcode attachLoop} for an example.
 */
// deno-lint-ignore require-await
export async function detachLoop(...devices: string[]): Promise<void> {
  for (const path of devices) {
    using device = open(path, O_RDONLY);
    ioctl(device.fd, LOOP_CLR_FD, 0, path);
  }
}
