/**
 * The target of a mount, held by a descriptor, so that no other process can replace it by a symbolic link.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { currentThread } from "../../ffi/namespace_thread.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_CACHED,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_SYMLINKS,
  S_IFDIR,
  S_IFMT,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { joinWithoutSlash, resolveInRoot } from "./path.ts";
import { ensureResolvable, openat2MayWait, openMayWait, tryOpenMayWait } from "./cached_lookup.ts";
import type { WaitOptions } from "./wait.ts";
import { moveMount, open, openat2, readlink, statx } from "../syscalls/mod.ts";

/** An open directory or file to mount on. */
export class MountTarget extends OwnedFd {
  readonly #path: string | undefined;
  readonly #thread = currentThread(); // undefined in this process's mount namespace

  /**
   * Takes ownership of a descriptor.
   *
   * @param fd an open O_PATH descriptor.
   * @param path its path without symbolic links, if known.
   */
  constructor(fd: number, path?: string) {
    super(fd);
    this.#path = path;
  }

  /** Its path, without symbolic links. */
  get path(): string {
    return this.#path ?? fdPath(this);
  }

  /** Attaches a detached mount to it, from its mount namespace. */
  attach(mount: OwnedFd, flags: number): void {
    if (this.#thread === undefined) move(mount, this, flags);
    else this.#thread.run(() => move(mount, this, flags));
  }

  /** Runs a function whose calls are made in its mount namespace. */
  run<T>(calls: () => T): T {
    return this.#thread === undefined ? calls() : this.#thread.run(calls);
  }
}

/**
 * Opens the mountpoint `inside` a target directory. No symbolic link and no `..` leads out of the target.
 *
 * @param target the target directory.
 * @param inside the normalized path below it; undefined or "" for the target itself.
 * @returns an O_PATH descriptor of the topmost mount at that path.
 * @throws {SyscallError} if the path cannot be opened, such as ENOENT.
 */
export function openTarget(target: string, inside = ""): MountTarget {
  const direct = openWithoutLinks(target, inside);
  if (direct) return direct;
  if (inside === "" || inside === "/") return new MountTarget(open(target, O_PATH).release());
  using root = open(target, O_PATH);
  const found = hasFeature("openat2") ? openInRoot(root, inside) : openInRootByReadlink(root, inside);
  return new MountTarget(found.release());
}

/**
 * {@linkcode openTarget} from the dentry cache, for a path without symbolic links. This is the usual case.
 *
 * @param target the target directory.
 * @param inside the normalized path below it.
 * @returns undefined if the caller must await {@linkcode resolveTarget}.
 */
export function openTargetCached(target: string, inside: string): MountTarget | undefined {
  return openWithoutLinks(target, inside, RESOLVE_CACHED);
}

/**
 * {@linkcode openTarget} without blocking the event loop on a server that does not answer, whichever part of the path
 * leads to it.
 *
 * @param target the target directory.
 * @param inside the normalized path below it.
 * @param wait the timeout and the signal.
 * @returns an O_PATH descriptor of the topmost mount at that path.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 */
export async function resolveTarget(
  target: string,
  inside: string,
  wait: WaitOptions = {},
): Promise<MountTarget> {
  const root = await openMayWait(target, O_PATH, wait);
  if (inside === "" || inside === "/") return new MountTarget(root.release());
  using _root = root;
  if (!hasFeature("openat2")) {
    await ensureResolvable(joinWithoutSlash(target, inside), wait);
    return new MountTarget(openInRootByReadlink(root, inside).release());
  }
  return await resolveInside(root, inside, wait);
}

/**
 * Opens a mountpoint inside of an open directory, which may be the root of a detached mount, without blocking the event
 * loop on a server that does not answer. No symbolic link and no `..` leads out of the directory.
 *
 * Needs openat2(2).
 *
 * @param root the directory.
 * @param inside the normalized path below it.
 * @param wait the timeout and the signal.
 * @param resolve `RESOLVE_BENEATH` if a symbolic link that would lead out of it is an error.
 * @returns an O_PATH descriptor of the topmost mount at that path.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 */
export async function resolveInside(
  root: OwnedFd,
  inside: string,
  wait: WaitOptions,
  resolve: number = RESOLVE_IN_ROOT,
): Promise<MountTarget> {
  for (let tries = 0;; tries++) {
    try {
      return new MountTarget((await openat2MayWait(root.fd, inside, O_PATH, resolve, wait)).release());
    } catch (error) {
      if (!isErrno(error, "EAGAIN") || tries > 100) throw error; // as in openInRoot()
    }
  }
}

/**
 * {@linkcode resolveTarget} for a caller that opens or makes the target itself if it is missing.
 *
 * @param target the target directory.
 * @param inside the normalized path below it.
 * @param wait the timeout and the signal.
 * @returns an O_PATH descriptor of the topmost mount at that path; undefined if it can't be opened, or not without
 * openat2(2): what exists of the path can then be looked up without waiting for a server.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 */
export async function tryResolveTarget(
  target: string,
  inside: string,
  wait: WaitOptions = {},
): Promise<MountTarget | undefined> {
  if (!hasFeature("openat2")) {
    await ensureResolvable(joinWithoutSlash(target, inside === "/" ? "" : inside), wait);
    return undefined;
  }
  const root = await tryOpenMayWait(AT_FDCWD, target, 0, wait);
  if (root === undefined) return undefined;
  if (inside === "" || inside === "/") return new MountTarget(root.release());
  using _root = root;
  const found = await tryOpenMayWait(root.fd, inside, RESOLVE_IN_ROOT, wait);
  return found && new MountTarget(found.release());
}

/** A path without symbolic links and `..` cannot lead out of the target. Undefined if it has some or fails to open. */
function openWithoutLinks(target: string, inside: string, resolve = 0): MountTarget | undefined {
  if (!target.startsWith("/") || target.includes("..") || !hasFeature("openat2")) return undefined;
  try {
    const path = joinWithoutSlash(target, inside === "/" ? "" : inside);
    return new MountTarget(openat2(AT_FDCWD, path, O_PATH, RESOLVE_NO_SYMLINKS | resolve).release(), path);
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // the slow path throws the error
    throw error;
  }
}

/**
 * {@linkcode resolveInside} for a path that needs no server.
 *
 * @param root the directory.
 * @param inside the normalized path below it.
 * @param resolve `RESOLVE_BENEATH` if a symbolic link that would lead out of it is an error.
 * @returns an O_PATH descriptor.
 * @throws {SyscallError} with the errno of openat2(2).
 */
export function openInRoot(root: OwnedFd, inside: string, resolve: number = RESOLVE_IN_ROOT): OwnedFd {
  for (let tries = 0;; tries++) {
    try {
      return openat2(root.fd, inside, O_PATH, resolve);
    } catch (error) {
      // A rename or mount anywhere on the system while ".." is resolved: openat2(2) asks to try again.
      if (!isErrno(error, "EAGAIN") || tries > 100) throw error;
    }
  }
}

/** Before openat2(2): resolves the path by readlink(2), then checks that the opened descriptor has the resolved path. */
function openInRootByReadlink(root: OwnedFd, inside: string): OwnedFd {
  const path = resolveInRoot(fdPath(root), inside);
  const found = open(path, O_PATH);
  if (fdPath(found) === path) return found;
  found.close();
  throw new Error(`${path} was moved while it was opened and may be outside of the target directory`);
}

const MAX_TRIES = 10_000; // a few tenths of a second

/**
 * Opens the topmost mount on a directory or file. Another process may rename it meanwhile and put a symbolic link at its
 * old path. So the path is read from the descriptor, and compared again after the open.
 *
 * @param file an open descriptor of the mountpoint.
 * @returns an O_PATH descriptor of the topmost mount.
 * @throws {SyscallError} if the path cannot be opened.
 */
export function openTopMount(file: OwnedFd): MountTarget {
  for (let tries = 0;; tries++) {
    const path = fdPath(file);
    using opened = new DisposableStack();
    try {
      const found = opened.use(open(path, O_PATH | O_NOFOLLOW));
      if (fdPath(found) === path && fdPath(file) === path) {
        opened.move();
        return new MountTarget(found.release(), path);
      }
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENOTDIR", "ELOOP") || tries >= MAX_TRIES) throw error;
    }
    if (tries >= MAX_TRIES) throw new Error(`${path} is renamed by another process again and again`);
  }
}

/**
 * The current path of an open file.
 *
 * @param file an open descriptor.
 * @returns its path, seen from this process's root.
 */
export function fdPath(file: OwnedFd): string {
  return readlink(procFdPath(file));
}

/**
 * The /proc/self/fd path of a descriptor, for calls that take no descriptor. It always leads to the open file.
 *
 * @param file an open descriptor.
 * @returns the path in /proc.
 */
export function procFdPath(file: OwnedFd): string {
  return `/proc/self/fd/${file.fd}`;
}

/**
 * Attaches a detached mount.
 *
 * @param mount the detached mount.
 * @param target an open descriptor of the mountpoint.
 * @param flags `MOVE_MOUNT_BENEATH`, or none.
 * @throws {SyscallError} ENOTDIR if only one of the two is a directory; otherwise the errno of move_mount(2).
 */
export function attachMount(mount: OwnedFd, target: OwnedFd, flags = 0): void {
  try {
    if (target instanceof MountTarget) target.attach(mount, flags);
    else move(mount, target, flags);
  } catch (error) {
    // move_mount(2) returns EINVAL for many reasons. For this one, mount(2) returns ENOTDIR.
    if (!isErrno(error, "EINVAL") || isDirectory(mount) === isDirectory(target)) throw error;
    throw new SyscallError({ syscall: "move_mount", errno: errnoNumber("ENOTDIR") });
  }
}

function move(mount: OwnedFd, target: OwnedFd, flags: number): void {
  moveMount(mount.fd, "", target.fd, "", flags | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/**
 * Whether an open file is a directory.
 *
 * @param file an open descriptor.
 * @returns false for any other file.
 */
export function isDirectory({ fd }: OwnedFd): boolean {
  return (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT) === S_IFDIR;
}
