/**
 * Loop devices: files as block devices.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { struct } from "../../ffi/scratch.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_READ_ONLY,
  LOCK_EX,
  LOCK_NB,
  LOOP_CLR_FD,
  LOOP_CONFIGURE,
  LOOP_CTL_GET_FREE,
  LOOP_GET_STATUS64,
  LOOP_SET_STATUS64,
  O_RDONLY,
  O_RDWR,
} from "../syscalls/constants.ts";
import { flock, ioctl, ioctlStruct, open } from "../syscalls/mod.ts";
import {
  type AttachedDevice,
  describeAttached,
  devicesOf,
  INFO,
  isConflict,
  isShareable,
  type LoopRange,
  rangeOn,
} from "./attached.ts";
import { checkWait, DEFAULT_TIMEOUT, type WaitOptions } from "../path/wait.ts";
import { type BackingFile, openBackingFile, openLoopDevice } from "./backing_file.ts";
import { delay } from "../path/delay.ts";

/** The parameters of a loop device, and how long to wait for a server on the path of its backing file. */
export interface LoopParams extends WaitOptions {
  /** The device is read-only, and the backing file is opened read-only. */
  readonly?: boolean;
  /**
   * The kernel detaches the device when its last user, a mount or the {@linkcode LoopDevice}, closes it. The device is
   * shared with whoever attached the same bytes of the file with the same access and `autoclear`.
   */
  autoclear?: boolean;
  /** Reads and writes the backing file with O_DIRECT, without the page cache. A shared device stays as it is. */
  direct?: boolean;
  /** The offset of the data in the backing file, in bytes; a multiple of the block size. */
  offset?: number;
  /** The maximum size of the device, in bytes; 0 for the rest of the backing file. */
  sizeLimit?: number;
  /** The logical block size of the device, in bytes: 512, 1024, 2048 or 4096. */
  blockSize?: number;
}

// struct loop_config of linux/loop.h
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
  #autoclear: boolean;

  /**
   * Takes ownership of an attached device.
   *
   * @param number the number of the device.
   * @param device an open descriptor of the device.
   * @param autoclear whether the device has LO_FLAGS_AUTOCLEAR: it may be shared, and closing it is enough to detach it.
   */
  constructor(readonly number: number, device: OwnedFd, autoclear = false) {
    this.#device = device;
    this.#autoclear = autoclear;
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
   * one closes it. Does nothing after {@linkcode LoopDevice.close}. A device with `autoclear` may be shared: it is only
   * closed.
   *
   * @throws {SyscallError} if ioctl(2) fails.
   */
  detach(): void {
    if (!this.#isOpen) return;
    if (this.#autoclear) return this.close();
    try {
      ioctl(this.fd, LOOP_CLR_FD, 0, this.path);
    } finally {
      this.close();
    }
  }

  /**
   * Sets whether the kernel detaches the device when its last user closes it. It changes a shared device for all of its
   * users.
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
    this.#autoclear = on;
  }

  /** Detaches the device unless it was closed. */
  [Symbol.dispose](): void {
    this.detach();
  }
}

/**
 * Attaches a file to a loop device: two devices of a file don't see each other's writes and corrupt its file system, so
 * with `autoclear` a device that has it already is shared, and one that overlaps otherwise is refused.
 *
 * Needs the permission `ffi`, root, and Linux 5.8.
 *
 * @param backingFile the path of the file.
 * @param params the parameters of the device.
 * @returns the device, which the caller disposes of.
 * @throws {SyscallError} ENOENT, EACCES or EROFS for the file or /dev/loop-control; ETIMEDOUT if a server on the path of the file does not
 * answer; EBUSY if a part of the file is attached
 * to a loop device already and one of the two devices is writable; ETIMEDOUT if another program keeps /dev/loop-control
 * locked.
 * @throws {TypeError} for an offset or size that is not a number of bytes, an unsupported block size, or a path that is
 * neither a regular file nor a block device.
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
  using file = await openBackingFile(backingFile, params.readonly ?? false, params);
  for (let tries = 1;; tries++) {
    const result = await inTurn(() => shareOrAttach(file, params));
    if (result instanceof LoopDevice) return result;
    if (tries >= result.tries) throw result.error;
    await delay(Math.random() * Math.min(50, tries * 2));
  }
}

/** A failure that may pass. */
interface Retry {
  readonly error: SyscallError;
  readonly tries: number;
}

let lastTurn: Promise<unknown> = Promise.resolve();

/** Runs one task after the other: those of this process need not contend for the lock. */
function inTurn<T>(task: () => Promise<T>): Promise<T> {
  const turn = lastTurn.then(task);
  lastTurn = turn.catch(() => {});
  return turn;
}

async function shareOrAttach(file: BackingFile, params: LoopParams): Promise<LoopDevice | Retry> {
  // LOOP_CONFIGURE does not check for other devices of the file: the lock keeps other processes from attaching it after
  // this one has looked.
  using control = open("/dev/loop-control", O_RDWR);
  await lock(control, params);
  const { offset = 0, sizeLimit = 0, readonly = false, autoclear = false, blockSize = 0 } = params;
  const wanted = { offset, sizeLimit, readonly, autoclear, blockSize };
  const devices = await devicesOf(file.id);
  const shared = devices.find((device) => isShareable(device, wanted));
  const conflict = devices.find((device) => isConflict(device, wanted));
  if (!shared && conflict) return busy(file, conflict);
  try {
    return shared ? await share(shared, file, wanted) : attachFree(control, loopConfig(file, params));
  } catch (error) {
    // Another process may attach the free device first, the kernel detach the shared one, and udev may not have created
    // the node yet.
    if (isErrno(error, "EBUSY", "ENXIO", "ENOENT")) return { error, tries: 100 };
    throw error;
  }
}

/** The last user of a device with autoclear may be udev, which closes it soon; 20 tries take a quarter of a second. */
function busy({ path }: BackingFile, device: AttachedDevice): Retry {
  const reason = `${path} is attached to ${describeAttached(device)}`;
  const error = new SyscallError({ syscall: "ioctl", errno: errnoNumber("EBUSY"), reason });
  return { error, tries: device.autoclear ? 20 : 1 };
}

async function lock(control: OwnedFd, { timeout = DEFAULT_TIMEOUT, signal }: WaitOptions): Promise<void> {
  const path = "/dev/loop-control";
  for (const start = Date.now();;) {
    try {
      return flock(control.fd, LOCK_EX | LOCK_NB);
    } catch (error) {
      if (!isErrno(error, "EAGAIN")) throw error;
    }
    if (Date.now() - start > timeout) {
      throw new SyscallError({ syscall: "flock", errno: errnoNumber("ETIMEDOUT"), path });
    }
    await delay(1 + Math.random() * 4, signal);
  }
}

async function share(
  { path, readonly }: AttachedDevice,
  file: BackingFile,
  wanted: LoopRange,
): Promise<LoopDevice> {
  const device = open(path, readonly ? O_RDONLY : O_RDWR);
  try {
    const range = await rangeOn(device, file.id);
    if (range && isShareable(range, wanted)) {
      return new LoopDevice(Number(/\d+$/.exec(path)?.[0]), device, true);
    }
    throw new SyscallError({ syscall: "ioctl", errno: errnoNumber("ENXIO"), path }); // detached meanwhile
  } catch (error) {
    device.close();
    throw error;
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

function loopConfig(file: BackingFile, params: LoopParams): Uint8Array<ArrayBuffer> {
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
  new TextEncoder().encodeInto(file.path, bytes.subarray(start, start + INFO.LO_NAME_SIZE - 1));
  return bytes;
}

function attachFree(control: OwnedFd, config: Uint8Array<ArrayBuffer>): LoopDevice {
  const number = ioctl(control.fd, LOOP_CTL_GET_FREE, 0, "/dev/loop-control");
  const path = `/dev/loop${number}`;
  const device = open(path, O_RDWR);
  try {
    ioctlStruct(device.fd, LOOP_CONFIGURE, config, path);
    const flags = new DataView(config.buffer).getUint32(CONFIG.info + INFO.lo_flags, true);
    return new LoopDevice(number, device, (flags & LO_FLAGS_AUTOCLEAR) !== 0);
  } catch (error) {
    device.close();
    throw error;
  }
}

/**
 * Attaches a file to a free loop device, which stays attached until {@linkcode detachLoop}. The device is never shared.
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
 * Needs the permission `ffi`, root, and /proc.
 *
 * @param devices the paths of the devices.
 * @throws {SyscallError} ENXIO for the first device that has no file attached; the devices before it are detached.
 * @throws {TypeError} for a path that is not a loop device; the devices before it are detached.
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
export async function detachLoop(...devices: string[]): Promise<void> {
  for (const path of devices) {
    using device = await openLoopDevice(path);
    ioctl(device.fd, LOOP_CLR_FD, 0, path);
  }
}
