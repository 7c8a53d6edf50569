/**
 * Directories that the process which made them holds a lock on: another process can tell one that is in use from one that
 * a crash has left.
 *
 * @module
 */

import { join } from "../path/path.ts";
import { tryMkdir } from "../path/try_mkdir.ts";
import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { LOCK_EX, LOCK_NB, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY } from "../syscalls/constants.ts";
import { flock, mkdir, mkdtemp, open, rmdir } from "../syscalls/mod.ts";

/** A directory, and the descriptor that holds its lock. */
export interface LockedDirectory {
  /** Its path. */
  readonly directory: string;
  /** The lock, which ends when it is closed. */
  readonly lock: OwnedFd;
}

/**
 * Creates a directory with mode 0700 and locks it. A cleanup may remove the new directory before it is locked: then this
 * creates another one.
 *
 * @param prefix the beginning of its path; six random characters follow.
 * @param inner the name of a directory to create in it.
 * @returns the directory.
 * @throws {SyscallError} if it can't be created or locked.
 */
export function createLocked(prefix: string, inner?: string): LockedDirectory {
  for (;;) {
    const directory = mkdtemp(prefix);
    try {
      using stack = new DisposableStack();
      const lock = stack.use(tryLock(directory));
      if (lock !== undefined && isThere(directory, inner)) {
        stack.move();
        return { directory, lock };
      }
    } catch (error) {
      rmdir(directory);
      throw error;
    }
  }
}

/** Creates what is wanted in a directory; false if it was removed between the opening and the locking. */
function isThere(directory: string, inner: string | undefined): boolean {
  try {
    if (inner === undefined) open(directory, O_PATH).close();
    else mkdir(join(directory, inner), 0o700);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

/**
 * Locks a directory without waiting.
 *
 * @param directory its path; a symbolic link at its end is not followed.
 * @returns the lock; undefined if another process holds it, or the directory no longer exists.
 * @throws {SyscallError} with another errno.
 */
export function tryLock(directory: string): OwnedFd | undefined {
  try {
    using stack = new DisposableStack();
    const lock = stack.use(open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    flock(lock.fd, LOCK_EX | LOCK_NB);
    stack.move();
    return lock;
  } catch (error) {
    if (isErrno(error, "EAGAIN", "ENOENT", "ENOTDIR", "ELOOP")) return undefined;
    throw error;
  }
}

/**
 * Locks a directory without waiting, and makes it if it does not exist.
 *
 * @param directory its path; a symbolic link at its end is not followed.
 * @returns the lock; undefined if another process holds it, or has just removed the directory.
 * @throws {SyscallError} with another errno.
 */
export function lockOrMake(directory: string): OwnedFd | undefined {
  return tryLock(directory) ?? (tryMkdir(directory, 0o700) ? tryLock(directory) : undefined);
}
