/**
 * Unmounting what is mounted on one path, with retries while it is busy.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { withDisposable } from "../../ffi/fd.ts";
import { AT_SYMLINK_NOFOLLOW, O_NOFOLLOW, UMOUNT_NOFOLLOW } from "../syscalls/constants.ts";
import { BusyError } from "./busy_error.ts";
import type { Deadline } from "./deadline.ts";
import { findHolders } from "./holders.ts";
import { delay } from "../path/delay.ts";
import { openCached, resolveOffThread } from "../path/cached_lookup.ts";
import { mountAt, type StatxMount, statxMountUniqueFd, uniqueMountAt } from "../mountinfo/statx_mount.ts";
import { umountOnce } from "./umount_once.ts";

const RETRY_INTERVAL = 50; // ms

/**
 * Finds the topmost mount of a path.
 *
 * @param target the path; every directory on it can be reached without waiting for a server.
 * @param deadline its flags say whether a symbolic link at the end is followed.
 * @returns undefined if the path does not exist or is not a mountpoint.
 */
export function topMount(target: string, { flags }: Deadline): StatxMount | undefined {
  return uniqueMountAt(target, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
}

/**
 * Finds the topmost mount of any path.
 *
 * @param target the path.
 * @param deadline how long to wait for a server on the way.
 * @returns undefined if the path does not exist or is not a mountpoint. A promise only if the path is not in the dentry
 * cache: an `await` on each call would cost 1 % of an unmount.
 * @throws {SyscallError} ETIMEDOUT if a server on the way does not answer.
 */
export function resolveTopMount(
  target: string,
  deadline: Deadline,
): StatxMount | undefined | Promise<StatxMount | undefined> {
  deadline.signal?.throwIfAborted();
  const opened = openCached(target, deadline.flags & UMOUNT_NOFOLLOW ? O_NOFOLLOW : 0);
  if (opened === "uncached") return resolveOffThread(target, deadline).then(() => topMount(target, deadline));
  if (opened === "enoent") return topMount(target, deadline);
  const mount = withDisposable(opened, statxMountUniqueFd);
  return mount.isRoot ? mount : undefined;
}

/**
 * Unmounts every mount of a mountpoint, the topmost first.
 *
 * @param target the mountpoint.
 * @param deadline its flags, and how long to retry and wait.
 * @param top the topmost mount; undefined if there is none.
 * @throws {SyscallError} as {@linkcode unmountRetrying} does.
 */
export async function unmountStacked(
  target: string,
  deadline: Deadline,
  top: StatxMount | undefined,
): Promise<void> {
  for (; top !== undefined; top = topMount(target, deadline)) await unmountRetrying(target, deadline, top);
}

/**
 * Unmounts the topmost mount of a target, if there is one, and retries while it is busy.
 *
 * @param target the mountpoint.
 * @param deadline its flags, and how long to retry and wait.
 * @param top the topmost mount.
 * @param isOwn whether the topmost mount is the one that is meant, if it must be no other.
 * @param isImmediate whether it is known that umount2(2) need not wait.
 * @throws {BusyError} EBUSY if the mount is still busy at the deadline.
 * @throws {SyscallError} EINVAL if it is locked.
 */
export async function unmountRetrying(
  target: string,
  deadline: Deadline,
  top = topMount(target, deadline),
  isOwn?: (top: StatxMount) => boolean,
  isImmediate = false,
): Promise<void> {
  for (;; top = topMount(target, deadline)) {
    if (isOwn && !(top && isOwn(top))) return; // another process has unmounted it, or covered it, meanwhile
    deadline.signal?.throwIfAborted();
    try {
      return await umountOnce(target, deadline, top, isImmediate);
    } catch (error) {
      if (isErrno(error, "EINVAL") && error.syscall === "umount2") return refuseLocked(target, deadline);
      if (!isErrno(error, "EBUSY")) throw error;
      if (deadline.expired) {
        throw error.syscall === "umount2" ? await withHolders(error, target, deadline) : error;
      }
    }
    await delay(RETRY_INTERVAL, deadline.signal);
  }
}

/** Looks for the holders of a busy mount. An error of the search does not replace the error of the unmount. */
async function withHolders(
  error: SyscallError,
  target: string,
  { flags, signal }: Deadline,
): Promise<BusyError> {
  try {
    const top = mountAt(target, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
    return new BusyError(error, top === undefined ? [] : await findHolders(top.mountId, signal));
  } catch (failure) {
    if (failure instanceof SyscallError) return new BusyError(error, []);
    throw failure;
  }
}

/** EINVAL means "not a mountpoint", but also "a mount that is locked, as it comes from a more privileged namespace". */
function refuseLocked(target: string, deadline: Deadline): void {
  if (topMount(target, deadline) === undefined) return;
  throw new SyscallError({ syscall: "umount2", errno: errnoNumber("EINVAL"), path: target });
}
