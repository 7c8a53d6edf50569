/**
 * The place that something is mounted on, held by a descriptor so that nobody can swap it for a symbolic link.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  O_PATH,
  RESOLVE_IN_ROOT,
  S_IFDIR,
  S_IFMT,
  STATX_TYPE,
} from "./constants.ts";
import { hasFeature } from "./features.ts";
import { resolveInRoot } from "./path.ts";
import { moveMount, open, openat2, readlink, statx } from "./syscalls.ts";

/**
 * Opens the mountpoint `inside` a target directory; no symbolic link and no `..` leads out of the target.
 *
 * @param target the directory that holds the tree of mounts.
 * @param inside the path below it; undefined or "" for the target itself.
 * @returns an O_PATH descriptor of what is on top there now.
 */
export function openTarget(target: string, inside = ""): OwnedFd {
  if (inside === "" || inside === "/") return open(target, O_PATH);
  using root = open(target, O_PATH);
  return hasFeature("openat2") ? openInRoot(root, inside) : openInRootByHand(root, inside);
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
  const path = resolveInRoot(pathOf(root), inside);
  const found = open(path, O_PATH);
  if (pathOf(found) === path) return found;
  found.close();
  throw new Error(`${path} was moved while it was opened: it may lead out of the target directory`);
}

/**
 * Where a descriptor's file is now.
 *
 * @param place an open descriptor.
 * @returns its path, seen from this process's root.
 */
export function pathOf(place: OwnedFd): string {
  return readlink(throughProc(place));
}

/**
 * A path for calls that take no descriptor, which leads to the descriptor's file and nowhere else.
 *
 * @param place an open descriptor.
 * @returns the path in /proc.
 */
export function throughProc(place: OwnedFd): string {
  return `/proc/self/fd/${place.fd}`;
}

/**
 * Attaches a detached mount.
 *
 * @param mount the detached mount.
 * @param place where to.
 */
export function attach(mount: OwnedFd, place: OwnedFd): void {
  try {
    moveMount(mount.fd, "", place.fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  } catch (error) {
    // move_mount(2) says EINVAL for a great many things; mount(2) has a word of its own for this one.
    if (!isErrno(error, "EINVAL") || isDirectory(mount) === isDirectory(place)) throw error;
    throw new SyscallError({ syscall: "move_mount", errno: errnoNumber("ENOTDIR") });
  }
}

function isDirectory({ fd }: OwnedFd): boolean {
  return (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT) === S_IFDIR;
}
