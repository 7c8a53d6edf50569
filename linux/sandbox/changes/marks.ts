/**
 * The marks that overlay leaves in its upper directory: whiteouts, opaque directories and its own attributes.
 *
 * @module
 */

import { isErrno, type SyscallError } from "../../../ffi/errno.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  STATX_BASIC_STATS,
} from "../../syscalls/constants.ts";
import { getxattr, listxattr, type Statx, statx } from "../../syscalls/mod.ts";
import type { FileType } from "./types.ts";

const types: ReadonlyMap<number, FileType> = new Map([
  [S_IFREG, "file"],
  [S_IFDIR, "directory"],
  [S_IFLNK, "symlink"],
  [S_IFIFO, "fifo"],
  [S_IFSOCK, "socket"],
  [S_IFCHR, "char"],
  [S_IFBLK, "block"],
]);

/**
 * The type of a file.
 *
 * @param mode its mode.
 * @returns the type.
 */
export function typeOf(mode: number): FileType {
  const type = types.get(mode & S_IFMT);
  if (type === undefined) throw new TypeError(`the mode 0${mode.toString(8)} has no file type`);
  return type;
}

/**
 * The path of an open file, for calls that take no O_PATH descriptor. It leads to the file itself, also if that is a
 * symbolic link.
 *
 * @param fd the descriptor.
 * @returns the path.
 */
export function procPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/**
 * The fields of an open file, without asking a server.
 *
 * @param fd the file.
 * @returns its fields.
 */
export function lookAt(fd: number): Statx {
  return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS);
}

/**
 * The beginning of the names of overlay's own attributes.
 *
 * @param userxattr whether the overlay is mounted with `userxattr`.
 * @returns the beginning, with a dot at its end.
 */
export function overlayPrefix(userxattr: boolean | undefined): string {
  return userxattr ? "user.overlay." : "trusted.overlay.";
}

/**
 * The names of a file's attributes.
 *
 * @param fd the file.
 * @returns the names; none on a file system without attributes.
 */
export function attributeNames(fd: number): string[] {
  try {
    return listxattr(procPath(fd));
  } catch (error) {
    if (!isErrno(error, "EOPNOTSUPP")) throw error;
    return [];
  }
}

/**
 * Whether a file hides the name in the layers below.
 *
 * @param fd the file.
 * @param stat its fields.
 * @param prefix the beginning of overlay's attributes.
 * @returns true for a character device 0:0, and for an empty file with overlay's attribute `whiteout`.
 */
export function isWhiteout(fd: number, stat: Statx, prefix: string): boolean {
  const type = stat.mode & S_IFMT;
  if (type === S_IFCHR) return stat.rdevMajor === 0 && stat.rdevMinor === 0;
  return type === S_IFREG && stat.size === 0 && attributeNames(fd).includes(`${prefix}whiteout`);
}

/** The marks of a directory. */
export interface DirectoryMarks {
  /** Whether it hides what the layers below have under its path. */
  readonly isOpaque: boolean;
  /** Whether it has been renamed with `redirect_dir=on`. */
  readonly isRedirected: boolean;
}

/**
 * Reads the marks of a directory.
 *
 * @param fd the directory.
 * @param prefix the beginning of overlay's attributes.
 * @returns its marks.
 */
export function directoryMarks(fd: number, prefix: string): DirectoryMarks {
  const names = attributeNames(fd);
  const isMarked = names.includes(`${prefix}opaque`);
  return {
    isOpaque: isMarked && new TextDecoder().decode(getxattr(procPath(fd), `${prefix}opaque`)) === "y",
    isRedirected: names.includes(`${prefix}redirect`),
  };
}

/**
 * Whether an error says that a file is gone, or has become another one: the command that runs in the overlay may have
 * renamed or removed it.
 *
 * @param error the caught value.
 * @returns true if the walk goes on without the file.
 */
export function isGone(error: unknown): error is SyscallError {
  return isErrno(error, "ENOENT", "ENOTDIR", "ELOOP", "ESTALE");
}
