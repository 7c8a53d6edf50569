/**
 * The files and directories that an activation has made, which go again if it fails.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { procFdPath } from "../path/mount_target.ts";
import type { WaitOptions } from "../path/wait.ts";
import { rmdir, type Statx, unlink } from "../syscalls/mod.ts";
import { openPlace, type Place, statPlace } from "./allowed_roots.ts";
import { FailedPreconditionError } from "./errors.ts";

/** A file or directory that an activation makes, or an image that it uses. */
export interface Made {
  /** Which of the two it is. */
  readonly kind: "file" | "directory";
  /** Its path. */
  readonly path: string;
  /** Whether the activation makes it. An image that another activation has made is only used. */
  readonly isOwned: boolean;
  /** What identifies the file; undefined for a name that no other file has. */
  readonly file?: string | undefined;
}

/** Keeps what was made, before it is made. */
export interface MadeLog {
  /** Writes one down. */
  add(made: Made): Promise<void>;
  /** Forgets one, because it is gone or was not made. */
  remove(path: string): Promise<void>;
}

/** What the modifiers need to make files. */
export interface Making {
  /** The directories in which files may be made. */
  readonly roots: readonly string[];
  /** The timeout and the signal of the call. */
  readonly wait: WaitOptions;
  /** What was made. */
  readonly log: MadeLog;
  /** A word that no other activation uses, for the names of temporary files. */
  readonly unique: string;
}

/**
 * Identifies a file.
 *
 * @param stat its state.
 * @returns a text that no other file of this machine has.
 */
export function fileId({ devMajor, devMinor, inode }: Statx): string {
  return `${devMajor}:${devMinor}:${inode}`;
}

/**
 * Removes a directory that was made. One that is not empty stays.
 *
 * @param roots the directories in which files may be made.
 * @param path its path.
 * @param wait the timeout and the signal.
 */
export async function removeMadeDirectory(
  roots: readonly string[],
  path: string,
  wait: WaitOptions,
): Promise<void> {
  await inPlace(roots, path, wait, (place) => callAt(place, rmdir));
}

/**
 * Removes a file that was made. One that is another file by now stays.
 *
 * @param roots the directories in which files may be made.
 * @param made the file.
 * @param wait the timeout and the signal.
 * @param unlinkUnused calls its function, unless another activation uses the file.
 */
export async function removeMadeFile(
  roots: readonly string[],
  made: Made,
  wait: WaitOptions,
  unlinkUnused: (unlink: () => void) => Promise<void>,
): Promise<void> {
  await inPlace(roots, made.path, wait, (place) =>
    unlinkUnused(() => {
      const stat = statPlace(place);
      if (stat !== undefined && (made.file === undefined || made.file === fileId(stat))) {
        unlink(pathOf(place));
      }
    }));
}

/** What is gone, or used by another process, stays as it is. */
async function inPlace(
  roots: readonly string[],
  path: string,
  wait: WaitOptions,
  remove: (place: Place) => void | Promise<void>,
): Promise<void> {
  try {
    using place = await openPlace(roots, path, "the manager", wait);
    await remove(place);
  } catch (error) {
    if (error instanceof FailedPreconditionError) return; // a link has taken the place of a directory
    if (!isErrno(error, "ENOENT", "ENOTDIR", "ELOOP", "ENOTEMPTY", "EBUSY")) throw error;
  }
}

/**
 * The path of a place, for calls that take no directory descriptor.
 *
 * @param place the place.
 * @returns a path in /proc, which always leads to the open directory.
 */
export function pathOf({ parent, name }: Place): string {
  return `${procFdPath(parent)}/${name}`;
}

/**
 * Makes calls on the path of a place; their errors name the path that the caller wrote.
 *
 * @param place the place.
 * @param call makes the calls.
 * @returns the value of the function.
 * @throws {SyscallError} with that path.
 */
export function callAt<T>(place: Place, call: (path: string) => T): T {
  try {
    return call(pathOf(place));
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const { syscall, errno, reason } = error;
    throw new SyscallError({ syscall, errno, path: place.path, reason });
  }
}
