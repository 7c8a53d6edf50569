/**
 * The system calls on an open file: read(2), getdents64(2), write(2), ftruncate(2), lseek(2), flock(2) and ioctl(2).
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { decodeCString, offThread } from "../../ffi/memory.ts";

/**
 * read(2): reads once.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param bytes the buffer to read into.
 * @returns the number of bytes read; 0 at the end of the file.
 * @throws {SyscallError} EAGAIN if the descriptor is nonblocking and has no data.
 *
 * @example
 * ```ts
 * import { O_RDONLY, open, read } from "@denomount/mount/linux";
 *
 * using zeros = open("/dev/zero", O_RDONLY);
 * console.log(read(zeros.fd, new Uint8Array(16))); // 16
 * ```
 */
export function read(fd: number, bytes: Uint8Array<ArrayBuffer>): number {
  return check(libc().read(fd, bytes, BigInt(bytes.length)), errno[0], "read");
}

/**
 * read(2), repeated until the end of the file.
 *
 * Needs the permission `ffi` only. Deno's own functions open /proc and /sys only with all permissions.
 *
 * @param fd an open descriptor.
 * @param buffer the buffer to read into; a new one of 4 KiB if left out.
 * @param most the number of bytes to ask for at once; as many as fit in the buffer if left out.
 * @returns the content, in this buffer if it fits, otherwise in a larger one.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { O_RDONLY, open, readAll } from "@denomount/mount/linux";
 *
 * using file = open("/proc/self/mountinfo", O_RDONLY);
 * const table = new TextDecoder().decode(readAll(file.fd));
 * ```
 */
export function readAll(
  fd: number,
  buffer: Uint8Array<ArrayBuffer> = new Uint8Array(4096), // most are small: zeroing more takes longer than reading
  most = Infinity,
): Uint8Array<ArrayBuffer> {
  let bytes = buffer;
  let length = 0;
  for (;;) {
    if (length === bytes.length) bytes = doubled(bytes);
    const free = bytes.subarray(length);
    const read = check(libc().read(fd, free, BigInt(Math.min(free.length, most))), errno[0], "read");
    if (read === 0) return bytes.subarray(0, length);
    length += read;
  }
}

/**
 * read(2) on another thread, for a file whose read may block in the kernel. The errno is lost.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param bytes the buffer to read into.
 * @returns the number of bytes read; 0 at the end of the file; -1 if the call failed.
 *
 * @example
 * ```ts
 * import { O_RDONLY, open, readOffThread } from "@denomount/mount/linux";
 *
 * using maps = open("/proc/self/maps", O_RDONLY);
 * console.log(await readOffThread(maps.fd, new Uint8Array(4096)));
 * ```
 */
export async function readOffThread(fd: number, bytes: Uint8Array<ArrayBuffer>): Promise<number> {
  return Number(await offThread(() => libc().read_nonblocking(fd, bytes, BigInt(bytes.length)), bytes));
}

const SYS_getdents64 = Deno.build.arch === "aarch64" ? 61 : 217; // asm/unistd.h

/**
 * getdents64(2), repeated until the end of the directory: the names in an open directory, without `.` and `..`.
 *
 * Needs the permission `ffi` only. Deno's own functions open /proc and /sys only with all permissions.
 *
 * @param fd an open directory.
 * @param most how many names are enough; then the rest of the directory is not read.
 * @returns the names, in the order of the directory. A byte that is not UTF-8 is a lone surrogate, as in `MountInfo`.
 * @throws {SyscallError} ENOTDIR if it is not a directory.
 *
 * @example
 * ```ts
 * import { getdents64, O_DIRECTORY, O_RDONLY, open } from "@denomount/mount/linux";
 *
 * using directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
 * console.log(getdents64(directory.fd)); // ["0", "1", "2", …]
 * ```
 */
export function getdents64(fd: number, most = Infinity): string[] {
  const size = most === Infinity ? dirents.length : FEW_NAMES;
  const names: string[] = [];
  for (let some = next(fd, size); some !== undefined; some = next(fd, size)) {
    names.push(...some);
    if (names.length >= most) break;
  }
  return names;
}

const FEW_NAMES = 1024; // bytes

const dirents = new Uint8Array(32 * 1024); // reused
const direntsView = new DataView(dirents.buffer);

/**
 * getdents64(2) once: the next names in an open directory, some hundreds of them, without `.` and `..`.
 *
 * Needs the permission `ffi` only.
 *
 * @param fd an open directory.
 * @returns the names; undefined at the end of the directory.
 * @throws {SyscallError} ENOTDIR if it is not a directory.
 *
 * @example
 * ```ts
 * import { getdents64Once, O_DIRECTORY, O_RDONLY, open } from "@denomount/mount/linux";
 *
 * using directory = open("/usr/bin", O_RDONLY | O_DIRECTORY);
 * console.log(getdents64Once(directory.fd)?.length);
 * ```
 */
export function getdents64Once(fd: number): string[] | undefined {
  return next(fd, dirents.length);
}

function next(fd: number, size: number): string[] | undefined {
  const result = libc().getdents64(SYS_getdents64, fd, dirents, size);
  const length = check(result, errno[0], "getdents64");
  if (length === 0) return undefined;
  const names: string[] = [];
  for (let at = 0; at < length; at += direntsView.getUint16(at + 16, true)) { // d_reclen of struct linux_dirent64
    const name = decodeCString(dirents, at + 19); // d_name
    if (name !== "." && name !== "..") names.push(name);
  }
  return names;
}

/**
 * lseek(2) to the beginning of a file, to read it again.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { lseekStart, O_RDONLY, open, readAll } from "@denomount/mount/linux";
 *
 * using file = open("/proc/self/mountinfo", O_RDONLY);
 * const before = readAll(file.fd);
 * lseekStart(file.fd);
 * const after = readAll(file.fd);
 * ```
 */
export function lseekStart(fd: number): void {
  check(libc().lseek(fd, 0n, 0), errno[0], "lseek"); // SEEK_SET
}

/**
 * lseek(2): moves the offset of an open file.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param offset the offset, in bytes.
 * @param whence `SEEK_SET`, `SEEK_DATA` or `SEEK_HOLE`.
 * @returns the new offset, from the beginning of the file.
 * @throws {SyscallError} ENXIO with `SEEK_DATA` if no data follows the offset.
 *
 * @example
 * ```ts
 * import { lseek, O_RDONLY, open, SEEK_HOLE } from "@denomount/mount/linux";
 *
 * using file = open("/etc/hostname", O_RDONLY);
 * console.log(lseek(file.fd, 0, SEEK_HOLE)); // its size, if it has no hole
 * ```
 */
export function lseek(fd: number, offset: number, whence: number): number {
  return check(libc().lseek(fd, BigInt(offset), whence), errno[0], "lseek");
}

/**
 * write(2): writes once. The map files of a user namespace take one write only.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param bytes the bytes to write.
 * @param path the file's path, for the error.
 * @returns how many bytes were written.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { O_WRONLY, open, write } from "@denomount/mount/linux";
 *
 * using nothing = open("/dev/null", O_WRONLY);
 * write(nothing.fd, new TextEncoder().encode("gone"));
 * ```
 */
export function write(fd: number, bytes: Uint8Array<ArrayBuffer>, path?: string): number {
  return check(libc().write(fd, bytes, BigInt(bytes.length)), errno[0], "write", path);
}

/**
 * write(2), repeated until everything is written.
 *
 * Needs the permission `ffi`.
 *
 * @param fd a descriptor that is open for writing.
 * @param bytes the bytes.
 * @throws {SyscallError} with the call's errno; a part may be written then.
 *
 * @example
 * ```ts
 * import { O_WRONLY, open, writeAll } from "@denomount/mount/linux";
 *
 * using nothing = open("/dev/null", O_WRONLY);
 * writeAll(nothing.fd, new Uint8Array(1 << 24));
 * ```
 */
export function writeAll(fd: number, bytes: Uint8Array<ArrayBuffer>): void {
  for (let at = 0; at < bytes.length;) at += write(fd, bytes.subarray(at));
}

/**
 * ftruncate(2): sets the size of a file. New bytes are zeros, which take no space.
 *
 * Needs the permission `ffi`.
 *
 * @param fd a descriptor that is open for writing.
 * @param length the size, in bytes.
 * @param path the file's path, for the error.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { ftruncate, O_CREAT, O_EXCL, O_RDWR, open, unlink } from "@denomount/mount/linux";
 *
 * const path = `/tmp/example-${Deno.pid}`;
 * using file = open(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
 * ftruncate(file.fd, 1 << 20);
 * unlink(path);
 * ```
 */
export function ftruncate(fd: number, length: number, path?: string): void {
  check(libc().ftruncate(fd, BigInt(length)), errno[0], "ftruncate", path);
}

function doubled(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(bytes.length * 2);
  larger.set(bytes);
  return larger;
}

/**
 * flock(2): locks an open file. The lock ends when the file is closed, at the latest with the process.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param operation `LOCK_EX`; with `LOCK_NB` the call does not wait.
 * @throws {SyscallError} EAGAIN with `LOCK_NB` if the file is locked through another descriptor.
 *
 * @example
 * ```ts
 * import { flock, LOCK_EX, LOCK_NB, mkdtemp, O_RDONLY, open, rmdir } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * {
 *   using directory = open(path, O_RDONLY);
 *   flock(directory.fd, LOCK_EX | LOCK_NB);
 * }
 * rmdir(path);
 * ```
 */
export function flock(fd: number, operation: number): void {
  check(libc().flock(fd, operation), errno[0], "flock");
}

/**
 * ioctl(2) with a number as its argument.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param request the operation.
 * @param argument its argument.
 * @param path the device's path, for the error.
 * @returns the call's result.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { ioctl, LOOP_CTL_GET_FREE, O_RDWR, open } from "@denomount/mount/linux";
 *
 * using control = open("/dev/loop-control", O_RDWR);
 * console.log("free:", ioctl(control.fd, LOOP_CTL_GET_FREE, 0));
 * ```
 */
export function ioctl(fd: number, request: number, argument: number, path?: string): number {
  return check(libc().ioctl(fd, BigInt(request), BigInt(argument)), errno[0], "ioctl", path);
}

/**
 * ioctl(2) with a struct as its argument.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param request the operation.
 * @param argument the struct, which the kernel reads and writes.
 * @param path the device's path, for the error.
 * @returns the call's result.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { ioctlStruct, O_RDONLY, open } from "@denomount/mount/linux";
 *
 * using file = open("/etc/hostname", O_RDONLY);
 * const available = new Int32Array(1);
 * ioctlStruct(file.fd, 0x541b, new Uint8Array(available.buffer)); // FIONREAD
 * ```
 */
export function ioctlStruct(
  fd: number,
  request: number,
  argument: Uint8Array<ArrayBuffer>,
  path?: string,
): number {
  return check(libc().ioctl_buffer(fd, BigInt(request), argument), errno[0], "ioctl", path);
}

/**
 * ioctl(2) with a struct as its argument, on another thread: for a device whose server may not answer.
 *
 * Needs the permission `ffi`.
 *
 * @param fd a descriptor, which stays open until the call returns.
 * @param request the operation.
 * @param argument the struct, which the kernel reads and writes.
 * @returns the call's result; -1 if it fails, without the errno, which belongs to the other thread.
 *
 * @example
 * ```ts
 * import { ioctlOffThread, O_RDONLY, open } from "@denomount/mount/linux";
 *
 * using file = open("/etc/hostname", O_RDONLY);
 * const available = new Int32Array(1);
 * await ioctlOffThread(file.fd, 0x541b, new Uint8Array(available.buffer)); // FIONREAD
 * ```
 */
export function ioctlOffThread(
  fd: number,
  request: number,
  argument: Uint8Array<ArrayBuffer>,
): Promise<number> {
  return offThread(() => libc().ioctl_nonblocking(fd, BigInt(request), argument), argument);
}
