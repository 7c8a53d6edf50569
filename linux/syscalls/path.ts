/**
 * The system calls on a path: links, extended attributes, directories.
 *
 * @module
 */

import { check, SyscallError } from "../../ffi/errno.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { cString, decodeCString, scratchCString } from "../../ffi/memory.ts";
import { decodeName } from "../../ffi/text.ts";

const PATH_MAX = 4096; // linux/limits.h
// Reused: allocating it takes longer than the calls.
const pathMemory = new Uint8Array(PATH_MAX + 1);

/**
 * readlink(2): reads the target of a symbolic link.
 *
 * Needs the permission `ffi`.
 *
 * @param path the link.
 * @returns its target.
 * @throws {SyscallError} EINVAL if the path is not a symbolic link.
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
 * llistxattr(2): the names of a file's extended attributes that this process may see.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file; a symbolic link is not followed.
 * @returns the names, such as "security.capability".
 * @throws {SyscallError} EOPNOTSUPP if the file system has no extended attributes.
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
 * lremovexattr(2): removes an extended attribute of a file.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN for names in "trusted.".
 *
 * @param path the file; a symbolic link is not followed.
 * @param name the attribute's name.
 * @throws {SyscallError} ENODATA if the file does not have the attribute.
 *
 * @example
 * ```ts
 * import { isErrno, lremovexattr } from "@denomount/mount/linux";
 *
 * const file = await Deno.makeTempFile();
 * try {
 *   lremovexattr(file, "user.note");
 * } catch (error) {
 *   if (!isErrno(error, "ENODATA", "EOPNOTSUPP")) throw error;
 * }
 * await Deno.remove(file);
 * ```
 */
export function lremovexattr(path: string, name: string): void {
  check(libc().lremovexattr(scratchCString(path), scratchCString(name)), "lremovexattr", path);
}

/**
 * mkdir(2): creates a directory.
 *
 * Needs the permission `ffi`.
 *
 * @param path the directory.
 * @param mode its permission bits, such as 0o700; the umask clears some of them.
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
 * mkdtemp(3): creates a directory with a random name and mode 0700.
 *
 * Needs the permission `ffi`.
 *
 * @param prefix the beginning of its path.
 * @returns the directory's path.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { mkdtemp, rmdir } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-"); // such as "/tmp/example-x7Gh2a"
 * rmdir(path);
 * ```
 */
export function mkdtemp(prefix: string): string {
  const template = cString(`${prefix}XXXXXX`);
  if (libc().mkdtemp(template) === null) {
    throw new SyscallError({ syscall: "mkdtemp", errno: lastErrno(), path: `${prefix}XXXXXX` });
  }
  return decodeCString(template, 0);
}

/**
 * rmdir(2): removes an empty directory.
 *
 * Needs the permission `ffi`.
 *
 * @param path the directory.
 * @throws {SyscallError} ENOTEMPTY if it is not empty, EBUSY if it is a mountpoint.
 *
 * @example
 * ```ts
 * import { isErrno, mkdir, mkdtemp, rmdir } from "@denomount/mount/linux";
 *
 * const parent = mkdtemp("/tmp/example-");
 * mkdir(`${parent}/child`, 0o700);
 * try {
 *   rmdir(parent);
 * } catch (error) {
 *   if (!isErrno(error, "ENOTEMPTY")) throw error;
 * }
 * rmdir(`${parent}/child`);
 * rmdir(parent);
 * ```
 */
export function rmdir(path: string): void {
  check(libc().rmdir(scratchCString(path)), "rmdir", path);
}
