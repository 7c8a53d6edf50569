/**
 * The system calls on files and paths, one to one.
 *
 * @module
 */

import { check, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { cString, decodeCString, scratchCString } from "../../ffi/memory.ts";
import { Scratch } from "../../ffi/scratch.ts";
import { decodeName } from "../../ffi/text.ts";
import { O_CLOEXEC } from "./constants.ts";

const SYS_openat2 = 437; // asm-generic/unistd.h
const PATH_MAX = 4096; // linux/limits.h

/**
 * open(2): opens a file.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @returns its descriptor.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { O_DIRECTORY, O_PATH, open } from "@denomount/mount/linux";
 *
 * using root = open("/", O_PATH | O_DIRECTORY);
 * ```
 */
export function open(path: string, flags: number): OwnedFd {
  return new OwnedFd(check(libc().open(scratchCString(path), flags | O_CLOEXEC, 0), "open", path));
}

/**
 * openat(2): opens a file below a directory that is open.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd where a relative path starts.
 * @param path the file.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @returns its descriptor.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { O_PATH, open, openat } from "@denomount/mount/linux";
 *
 * using root = open("/", O_PATH);
 * using etc = openat(root.fd, "etc", O_PATH);
 * ```
 */
export function openat(dirfd: number, path: string, flags: number): OwnedFd {
  return new OwnedFd(check(libc().openat(dirfd, scratchCString(path), flags | O_CLOEXEC, 0), "openat", path));
}

/**
 * openat2(2): opens a file with a say in how the path is walked.
 *
 * Needs the permission `ffi` and Linux 5.6.
 *
 * @param dirfd where the path starts.
 * @param path the file.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @param resolve `RESOLVE_…` flags.
 * @returns its descriptor.
 * @throws {SyscallError} with the call's errno; EAGAIN where a rename or mount raced with the walk.
 *
 * @example
 * ```ts
 * import { O_PATH, open, openat2, RESOLVE_IN_ROOT } from "@denomount/mount/linux";
 *
 * using root = open("/usr", O_PATH);
 * using bin = openat2(root.fd, "../../bin", O_PATH, RESOLVE_IN_ROOT); // /usr/bin
 * ```
 */
export function openat2(dirfd: number, path: string, flags: number, resolve: number): OwnedFd {
  const fd = tryOpenat2(dirfd, path, flags, resolve);
  if (fd < 0) throw new SyscallError({ syscall: "openat2", errno: -fd, path });
  return new OwnedFd(fd);
}

/**
 * The same, for who asks whether a path can be opened: an error that nobody looks at takes many times as long.
 *
 * Needs the permission `ffi` and Linux 5.6.
 *
 * @param dirfd the directory that a relative path is in, or `AT_FDCWD`.
 * @param path the path.
 * @param flags `O_…`; the descriptor is always close-on-exec.
 * @param resolve `RESOLVE_…`.
 * @returns the descriptor, which the caller closes; or the error's number, negative.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, O_PATH, tryOpenat2 } from "@denomount/mount/linux";
 *
 * console.log(tryOpenat2(AT_FDCWD, "/no/such/path", O_PATH, 0)); // -2, ENOENT
 * ```
 */
export function tryOpenat2(dirfd: number, path: string, flags: number, resolve: number): number {
  how.view.setUint32(0, flags | O_CLOEXEC, true); // flags, whose upper half stays 0
  how.view.setUint32(16, resolve, true); // resolve; mode, at 8, stays 0
  const fd = libc().openat2(SYS_openat2, dirfd, scratchCString(path), how.address, 24n);
  return fd < 0 ? -lastErrno() : fd;
}

// Kept, because allocating takes longer than the calls that use them, which are done with them when they return.
const how = new Scratch(24); // struct open_how, linux/openat2.h
const pathMemory = new Uint8Array(PATH_MAX + 1);

/**
 * read(2): what there is to read now.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param bytes where it goes.
 * @returns how many bytes; 0 at the end of the file.
 * @throws {SyscallError} EAGAIN where the descriptor does not wait and there is nothing.
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
  return check(libc().read(fd, bytes, BigInt(bytes.length)), "read");
}

/**
 * read(2) until the end of the file.
 *
 * Needs the permission `ffi`: Deno's own file functions refuse /proc and /sys unless everything is allowed.
 *
 * @param fd an open descriptor.
 * @param room memory to read into; 64 KiB of its own if left out.
 * @returns all its bytes, in that memory if they fit there.
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
  room: Uint8Array<ArrayBuffer> = new Uint8Array(64 * 1024),
): Uint8Array<ArrayBuffer> {
  let bytes = room;
  let length = 0;
  for (;;) {
    if (length === bytes.length) bytes = grown(bytes);
    const free = bytes.subarray(length);
    const read = check(libc().read(fd, free, BigInt(free.length)), "read");
    if (read === 0) return bytes.subarray(0, length);
    length += read;
  }
}

/**
 * lseek(2) to the beginning, to read a file again.
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
  check(libc().lseek(fd, 0n, 0), "lseek"); // SEEK_SET
}

/**
 * write(2), all of the bytes in one call: the map files of a user namespace take nothing else.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param bytes what to write.
 * @param path the file, for an error's sentence.
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
export function write(fd: number, bytes: Uint8Array<ArrayBuffer>, path?: string): void {
  check(libc().write(fd, bytes, BigInt(bytes.length)), "write", path);
}

function grown(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(bytes.length * 2);
  larger.set(bytes);
  return larger;
}

/**
 * readlink(2): where a symbolic link leads.
 *
 * Needs the permission `ffi`.
 *
 * @param path the link.
 * @returns its text.
 * @throws {SyscallError} EINVAL where the path is no symbolic link.
 *
 * @example
 * ```ts
 * import { readlink } from "@denomount/mount/linux";
 *
 * console.log(readlink("/proc/self/cwd"));
 * ```
 */
export function readlink(path: string): string {
  const result = libc().readlink(scratchCString(path), pathMemory, BigInt(PATH_MAX));
  const length = check(result, "readlink", path);
  return decodeName(pathMemory.subarray(0, length));
}

/**
 * realpath(3): the absolute path without symbolic links, `.` and `..`.
 *
 * Needs the permission `ffi`.
 *
 * @param path a path that exists.
 * @returns the canonical path.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { realpath } from "@denomount/mount/linux";
 *
 * console.log(realpath("/proc/self/root")); // "/"
 * ```
 */
export function realpath(path: string): string {
  if (libc().realpath(scratchCString(path), pathMemory) === null) {
    throw new SyscallError({ syscall: "realpath", errno: lastErrno(), path });
  }
  return decodeCString(pathMemory, 0);
}

const XATTR_LIST_MAX = 65536; // linux/limits.h

/**
 * llistxattr(2): the names of a file's extended attributes, as far as this user may know them.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file; a symbolic link is not followed.
 * @returns the names, such as "security.capability".
 * @throws {SyscallError} EOPNOTSUPP where the file system has none.
 *
 * @example
 * ```ts
 * import { llistxattr } from "@denomount/mount/linux";
 *
 * console.log(llistxattr("/usr"));
 * ```
 */
export function llistxattr(path: string): string[] {
  const list = new Uint8Array(XATTR_LIST_MAX);
  const length = check(
    libc().llistxattr(scratchCString(path), list, BigInt(list.length)),
    "llistxattr",
    path,
  );
  return decodeName(list.subarray(0, length)).split("\0").slice(0, -1);
}

/**
 * lremovexattr(2): takes an extended attribute off a file.
 *
 * Needs the permission `ffi`; for "trusted." names CAP_SYS_ADMIN.
 *
 * @param path the file; a symbolic link is not followed.
 * @param name the attribute's name.
 * @throws {SyscallError} ENODATA where it has none of that name.
 *
 * @example
 * ```ts
 * import { isErrno, lremovexattr } from "@denomount/mount/linux";
 *
 * const file = await Deno.makeTempFile();
 * try {
 *   lremovexattr(file, "user.note");
 * } catch (error) {
 *   if (!isErrno(error, "ENODATA", "EOPNOTSUPP")) throw error; // there is none
 * }
 * await Deno.remove(file);
 * ```
 */
export function lremovexattr(path: string, name: string): void {
  check(libc().lremovexattr(scratchCString(path), scratchCString(name)), "lremovexattr", path);
}

/**
 * mkdir(2): makes a directory.
 *
 * Needs the permission `ffi`.
 *
 * @param path the directory.
 * @param mode its permission bits, such as 0o700, less the umask.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { mkdir, mkdtemp, rmdir } from "@denomount/mount/linux";
 *
 * const parent = mkdtemp("/tmp/example-");
 * mkdir(`${parent}/child`, 0o700);
 * rmdir(`${parent}/child`);
 * rmdir(parent);
 * ```
 */
export function mkdir(path: string, mode: number): void {
  check(libc().mkdir(scratchCString(path), mode), "mkdir", path);
}

/**
 * mkdtemp(3): makes a new directory, with a name that nobody can guess, for this user alone.
 *
 * Needs the permission `ffi`. See {@linkcode mkdir} for an example.
 *
 * @param prefix the path that its name begins with.
 * @returns the directory's path.
 * @throws {SyscallError} with the call's errno.
 */
export function mkdtemp(prefix: string): string {
  const template = cString(`${prefix}XXXXXX`);
  if (libc().mkdtemp(template) === null) {
    throw new SyscallError({ syscall: "mkdtemp", errno: lastErrno(), path: `${prefix}XXXXXX` });
  }
  return decodeCString(template, 0);
}

/**
 * rmdir(2): removes an empty directory, and nothing else.
 *
 * Needs the permission `ffi`. See {@linkcode mkdir} for an example.
 *
 * @param path the directory.
 * @throws {SyscallError} ENOTEMPTY where something is in it, EBUSY where something is mounted on it.
 */
export function rmdir(path: string): void {
  check(libc().rmdir(scratchCString(path)), "rmdir", path);
}

/**
 * flock(2): takes or gives up a lock on an open file, which ends with the process at the latest.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param operation `LOCK_EX`, with `LOCK_NB` not to wait.
 * @throws {SyscallError} EAGAIN where somebody else holds the lock.
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
  check(libc().flock(fd, operation), "flock");
}

/**
 * ioctl(2) with a number as its argument.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param request the operation.
 * @param argument its argument.
 * @param path the device, for an error's sentence.
 * @returns what the call returns.
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
  return check(libc().ioctl(fd, BigInt(request), BigInt(argument)), "ioctl", path);
}

/**
 * ioctl(2) with a struct as its argument.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param request the operation.
 * @param argument the struct's bytes, read and written by the kernel.
 * @param path the device, for an error's sentence.
 * @returns what the call returns.
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
  return check(libc().ioctl_buffer(fd, BigInt(request), argument), "ioctl", path);
}
