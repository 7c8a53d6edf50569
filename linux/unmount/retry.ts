/**
 * Taking off what is mounted on one path, until it is done or has been tried for long enough.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { withDisposable } from "../../ffi/fd.ts";
import { AT_SYMLINK_NOFOLLOW, O_NOFOLLOW, UMOUNT_NOFOLLOW } from "../syscalls/constants.ts";
import type { Deadline } from "./deadline.ts";
import { delay } from "../path/delay.ts";
import { openCached } from "../path/cached_lookup.ts";
import { type StatxMount, statxMountUniqueFd, uniqueMountAt } from "../mountinfo/statx_mount.ts";
import { tryUmountSync, umountOnce } from "./umount_once.ts";

const AGAIN = 50; // ms between two tries of a busy mount

/**
 * Takes everything off a mountpoint that is stacked on it.
 *
 * @param target the mountpoint.
 * @param effort how hard to try.
 * @param top what is mounted there.
 * @returns undefined where all of it is off already, as what waits for no disk is.
 */
export function unmountStacked(
  target: string,
  effort: Deadline,
  top: StatxMount | undefined,
): Promise<void> | undefined {
  for (; top !== undefined; top = topMount(target, effort)) {
    effort.signal?.throwIfAborted();
    if (!tryUmountSync(target, effort.flags, top)) return takeRestOff(target, effort, top);
  }
  return undefined;
}

async function takeRestOff(target: string, effort: Deadline, top: StatxMount): Promise<void> {
  await unmountRetrying(target, effort, top);
  const waiting = unmountStacked(target, effort, topMount(target, effort));
  if (waiting) await waiting;
}

/**
 * What is mounted on a path now.
 *
 * @param target the path.
 * @param effort whether symbolic links are followed.
 * @returns undefined where nothing is.
 */
export function topMount(target: string, { flags }: Deadline): StatxMount | undefined {
  return uniqueMountAt(target, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
}

/**
 * The same, of a path that can be walked right now.
 *
 * @param target the path.
 * @param effort whether symbolic links are followed.
 * @returns undefined where nothing is; "unknown" where somebody would have to be asked.
 */
export function topMountCached(target: string, effort: Deadline): StatxMount | undefined | "unknown" {
  effort.signal?.throwIfAborted();
  const known = openCached(target, effort.flags & UMOUNT_NOFOLLOW ? O_NOFOLLOW : 0);
  if (known === "unknown") return known;
  if (known === "absent") return topMount(target, effort);
  const spot = withDisposable(known, statxMountUniqueFd);
  return spot.isRoot ? spot : undefined;
}

/**
 * Takes one mount off, if there is one; tries again while it is busy.
 *
 * @param target the mountpoint.
 * @param effort how hard to try.
 * @param top what is mounted there.
 */
export async function unmountRetrying(
  target: string,
  effort: Deadline,
  top = topMount(target, effort),
): Promise<void> {
  for (;; top = topMount(target, effort)) {
    effort.signal?.throwIfAborted();
    try {
      return await umountOnce(target, effort.flags, top, effort);
    } catch (error) {
      if (isErrno(error, "EINVAL") && error.syscall === "umount2") return refuseLocked(target, effort);
      if (!isErrno(error, "EBUSY") || effort.expired) throw error;
    }
    await delay(AGAIN, effort.signal);
  }
}

/** EINVAL says "no mountpoint", but also "a mount that came from a more privileged mount namespace". */
function refuseLocked(target: string, effort: Deadline): void {
  if (topMount(target, effort) === undefined) return;
  throw new SyscallError({ syscall: "umount2", errno: errnoNumber("EINVAL"), path: target });
}
