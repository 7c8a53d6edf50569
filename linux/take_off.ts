/**
 * Taking off what is mounted on one path, until it is done or has been tried for long enough.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../ffi/errno.ts";
import { closing } from "../ffi/fd.ts";
import { AT_SYMLINK_NOFOLLOW, O_NOFOLLOW, UMOUNT_NOFOLLOW } from "./constants.ts";
import type { Effort } from "./effort.ts";
import { pause } from "./pause.ts";
import { openKnown } from "./reach.ts";
import { type Spot, uniquelyMountedOn, uniqueSpotAt } from "./spot.ts";
import { umountAtOnce, umountOnce } from "./umount.ts";

const AGAIN = 50; // ms between two tries of a busy mount

/**
 * Takes everything off a mountpoint that is stacked on it.
 *
 * @param target the mountpoint.
 * @param effort how hard to try.
 * @param top what is mounted there.
 * @returns undefined where all of it is off already, as what waits for no disk is.
 */
export function takeAllOff(
  target: string,
  effort: Effort,
  top: Spot | undefined,
): Promise<void> | undefined {
  for (; top !== undefined; top = topOf(target, effort)) {
    effort.signal?.throwIfAborted();
    if (!umountAtOnce(target, effort.flags, top)) return takeRestOff(target, effort, top);
  }
  return undefined;
}

async function takeRestOff(target: string, effort: Effort, top: Spot): Promise<void> {
  await takeOff(target, effort, top);
  const waiting = takeAllOff(target, effort, topOf(target, effort));
  if (waiting) await waiting;
}

/**
 * What is mounted on a path now.
 *
 * @param target the path.
 * @param effort whether symbolic links are followed.
 * @returns undefined where nothing is.
 */
export function topOf(target: string, { flags }: Effort): Spot | undefined {
  return uniquelyMountedOn(target, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
}

/**
 * The same, of a path that can be walked right now.
 *
 * @param target the path.
 * @param effort whether symbolic links are followed.
 * @returns undefined where nothing is; "unknown" where somebody would have to be asked.
 */
export function topInReach(target: string, effort: Effort): Spot | undefined | "unknown" {
  effort.signal?.throwIfAborted();
  const known = openKnown(target, effort.flags & UMOUNT_NOFOLLOW ? O_NOFOLLOW : 0);
  if (known === "unknown") return known;
  if (known === "absent") return topOf(target, effort);
  const spot = closing(known, uniqueSpotAt);
  return spot.isRoot ? spot : undefined;
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
