/**
 * Mountpoints that are made if they are missing: `X-mount.mkdir`.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { type MountTarget, openTarget, procFdPath } from "../path/mount_target.ts";
import { join } from "../path/path.ts";
import { mkdir, rmdir } from "../syscalls/mod.ts";

/** A directory that was made for a mountpoint. */
export interface MadeDirectory {
  /** Its path. */
  readonly directory: string;
}

/** Gets each directory that was made, in its order. */
export interface MadeDirectories {
  /** Takes one, and its parent directory, which is closed afterwards; undefined for one above the target. */
  push(made: MadeDirectory, parent?: OwnedFd): unknown;
}

/**
 * Opens a mountpoint below a target, and makes the directories of its path that are missing. No symbolic link and no `..`
 * leads out of the target.
 *
 * @param target the target directory, which is made too.
 * @param subpath the normalized path below it.
 * @param mode the mode of the directories.
 * @param made gets the path of each directory that was made, in its order.
 * @returns the mountpoint.
 * @throws {SyscallError} EEXIST if a symbolic link on the path leads to nothing.
 */
export function makeTarget(
  target: string,
  subpath: string,
  mode: number,
  made: MadeDirectories,
): MountTarget {
  makeDirectories(target, mode, made);
  const names = subpath.split("/").filter((name) => name !== "");
  for (let depth = 1; depth <= names.length; depth++) {
    const path = `/${names.slice(0, depth).join("/")}`;
    if (exists(target, path)) continue;
    using parent = openTarget(target, `/${names.slice(0, depth - 1).join("/")}`);
    const directory = join(parent.path, names[depth - 1] ?? "");
    mkdir(`${procFdPath(parent)}/${names[depth - 1]}`, mode);
    made.push({ directory }, parent);
  }
  return openTarget(target, subpath);
}

function exists(target: string, subpath: string): boolean {
  try {
    openTarget(target, subpath).close();
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

function makeDirectories(path: string, mode: number, made: MadeDirectories): void {
  const missing: string[] = [];
  for (let at = path; !exists(at, "/"); at = join(at, "..")) missing.push(at);
  for (const directory of missing.reverse()) {
    mkdir(directory, mode);
    made.push({ directory });
  }
}

/**
 * Removes a directory that was made for a mount which failed.
 *
 * @param path its path. One that is gone, that another process uses meanwhile, or that an entry has made
 * read-only, stays as it is.
 */
export function removeDirectory(path: string): void {
  try {
    rmdir(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ENOTEMPTY", "ENOTDIR", "EBUSY", "EROFS")) throw error;
  }
}
