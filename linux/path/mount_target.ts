/**
 * The place that something is mounted on, held by a descriptor so that nobody can swap it for a symbolic link.
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
import { joinPlain, resolveInRoot } from "./path.ts";
import { ensureResolvable } from "./cached_lookup.ts";
import { moveMount, open, openat2, readlink, statx } from "../syscalls/mod.ts";

/** A place to mount on, held open. */
export class MountTarget extends OwnedFd {
  readonly #path: string | undefined;
  readonly #thread = currentThread(); // that of its mount namespace, where it is another

  /**
   * Takes a descriptor over.
   *
   * @param fd an open O_PATH descriptor.
   * @param path where it is, if that is known already.
   */
  constructor(fd: number, path?: string) {
    super(fd);
    this.#path = path;
  }

  /** Where it is, without symbolic links. */
  get path(): string {
    return this.#path ?? fdPath(this);
  }

  /** Has a mount attached here, from its mount namespace. */
  take(mount: OwnedFd): void {
    if (this.#thread === undefined) move(mount, this);
    else this.#thread.run(() => move(mount, this));
  }

  /** Makes calls in its mount namespace. */
  run<T>(calls: () => T): T {
    return this.#thread === undefined ? calls() : this.#thread.run(calls);
  }
}

/**
 * Opens the mountpoint `inside` a target directory; no symbolic link and no `..` leads out of the target.
 *
 * @param target the directory that holds the tree of mounts.
 * @param inside the path below it, normalized; undefined or "" for the target itself.
 * @returns an O_PATH descriptor of what is on top there now.
 */
export function openTarget(target: string, inside = ""): MountTarget {
  const plain = openWithoutLinks(target, inside);
  if (plain) return plain;
  if (inside === "" || inside === "/") return new MountTarget(open(target, O_PATH).release());
  using root = open(target, O_PATH);
  const found = hasFeature("openat2") ? openInRoot(root, inside) : openInRootByHand(root, inside);
  return new MountTarget(found.release());
}

/**
 * The same where the kernel has every name on the way in its memory, and none is a symbolic link, which is mostly so.
 *
 * @param target the directory that holds the tree of mounts.
 * @param inside the path below it, normalized.
 * @returns undefined where {@linkcode resolveTarget} has to be awaited.
 */
export function openTargetCached(target: string, inside: string): MountTarget | undefined {
  return openWithoutLinks(target, inside, RESOLVE_CACHED);
}

/**
 * The same, without standing still where a server on the way does not answer.
 *
 * @param target the directory that holds the tree of mounts.
 * @param inside the path below it, normalized.
 * @returns an O_PATH descriptor of what is on top there now.
 * @throws {SyscallError} ETIMEDOUT where a server does not answer.
 */
export async function resolveTarget(target: string, inside: string): Promise<MountTarget> {
  await ensureResolvable(target);
  return openTarget(target, inside);
}

/** A path with no symbolic link on it is where it says, and leads nowhere else. Most are like that. */
function openWithoutLinks(target: string, inside: string, resolve = 0): MountTarget | undefined {
  if (!target.startsWith("/") || target.includes("..") || !hasFeature("openat2")) return undefined;
  try {
    const path = joinPlain(target, inside === "/" ? "" : inside);
    return new MountTarget(openat2(AT_FDCWD, path, O_PATH, RESOLVE_NO_SYMLINKS | resolve).release(), path);
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // the longer way says what is wrong
    throw error;
  }
}

function openInRoot(root: OwnedFd, inside: string): OwnedFd {
  for (let tries = 0;; tries++) {
    try {
      return openat2(root.fd, inside, O_PATH, RESOLVE_IN_ROOT);
    } catch (error) {
      // A rename or mount anywhere on the system during a walk over ".." makes the kernel ask for another try.
      if (!isErrno(error, "EAGAIN") || tries > 100) throw error;
    }
  }
}

/** Before openat2(2): walk by hand, then see whether the descriptor is where the walk led. */
function openInRootByHand(root: OwnedFd, inside: string): OwnedFd {
  const path = resolveInRoot(fdPath(root), inside);
  const found = open(path, O_PATH);
  if (fdPath(found) === path) return found;
  found.close();
  throw new Error(`${path} was moved while it was opened: it may lead out of the target directory`);
}

const SWAPS = 10_000; // tries, which take some tenths of a second

/**
 * Opens what is mounted on a place now. The place may have been renamed meanwhile, and its old name be a symbolic link:
 * the name is asked of the descriptor, and that what was found by it is there.
 *
 * @param place the place.
 * @returns an O_PATH descriptor of what is on top there.
 */
export function openTopMount(place: OwnedFd): MountTarget {
  for (let tries = 0;; tries++) {
    const path = fdPath(place);
    using opened = new DisposableStack();
    try {
      const found = opened.use(open(path, O_PATH | O_NOFOLLOW));
      if (fdPath(found) === path && fdPath(place) === path) {
        opened.move();
        return new MountTarget(found.release(), path);
      }
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENOTDIR", "ELOOP") || tries >= SWAPS) throw error;
    }
    if (tries >= SWAPS) throw new Error(`${path} is renamed again and again`);
  }
}

/**
 * Where a descriptor's file is now.
 *
 * @param place an open descriptor.
 * @returns its path, seen from this process's root.
 */
export function fdPath(place: OwnedFd): string {
  return readlink(procFdPath(place));
}

/**
 * A path for calls that take no descriptor, which leads to the descriptor's file and nowhere else.
 *
 * @param place an open descriptor.
 * @returns the path in /proc.
 */
export function procFdPath(place: OwnedFd): string {
  return `/proc/self/fd/${place.fd}`;
}

/**
 * Attaches a detached mount.
 *
 * @param mount the detached mount.
 * @param place where to.
 */
export function attachMount(mount: OwnedFd, place: OwnedFd): void {
  try {
    if (place instanceof MountTarget) place.take(mount);
    else move(mount, place);
  } catch (error) {
    // move_mount(2) says EINVAL for a great many things; mount(2) has a word of its own for this one.
    if (!isErrno(error, "EINVAL") || isDirectory(mount) === isDirectory(place)) throw error;
    throw new SyscallError({ syscall: "move_mount", errno: errnoNumber("ENOTDIR") });
  }
}

function move(mount: OwnedFd, place: OwnedFd): void {
  moveMount(mount.fd, "", place.fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

function isDirectory({ fd }: OwnedFd): boolean {
  return (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT) === S_IFDIR;
}
