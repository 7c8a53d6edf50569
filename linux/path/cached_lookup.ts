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
import { isRedirected } from "../../ffi/libc.ts";
import { cString } from "../../ffi/memory.ts";
import { onPrivateThread, type ThreadCall } from "../../ffi/private_thread.ts";
import {
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_STATX_DONT_SYNC,
  AT_STATX_FORCE_SYNC,
  O_CLOEXEC,
  O_PATH,
  RESOLVE_CACHED,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { open, openat2, openat2OffThread, statxOffThread, tryOpenat2 } from "../syscalls/mod.ts";
import { SYS_openat2 } from "../syscalls/numbers.ts";
import { openHow } from "../syscalls/open_how.ts";
import { callOffThread, shareCallOffThread, type WaitOptions } from "./wait.ts";

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
  const fd = tryOpenCached(AT_FDCWD, path, O_PATH | flags, 0);
  if (fd >= 0) return new OwnedFd(fd);
  // Other errors say nothing about the path: EAGAIN, or EINVAL before Linux 5.12.
  return unresolvable.includes(-fd) ? "enoent" : "uncached";
}

/**
 * Opens a path from the dentry cache. A rename or mount anywhere on the system makes a cached lookup fail with EAGAIN by
 * chance: three in a row don't.
 *
 * Needs the permission `ffi`.
 *
 * @param dirfd the directory of a relative path; `AT_FDCWD`.
 * @param path the path.
 * @param flags `O_…` flags.
 * @param resolve more `RESOLVE_…` flags.
 * @returns the descriptor; a negative errno, EAGAIN if the kernel would have to ask a disk or a server.
 */
export function tryOpenCached(dirfd: number, path: string, flags: number, resolve: number): number {
  let fd = tryOpenat2(dirfd, path, flags, resolve | RESOLVE_CACHED);
  for (let tries = 1; fd === -EAGAIN && tries < 3; tries++) {
    fd = tryOpenat2(dirfd, path, flags, resolve | RESOLVE_CACHED);
  }
  return fd;
}

const EAGAIN = errnoNumber("EAGAIN");
const EINVAL = errnoNumber("EINVAL");

/** What a lookup fails with for a path that leads to no file that this process may use. */
export const UNRESOLVABLE: readonly string[] = ["ENOENT", "ENOTDIR", "ELOOP", "EACCES", "ENAMETOOLONG"];
const unresolvable = UNRESOLVABLE.map(errnoNumber);

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
  await statxOnce(path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, wait);
}

/**
 * Waits until the server of a path has answered once. A path that is cached says nothing about that. A path on a file
 * system without a server costs one call on another thread.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path; it need not exist. An automount is mounted.
 * @param wait the timeout and the signal.
 * @param flags `AT_SYMLINK_NOFOLLOW` for the server of a symbolic link, and not of what it leads to.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 */
export async function ensureAnswers(path: string, wait: WaitOptions = {}, flags = 0): Promise<void> {
  await statxOnce(path, AT_STATX_FORCE_SYNC | flags, STATX_TYPE, wait);
}

function statxOnce(path: string, flags: number, mask: number, wait: WaitOptions): Promise<void> {
  return shareCallOffThread(() => statxOffThread(path, flags, mask), wait, "statx", path, flags);
}

/**
 * Opens a path without blocking the event loop on a server that does not answer.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path. An automount at its end is mounted unless `flags` has `O_PATH`.
 * @param flags `O_PATH`, or else to read or write: an open(2) for that asks the server even for a cached path.
 * @param wait the timeout and the signal.
 * @returns its descriptor.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer; else the errno of openat2(2).
 */
export async function openMayWait(path: string, flags: number, wait: WaitOptions = {}): Promise<OwnedFd> {
  wait.signal?.throwIfAborted();
  if (flags & O_PATH) {
    const found = openCached(path, flags);
    if (found instanceof OwnedFd) return found;
    if (found === "uncached") await resolveOffThread(path, wait);
  } else await ensureAnswers(path, wait);
  return await openat2MayWait(AT_FDCWD, path, flags, 0, wait);
}

/**
 * openat2(2) without blocking the event loop on a server that does not answer.
 *
 * Needs the permission `ffi` and Linux 5.6.
 *
 * @param dirfd the directory of a relative path; `AT_FDCWD` without `RESOLVE_…` flags.
 * @param path the path.
 * @param flags `O_…` flags.
 * @param resolve `RESOLVE_…` flags.
 * @param wait the timeout and the signal.
 * @returns its descriptor.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer; else the errno of openat2(2).
 */
export async function openat2MayWait(
  dirfd: number,
  path: string,
  flags: number,
  resolve: number,
  wait: WaitOptions = {},
): Promise<OwnedFd> {
  wait.signal?.throwIfAborted();
  const known = flags & O_PATH ? cachedOrErrno(dirfd, path, flags, resolve) : undefined;
  if (known) return known;
  const fd = await openOffThread(dirfd, path, flags, resolve, wait);
  if (fd >= 0) return new OwnedFd(fd);
  return await failureOf(dirfd, path, flags, resolve, wait);
}

/**
 * {@linkcode openat2MayWait} for a caller that needs no errno: to read it takes a thread of its own, which is started
 * for each path that is missing on a file system without negative dentries, such as tmpfs.
 *
 * Needs the permission `ffi` and Linux 5.6.
 *
 * @param dirfd the directory of a relative path; `AT_FDCWD` without `RESOLVE_…` flags.
 * @param path the path.
 * @param resolve `RESOLVE_…` flags.
 * @param wait the timeout and the signal.
 * @returns its O_PATH descriptor; undefined if it can't be opened.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 */
export async function tryOpenMayWait(
  dirfd: number,
  path: string,
  resolve: number,
  wait: WaitOptions = {},
): Promise<OwnedFd | undefined> {
  wait.signal?.throwIfAborted();
  const cached = tryOpenCached(dirfd, path, O_PATH, resolve);
  if (cached >= 0) return new OwnedFd(cached);
  if (unresolvable.includes(-cached)) return undefined;
  const fd = await openOffThread(dirfd, path, O_PATH, resolve, wait);
  return fd >= 0 ? new OwnedFd(fd) : undefined;
}

/** The descriptor, or a negative number if the call failed: errno is lost on the other thread. */
function openOffThread(
  dirfd: number,
  path: string,
  flags: number,
  resolve: number,
  wait: WaitOptions,
): Promise<number> {
  const start = () => openat2OffThread(dirfd, path, flags, resolve);
  return callOffThread(start, wait, callName(resolve), path, closeLate);
}

/** For an error: open(2) does the same, and is what the caller has in mind. */
function callName(resolve: number): string {
  return resolve === 0 ? "open" : "openat2";
}

/** Undefined if the cache does not have the path. */
function cachedOrErrno(dirfd: number, path: string, flags: number, resolve: number): OwnedFd | undefined {
  const fd = tryOpenCached(dirfd, path, flags, resolve);
  if (fd >= 0) return new OwnedFd(fd);
  if (unresolvable.includes(-fd)) throw new SyscallError({ syscall: callName(resolve), errno: -fd, path });
  return undefined;
}

/** Opens a path again that another thread could not open: the errno of that thread can't be read. */
async function failureOf(
  dirfd: number,
  path: string,
  flags: number,
  resolve: number,
  wait: WaitOptions,
): Promise<OwnedFd> {
  const cached = tryOpenCached(dirfd, path, flags | O_PATH, resolve);
  if (cached >= 0) new OwnedFd(cached).close();
  if (unresolvable.includes(-cached)) {
    throw new SyscallError({ syscall: callName(resolve), errno: -cached, path });
  }
  // Before Linux 5.12, nothing tells what is cached; a thread in another mount namespace has an errno that can be read.
  if (cached === -EINVAL || isRedirected()) return openPlain(dirfd, path, flags, resolve);
  const call = openCall(dirfd, path, flags, resolve);
  const onThread = () => onPrivateThread([call]);
  const [fd = -1] = await callOffThread(
    onThread,
    wait,
    callName(resolve),
    path,
    ([late = -1]) => closeLate(late),
  );
  return new OwnedFd(fd);
}

function openPlain(dirfd: number, path: string, flags: number, resolve: number): OwnedFd {
  return resolve === 0 ? open(path, flags) : openat2(dirfd, path, flags, resolve);
}

/** openat2(2) may be missing, or forbidden by a seccomp filter. */
function openCall(dirfd: number, path: string, flags: number, resolve: number): ThreadCall {
  if (resolve === 0) {
    return { name: "open", args: [cString(path), flags | O_CLOEXEC, 0], path };
  }
  const args = [SYS_openat2, dirfd, cString(path), openHow(flags, resolve), 24n];
  return { name: "openat2", args, path };
}

/** Closes what no caller waits for any more. */
function closeLate(fd: number): void {
  if (fd >= 0) new OwnedFd(fd).close();
}
