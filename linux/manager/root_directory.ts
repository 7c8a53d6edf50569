/**
 * The directory in which a program of this library keeps its mounts and its record.
 *
 * @module
 */

import { requirePermission } from "../../ffi/permission.ts";
import { quote } from "../../ffi/text.ts";
import { ensureAnswers } from "../path/cached_lookup.ts";
import { canonicalizePath } from "../path/path.ts";
import type { WaitOptions } from "../path/wait.ts";
import { AT_FDCWD, S_IFDIR, S_IFMT, STATX_BASIC_STATS } from "../syscalls/constants.ts";
import { geteuid, statx } from "../syscalls/mod.ts";

/**
 * Refuses a path that has to be escaped in an overlay's options, or can't be in the record.
 *
 * @param path the path.
 * @param user who uses it, for the error.
 * @throws {TypeError} for such a path, and a relative one.
 */
export function refuseRootPath(path: string, user: string): void {
  if (!path.startsWith("/")) throw new TypeError(`${user} takes absolute paths, not ${quote(path)}`);
  if (/[\\:,"\s\0]/.test(path) || !path.isWellFormed()) {
    throw new TypeError(
      `${user} can't use ${quote(path)}: it has a colon, comma, quote, backslash or space in it`,
    );
  }
}

/**
 * Makes a directory that only this user can write to, unless it exists.
 *
 * @param root its path.
 * @param user who uses it, for the errors.
 * @param wait the timeout and the signal for a server on the path.
 * @returns its canonical path.
 * @throws {TypeError} if it is no directory, or other users can write to it.
 */
export async function makeRootDirectory(root: string, user: string, wait: WaitOptions): Promise<string> {
  requirePermission({ name: "write", path: root });
  await ensureAnswers(root, wait); // Deno.mkdir() would wait for ever on one of Deno's threads
  await Deno.mkdir(root, { recursive: true, mode: 0o700 });
  const canonical = await canonicalizePath(root, wait);
  refuseRootPath(canonical, user);
  const { mode, uid } = statx(AT_FDCWD, canonical, 0, STATX_BASIC_STATS);
  if ((mode & S_IFMT) !== S_IFDIR) throw new TypeError(`${quote(root)} is no directory`);
  if (uid !== geteuid() || (mode & 0o022) !== 0) {
    throw new TypeError(`other users can write to ${quote(root)}: they could replace what is mounted in it`);
  }
  return canonical;
}
