/**
 * open(2), openat(2) and openat2(2).
 *
 * @module
 */

import { check, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, errnoOfCall, libc } from "../../ffi/libc.ts";
import { cString, offThread, scratchCString } from "../../ffi/memory.ts";
import { Scratch } from "../../ffi/scratch.ts";
import { O_CLOEXEC } from "./constants.ts";
import { SYS_openat2 } from "./numbers.ts";
import { openHow } from "./open_how.ts";

/**
 * open(2): opens a file.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @param mode the permission bits of a new file, with `O_CREAT`; the umask clears some of them.
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
export function open(path: string, flags: number, mode = 0): OwnedFd {
  return new OwnedFd(
    check(libc().open(scratchCString(path), flags | O_CLOEXEC, mode), errno[0], "open", path),
  );
}

/**
 * openat(2): opens a file below an open directory.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd the directory of a relative path.
 * @param path the file.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @param mode the permission bits of a new file, with `O_CREAT`; the umask clears some of them.
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
export function openat(dirfd: number, path: string, flags: number, mode = 0): OwnedFd {
  return new OwnedFd(
    check(libc().openat(dirfd, scratchCString(path), flags | O_CLOEXEC, mode), errno[0], "openat", path),
  );
}

/**
 * openat2(2): opens a file with flags that restrict the resolution of the path.
 *
 * Needs the permission `ffi` and Linux 5.6.
 *
 * @param dirfd the directory of a relative path.
 * @param path the file.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @param resolve `RESOLVE_…` flags.
 * @returns its descriptor.
 * @throws {SyscallError} with the call's errno; EAGAIN if a rename or mount raced with the resolution.
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
 * openat2(2), which returns the errno instead of throwing. Creating an error takes many times as long as the call.
 *
 * Needs the permission `ffi` and Linux 5.6.
 *
 * @param dirfd the directory of a relative path, or `AT_FDCWD`.
 * @param path the path.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @param resolve `RESOLVE_…` flags.
 * @returns the descriptor, which the caller must close; or the negative errno.
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
  return fd < 0 ? -errnoOfCall(errno[0]) : fd;
}

// Reused: allocating it takes longer than the call.
const how = new Scratch(24); // struct open_how, linux/openat2.h

/**
 * openat2(2) on another thread, for a path on a server that may not answer.
 *
 * Needs the permission `ffi` and Linux 5.6.
 *
 * @param dirfd the directory of a relative path, or `AT_FDCWD`. It must stay open until the promise settles.
 * @param path the path.
 * @param flags `O_…` flags; close-on-exec is always set.
 * @param resolve `RESOLVE_…` flags.
 * @returns the descriptor, which the caller must close; -1 for a failure, whose errno is lost.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, O_PATH, openat2OffThread, OwnedFd } from "@denomount/mount/linux";
 *
 * using root = new OwnedFd(await openat2OffThread(AT_FDCWD, "/", O_PATH, 0));
 * ```
 */
export async function openat2OffThread(
  dirfd: number,
  path: string,
  flags: number,
  resolve: number,
): Promise<number> {
  const [name, structure] = [cString(path), openHow(flags, resolve)];
  const call = () => libc().openat2_nonblocking(SYS_openat2, dirfd, name, structure, 24n);
  return await offThread(call, name, structure);
}
