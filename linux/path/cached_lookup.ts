/**
 * Waiting for what may never answer: the server of a FUSE or network file system, or a helper that waits for one.
 *
 * A system call that walks a path over such a mount stands still, and the whole event loop with it. So before such a
 * walk the kernel is asked whether it knows every name on the way. Where it does not, the walk is made on another
 * thread first, and waited for only so long.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_STATX_DONT_SYNC,
  O_PATH,
  RESOLVE_CACHED,
} from "../syscalls/constants.ts";
import { statxOffThread, tryOpenat2 } from "../syscalls/mod.ts";

/** How long to wait. */
export interface WaitOptions {
  /** In milliseconds; 2500 if left out. */
  readonly timeout?: number | undefined;
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined;
}

/** How long a server or a busy mount is waited for, in milliseconds. */
export const DEFAULT_TIMEOUT = 2500;

/**
 * Makes sure that a path can be walked without waiting for a server.
 *
 * @param path the path; whether there is anything does not matter.
 * @param patience how long to wait.
 * @throws {SyscallError} ETIMEDOUT where a server on the way does not answer.
 */
export async function ensureResolvable(path: string, patience: WaitOptions = {}): Promise<void> {
  if (!isCached(path, patience)) await resolveOffThread(path, patience);
}

/**
 * Whether it can be walked right now: mostly it can, and then there is nothing to await.
 *
 * @param path the path.
 * @param patience its signal may have been given already.
 * @returns false where {@linkcode resolveOffThread} has to be awaited first.
 */
export function isCached(path: string, patience: WaitOptions = {}): boolean {
  patience.signal?.throwIfAborted();
  const known = openCached(path);
  if (known instanceof OwnedFd) known.close();
  return known !== "unknown";
}

/**
 * Opens a path that can be walked right now. It is no automount point that waits to be mounted: those are not known.
 *
 * @param path the path.
 * @param flags O_NOFOLLOW, where a symbolic link at its end is meant itself.
 * @returns an O_PATH descriptor; "absent" where the kernel says at once that there is nothing or no way to it; "unknown"
 * where it would have to ask somebody.
 */
export function openCached(path: string, flags = 0): OwnedFd | "absent" | "unknown" {
  const fd = tryOpenat2(AT_FDCWD, path, O_PATH | flags, RESOLVE_CACHED);
  if (fd >= 0) return new OwnedFd(fd);
  // Anything else, such as EAGAIN, or EINVAL before Linux 5.12, says nothing about the path.
  return absent.includes(-fd) ? "absent" : "unknown";
}

const absent = ["ENOENT", "ENOTDIR", "ELOOP", "EACCES", "ENAMETOOLONG"].map(errnoNumber);

/**
 * Walks a path on another thread.
 *
 * @param path the path.
 * @param patience how long to wait.
 * @throws {SyscallError} as {@linkcode ensureResolvable} does.
 */
export async function resolveOffThread(path: string, patience: WaitOptions = {}): Promise<void> {
  await withTimeout(statxOffThread(path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC), patience, "statx", path);
}

/**
 * Waits for something, but not longer than said; it goes on by itself then.
 *
 * @param work what is waited for.
 * @param patience how long.
 * @param syscall what it does, for the error.
 * @param path what it does that with.
 * @returns what it settles with.
 * @throws {SyscallError} ETIMEDOUT where it takes longer; the signal's reason where that ends it.
 */
export async function withTimeout<T>(
  work: Promise<T>,
  { timeout = DEFAULT_TIMEOUT, signal }: WaitOptions,
  syscall: string,
  path?: string,
): Promise<T> {
  const { promise: end, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort, { once: true });
  const late = () => reject(new SyscallError({ syscall, errno: errnoNumber("ETIMEDOUT"), path }));
  const timer = Number.isFinite(timeout) ? setTimeout(late, timeout) : undefined;
  try {
    return await Promise.race([work, end]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    work.catch(() => {}); // nobody waits for it any more
  }
}
