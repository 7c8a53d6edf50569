/**
 * Taking off what is mounted on one path, until it is done or has been tried for long enough.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../ffi/errno.ts";
import { AT_SYMLINK_NOFOLLOW, UMOUNT_NOFOLLOW } from "./constants.ts";
import type { Effort } from "./effort.ts";
import { mountRoot, statxUnique } from "./lookup.ts";
import { pause } from "./pause.ts";
import type { Statx } from "./syscalls.ts";
import { umountAtOnce, umountOnce } from "./umount.ts";

const AGAIN = 50; // ms between two tries of a busy mount

/**
 * Takes everything off a mountpoint that is stacked on it.
 *
 * @param target the mountpoint.
 * @param effort how hard to try.
 */
export async function takeAllOff(target: string, effort: Effort): Promise<void> {
  if (target === "") return;
  for (let top = topOf(target, effort); top !== undefined; top = topOf(target, effort)) {
    effort.signal?.throwIfAborted();
    if (!umountAtOnce(target, effort.flags, top)) await takeOff(target, effort, top);
  }
}

/**
 * What is mounted on a path now.
 *
 * @param target the path.
 * @param effort whether symbolic links are followed.
 * @returns what statx(2) tells of it; undefined where nothing is.
 */
export function topOf(target: string, { flags }: Effort): Statx | undefined {
  return mountRoot(target, (path) => statxUnique(path, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0));
}

/**
 * Takes one mount off, if there is one; tries again while it is busy.
 *
 * @param target the mountpoint.
 * @param effort how hard to try.
 * @param top what is mounted there.
 */
export async function takeOff(target: string, effort: Effort, top = topOf(target, effort)): Promise<void> {
  for (;; top = topOf(target, effort)) {
    effort.signal?.throwIfAborted();
    try {
      return await umountOnce(target, effort.flags, top, effort);
    } catch (error) {
      if (isErrno(error, "EINVAL") && error.syscall === "umount2") return refuseLocked(target, effort);
      if (!isErrno(error, "EBUSY") || effort.isOver) throw error;
    }
    await pause(AGAIN, effort.signal);
  }
}

/** EINVAL says "no mountpoint", but also "a mount that came from a more privileged mount namespace". */
function refuseLocked(target: string, effort: Effort): void {
  if (topOf(target, effort) === undefined) return;
  throw new SyscallError({ syscall: "umount2", errno: errnoNumber("EINVAL"), path: target });
}
