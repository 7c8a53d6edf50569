/**
 * Path resolution that does not block on a dead server.
 *
 * A system call that resolves a path on a FUSE or network mount blocks while the server does not answer, and blocks the
 * event loop with it. openat2(RESOLVE_CACHED) tells whether the dentry cache has every component of the path. If not,
 * another thread resolves the path first, which fills the cache, and this one waits for it until a timeout.
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

/** How long to wait for a server, a helper or a busy mount. */
export interface WaitOptions {
  /** The timeout in milliseconds; 2500 if left out. */
  readonly timeout?: number | undefined;
  /** Ends the wait, with its reason as the error. */
  readonly signal?: AbortSignal | undefined;
}

/** The default timeout, in milliseconds. */
export const DEFAULT_TIMEOUT = 2500;

/**
 * Waits until a path can be resolved without blocking on a server.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path; it need not exist.
 * @param wait the timeout and the signal.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 */
export async function ensureResolvable(path: string, wait: WaitOptions = {}): Promise<void> {
  if (!isCached(path, wait)) await resolveOffThread(path, wait);
}

/**
 * Whether the dentry cache has every component of a path, which is the usual case.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path; it need not exist.
 * @param wait only its signal is used.
 * @returns false if the caller must await {@linkcode resolveOffThread} first.
 * @throws the signal's reason, if it is aborted.
 */
export function isCached(path: string, wait: WaitOptions = {}): boolean {
  wait.signal?.throwIfAborted();
  const found = openCached(path);
  if (found instanceof OwnedFd) found.close();
  return found !== "uncached";
}

/**
 * Opens a path from the dentry cache. An automount point that is not mounted yet counts as not cached.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path.
 * @param flags O_NOFOLLOW to open a symbolic link at the end of the path itself.
 * @returns an O_PATH descriptor; "enoent" if the cache shows that the path does not exist or cannot be resolved;
 * "uncached" if the kernel would have to ask a disk or a server, or cannot tell.
 */
export function openCached(path: string, flags = 0): OwnedFd | "enoent" | "uncached" {
  const fd = tryOpenat2(AT_FDCWD, path, O_PATH | flags, RESOLVE_CACHED);
  if (fd >= 0) return new OwnedFd(fd);
  // Other errors say nothing about the path: EAGAIN, or EINVAL before Linux 5.12.
  return unresolvable.includes(-fd) ? "enoent" : "uncached";
}

const unresolvable = ["ENOENT", "ENOTDIR", "ELOOP", "EACCES", "ENAMETOOLONG"].map(errnoNumber);

/**
 * Resolves a path on another thread, which fills the dentry cache.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path.
 * @param wait the timeout and the signal.
 * @throws {SyscallError} as {@linkcode ensureResolvable} does.
 */
export async function resolveOffThread(path: string, wait: WaitOptions = {}): Promise<void> {
  await withTimeout(statxOffThread(path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC), wait, "statx", path);
}

/**
 * Waits for a promise until a timeout or an abort. The work itself is not cancelled.
 *
 * @param work the promise.
 * @param wait the timeout and the signal.
 * @param syscall the system call or program that the work runs, for the error.
 * @param path its path, for the error.
 * @returns the value of the promise.
 * @throws {SyscallError} ETIMEDOUT after the timeout.
 * @throws the signal's reason, if it is aborted.
 */
export async function withTimeout<T>(
  work: Promise<T>,
  { timeout = DEFAULT_TIMEOUT, signal }: WaitOptions,
  syscall: string,
  path?: string,
): Promise<T> {
  const { promise: limit, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort, { once: true });
  const expire = () => reject(new SyscallError({ syscall, errno: errnoNumber("ETIMEDOUT"), path }));
  const timer = Number.isFinite(timeout) ? setTimeout(expire, timeout) : undefined;
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    work.catch(() => {}); // a later rejection has no other handler
  }
}
