/**
 * The directories in which a manager makes files: a path is resolved so that no symbolic link leads out of them.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { quote } from "../../ffi/text.ts";
import { ensureAnswers, openat2MayWait, openMayWait } from "../path/cached_lookup.ts";
import { procFdPath } from "../path/mount_target.ts";
import { dirname, join } from "../path/path.ts";
import type { WaitOptions } from "../path/wait.ts";
import {
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  O_DIRECTORY,
  O_PATH,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  STATX_BASIC_STATS,
  STATX_INO,
} from "../syscalls/constants.ts";
import { type Statx, statx } from "../syscalls/mod.ts";
import { FailedPreconditionError } from "./errors.ts";

/** An open directory and a name in it, which may not exist. */
export interface Place extends Disposable {
  /** The directory. */
  readonly parent: OwnedFd;
  /** The name in it. */
  readonly name: string;
  /** The path as the caller wrote it. */
  readonly path: string;
}

/**
 * Opens the directory of a path that is in one of the allowed roots.
 *
 * @param roots absolute, normalized directories.
 * @param path the path.
 * @param modifier the modifier that makes it, for the error.
 * @param wait the timeout and the signal.
 * @returns the directory and the last name.
 * @throws {TypeError} for a path that is in none of the roots, or has a component "..".
 * @throws {FailedPreconditionError} if a symbolic link on the path leads out of its root.
 * @throws {SyscallError} ENOENT if the directory does not exist.
 */
export async function openPlace(
  roots: readonly string[],
  path: string,
  modifier: string,
  wait: WaitOptions,
): Promise<Place> {
  const root = rootOf(roots, path, modifier);
  const inside = join(path).slice(root.length === 1 ? 1 : root.length + 1).replace(/\/$/, "");
  const name = inside.slice(inside.lastIndexOf("/") + 1);
  using directory = await openMayWait(root, O_PATH | O_DIRECTORY, wait);
  using stack = new DisposableStack();
  const parent = stack.use(await openBeneath(directory, dirname(inside), path, wait));
  await ensureAnswers(join(procFdPath(parent), name), wait); // the calls on the name would block this thread
  stack.move();
  return { parent, name, path, [Symbol.dispose]: () => parent.close() };
}

function rootOf(roots: readonly string[], path: string, modifier: string): string {
  if (!path.startsWith("/") || path.split("/").includes("..")) {
    throw new TypeError(`${quote(path)}: ${modifier} takes an absolute path without ".."`);
  }
  const whole = join(path).replace(/\/$/, "");
  const found = roots.find((root) => whole.startsWith(root === "/" ? root : `${root}/`) && whole !== root);
  if (found !== undefined) return found;
  throw new TypeError(`${modifier} makes nothing at ${quote(path)}: it is in none of ${roots.join(", ")}`);
}

async function openBeneath(root: OwnedFd, inside: string, path: string, wait: WaitOptions): Promise<OwnedFd> {
  const resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  for (let tries = 1;; tries++) {
    try {
      return await openat2MayWait(root.fd, inside, O_PATH | O_DIRECTORY, resolve, wait);
    } catch (error) {
      // A rename or mount anywhere races with the resolution of "..", which a link on the path may have.
      if (isErrno(error, "EAGAIN") && tries < 128) continue;
      if (!isErrno(error, "EXDEV", "EAGAIN")) throw error;
      throw new FailedPreconditionError(
        `a symbolic link on the path ${quote(path)} leads out of its root directory`,
      );
    }
  }
}

/**
 * Looks at what is in a place now, without following a link.
 *
 * @param place the place.
 * @returns its state; undefined if nothing is there.
 */
export function statPlace({ parent, name }: Place): Statx | undefined {
  try {
    return statx(parent.fd, name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_INO);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
