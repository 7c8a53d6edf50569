/**
 * The system calls that make a name in an open directory, and read a link in one.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { allocCString, scratchCString } from "../../ffi/memory.ts";
import { Scratch } from "../../ffi/scratch.ts";
import { decodeName } from "../../ffi/text.ts";

const PATH_MAX = 4096; // linux/limits.h
// Reused: allocating them takes longer than the calls.
const target = new Uint8Array(PATH_MAX);
const times = new Scratch(32); // struct timespec[2]

/**
 * readlinkat(2): reads the target of a symbolic link in an open directory.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd the directory; or with "" the link itself, opened with `O_PATH | O_NOFOLLOW`.
 * @param path the link.
 * @returns its target.
 * @throws {SyscallError} EINVAL if it is not a symbolic link.
 *
 * @example
 * ```ts
 * import { O_PATH, open, readlinkat } from "@denomount/mount/linux";
 *
 * using proc = open("/proc", O_PATH);
 * console.log(readlinkat(proc.fd, "self"));
 * ```
 */
export function readlinkat(dirfd: number, path: string): string {
  const result = libc().readlinkat(dirfd, scratchCString(path), target, BigInt(PATH_MAX));
  return decodeName(target.subarray(0, check(result, errno[0], "readlinkat", path || undefined)));
}

/**
 * mkdirat(2): creates a directory in an open directory.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd the directory in which a relative path starts.
 * @param path the new directory.
 * @param mode its permission bits; the umask clears some of them.
 * @throws {SyscallError} EEXIST if the name exists.
 *
 * @example
 * ```ts
 * import { AT_REMOVEDIR, mkdirat, mkdtemp, O_PATH, open, rmdir, unlinkat } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * using directory = open(path, O_PATH);
 * mkdirat(directory.fd, "child", 0o700);
 * unlinkat(directory.fd, "child", AT_REMOVEDIR);
 * rmdir(path);
 * ```
 */
export function mkdirat(dirfd: number, path: string, mode: number): void {
  check(libc().mkdirat(dirfd, scratchCString(path), mode), errno[0], "mkdirat", path);
}

const SYS_mknodat = Deno.build.arch === "aarch64" ? 33 : 259; // asm/unistd.h

/**
 * mknodat(2): creates a device, FIFO or socket in an open directory.
 *
 * Needs the permission `ffi`, and CAP_MKNOD for a device. From Linux 5.8 on, no capability is needed for the character
 * device 0:0, overlay's whiteout.
 *
 * @param dirfd the directory in which a relative path starts.
 * @param path the new file.
 * @param mode its type, such as `S_IFIFO`, and its permission bits, of which the umask clears some.
 * @param major the major number of a device.
 * @param minor the minor number of a device.
 * @throws {SyscallError} EEXIST if the name exists, EPERM without the capability.
 *
 * @example
 * ```ts
 * import { mkdtemp, mknodat, O_PATH, open, rmdir, S_IFIFO, unlinkat } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * using directory = open(path, O_PATH);
 * mknodat(directory.fd, "pipe", S_IFIFO | 0o600);
 * unlinkat(directory.fd, "pipe", 0);
 * rmdir(path);
 * ```
 */
export function mknodat(dirfd: number, path: string, mode: number, major = 0, minor = 0): void {
  const device = (minor & 0xff | major << 8 | (minor & ~0xff) << 12) >>> 0; // new_encode_dev() of linux/kdev_t.h
  const result = libc().mknodat(SYS_mknodat, dirfd, scratchCString(path), mode, device);
  check(result, errno[0], "mknodat", path);
}

/**
 * linkat(2): gives a file another name. It never replaces a file, and a symbolic link is not followed.
 *
 * Needs the permission `ffi`.
 *
 * @param olddirfd the directory of the file.
 * @param path the file.
 * @param newdirfd the directory of the new name, on the same mount.
 * @param name the new name.
 * @throws {SyscallError} EEXIST if the name exists.
 *
 * @example
 * ```ts
 * import { linkat, mkdtemp, O_PATH, open, rmdir, symlink, unlinkat } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * symlink("/usr", `${path}/a`);
 * using directory = open(path, O_PATH);
 * linkat(directory.fd, "a", directory.fd, "b");
 * for (const name of ["a", "b"]) unlinkat(directory.fd, name, 0);
 * rmdir(path);
 * ```
 */
export function linkat(olddirfd: number, path: string, newdirfd: number, name: string): void {
  const result = libc().linkat(olddirfd, scratchCString(path), newdirfd, scratchCString(name), 0);
  check(result, errno[0], "linkat", name);
}

/**
 * symlinkat(2): makes a symbolic link in an open directory.
 *
 * Needs the permission `ffi`.
 *
 * @param text what the link says.
 * @param dirfd the directory in which a relative path starts.
 * @param path the link.
 * @throws {SyscallError} EEXIST if the name exists.
 *
 * @example
 * ```ts
 * import { mkdtemp, O_PATH, open, rmdir, symlinkat, unlinkat } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * using directory = open(path, O_PATH);
 * symlinkat("/usr", directory.fd, "link");
 * unlinkat(directory.fd, "link", 0);
 * rmdir(path);
 * ```
 */
export function symlinkat(text: string, dirfd: number, path: string): void {
  const kept = allocCString(text);
  check(libc().symlinkat(kept.address, dirfd, scratchCString(path)), errno[0], "symlinkat", path);
}

/** The times that {@linkcode utimensat} sets. */
export interface FileTimes {
  /** When the file was last read, in seconds since 1970. */
  atime: number;
  /** The nanoseconds of `atime`. */
  atimeNsec: number;
  /** When its content last changed, in seconds since 1970. */
  mtime: number;
  /** The nanoseconds of `mtime`. */
  mtimeNsec: number;
}

/**
 * utimensat(2): sets the times of a file, with nanoseconds.
 *
 * Needs the permission `ffi`, and ownership of the file or CAP_FOWNER.
 *
 * @param dirfd the directory in which a relative path starts.
 * @param path the file.
 * @param to the times, such as the result of `statx()`.
 * @param flags `AT_SYMLINK_NOFOLLOW` for the times of a symbolic link.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, mkdtemp, rmdir, utimensat } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * utimensat(AT_FDCWD, path, { atime: 0, atimeNsec: 0, mtime: 1_000_000_000, mtimeNsec: 1 }, 0);
 * rmdir(path);
 * ```
 */
export function utimensat(dirfd: number, path: string, to: FileTimes, flags: number): void {
  const { view } = times;
  view.setBigInt64(0, BigInt(to.atime), true); // times[0].tv_sec
  view.setBigInt64(8, BigInt(to.atimeNsec), true); // times[0].tv_nsec
  view.setBigInt64(16, BigInt(to.mtime), true); // times[1].tv_sec
  view.setBigInt64(24, BigInt(to.mtimeNsec), true); // times[1].tv_nsec
  check(libc().utimensat(dirfd, scratchCString(path), times.address, flags), errno[0], "utimensat", path);
}
