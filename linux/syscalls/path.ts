/**
 * The system calls on a path: links, owners and modes, directories.
 *
 * @module
 */

import { check, SyscallError } from "../../ffi/errno.ts";
import { errno, errnoOfCall, libc } from "../../ffi/libc.ts";
import { cString, decodeCString, offThread, scratchCString } from "../../ffi/memory.ts";
import { Scratch } from "../../ffi/scratch.ts";
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
  const length = check(result, errno[0], "readlink", path);
  return decodeName(pathMemory.subarray(0, length));
}

/**
 * name_to_handle_at(2): the type of the handle of a file, which says what kind of file system it is on. No server is asked.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd the directory of a relative path; `AT_FDCWD` for the working directory.
 * @param path the path.
 * @param flags `AT_SYMLINK_FOLLOW` to follow a symbolic link at its end.
 * @returns the type: a `FILEID_…` number of linux/exportfs.h.
 * @throws {SyscallError} EOPNOTSUPP if the file system has no handles.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, nameToHandleAt } from "@denomount/mount/linux";
 *
 * console.log(nameToHandleAt(AT_FDCWD, "/dev", 0)); // 1, FILEID_INO32_GEN
 * ```
 */
export function nameToHandleAt(dirfd: number, path: string, flags: number): number {
  handle.view.setUint32(0, MAX_HANDLE_SZ, true); // handle_bytes
  check(
    libc().name_to_handle_at(dirfd, scratchCString(path), handle.address, handleMount.address, flags),
    errno[0],
    "name_to_handle_at",
    path,
  );
  return handle.view.getInt32(4, true); // handle_type
}

const MAX_HANDLE_SZ = 128; // linux/exportfs.h
const handle = new Scratch(8 + MAX_HANDLE_SZ); // struct file_handle
const handleMount = new Scratch(4); // int

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
  const result = libc().realpath(scratchCString(path), pathMemory);
  const own = errno[0];
  if (result === null) throw new SyscallError({ syscall: "realpath", errno: errnoOfCall(own), path });
  return decodeCString(pathMemory, 0);
}

/**
 * realpath(3) on another thread, for a path on a server that may not answer.
 *
 * Needs the permission `ffi`.
 *
 * @param path a path that exists.
 * @returns the canonical path; undefined for a failure, whose errno is lost.
 *
 * @example
 * ```ts
 * import { realpathOffThread } from "@denomount/mount/linux";
 *
 * console.log(await realpathOffThread("/proc/self/root")); // "/"
 * ```
 */
export async function realpathOffThread(path: string): Promise<string | undefined> {
  const [name, resolved] = [cString(path), new Uint8Array(PATH_MAX + 1)];
  const result = await offThread(() => libc().realpath_nonblocking(name, resolved), name, resolved);
  return result === null ? undefined : decodeCString(resolved, 0);
}

/**
 * fchownat(2): changes the owner and the group of a file.
 *
 * Needs the permission `ffi` and CAP_CHOWN.
 *
 * @param dirfd the directory in which a relative path starts; with `AT_EMPTY_PATH` and "", the file itself.
 * @param path the file.
 * @param owner the user id; -1 keeps it.
 * @param group the group id; -1 keeps it.
 * @param flags `AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, fchownat, mkdtemp, rmdir } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * fchownat(AT_FDCWD, path, -1, -1, 0);
 * rmdir(path);
 * ```
 */
export function fchownat(dirfd: number, path: string, owner: number, group: number, flags: number): void {
  const result = libc().fchownat(dirfd, scratchCString(path), owner >>> 0, group >>> 0, flags);
  check(result, errno[0], "fchownat", path || undefined);
}

/**
 * chmod(2): changes the mode of a file.
 *
 * Needs the permission `ffi`, and ownership of the file or CAP_FOWNER.
 *
 * @param path the file.
 * @param mode the mode, such as 0o755.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { chmod, mkdtemp, rmdir } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * chmod(path, 0o755);
 * rmdir(path);
 * ```
 */
export function chmod(path: string, mode: number): void {
  check(libc().chmod(scratchCString(path), mode), errno[0], "chmod", path);
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
  check(libc().mkdir(scratchCString(path), mode), errno[0], "mkdir", path);
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
  const result = libc().mkdtemp(template);
  const own = errno[0];
  if (result === null) {
    throw new SyscallError({ syscall: "mkdtemp", errno: errnoOfCall(own), path: `${prefix}XXXXXX` });
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
  check(libc().rmdir(scratchCString(path)), errno[0], "rmdir", path);
}

/**
 * unlink(2): removes a name of a file.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file; a symbolic link itself.
 * @throws {SyscallError} EISDIR for a directory.
 *
 * @example
 * ```ts
 * import { mkdtemp, rmdir, symlink, unlink } from "@denomount/mount/linux";
 *
 * const parent = mkdtemp("/tmp/example-");
 * symlink("/usr", `${parent}/link`);
 * unlink(`${parent}/link`);
 * rmdir(parent);
 * ```
 */
export function unlink(path: string): void {
  check(libc().unlink(scratchCString(path)), errno[0], "unlink", path);
}

/**
 * unlinkat(2): removes a name in an open directory.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd the directory in which a relative path starts.
 * @param path the file, or a symbolic link itself; with `AT_REMOVEDIR` an empty directory.
 * @param flags 0 or `AT_REMOVEDIR`.
 * @throws {SyscallError} EISDIR for a directory without `AT_REMOVEDIR`, EBUSY for a mountpoint.
 *
 * @example
 * ```ts
 * import { AT_REMOVEDIR, mkdtemp, O_DIRECTORY, O_RDONLY, open, symlink, unlinkat } from "@denomount/mount/linux";
 *
 * const path = mkdtemp("/tmp/example-");
 * symlink("/usr", `${path}/link`);
 * using directory = open(path, O_RDONLY | O_DIRECTORY);
 * unlinkat(directory.fd, "link", 0);
 * using parent = open("/tmp", O_RDONLY | O_DIRECTORY);
 * unlinkat(parent.fd, path.slice("/tmp/".length), AT_REMOVEDIR);
 * ```
 */
export function unlinkat(dirfd: number, path: string, flags: number): void {
  check(libc().unlinkat(dirfd, scratchCString(path), flags), errno[0], "unlinkat", path);
}

/**
 * link(2): gives a file another name. It never replaces a file.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file; a symbolic link at its end is not followed.
 * @param name the new name, on the same mount.
 * @throws {SyscallError} EEXIST if the name exists already.
 *
 * @example
 * ```ts
 * import { link, mkdtemp, rmdir, symlink, unlink } from "@denomount/mount/linux";
 *
 * const parent = mkdtemp("/tmp/example-");
 * symlink("/usr", `${parent}/a`);
 * link(`${parent}/a`, `${parent}/b`);
 * for (const name of ["a", "b"]) unlink(`${parent}/${name}`);
 * rmdir(parent);
 * ```
 */
export function link(path: string, name: string): void {
  check(libc().link(cString(path), cString(name)), errno[0], "link", name);
}

/**
 * symlink(2): makes a symbolic link.
 *
 * Needs the permission `ffi`.
 *
 * @param target what the link says.
 * @param path the link.
 * @throws {SyscallError} EEXIST if the path exists already.
 *
 * @example
 * ```ts
 * import { mkdtemp, rmdir, symlink, unlink } from "@denomount/mount/linux";
 *
 * const parent = mkdtemp("/tmp/example-");
 * symlink("/usr", `${parent}/link`);
 * unlink(`${parent}/link`);
 * rmdir(parent);
 * ```
 */
export function symlink(target: string, path: string): void {
  check(libc().symlink(cString(target), cString(path)), errno[0], "symlink", path);
}
