/**
 * Another id map for a bind of an id-mapped mount, or none. mount_setattr(2) refuses a mount that is id-mapped; open_tree_attr(2)
 * may change the map of the clone that it makes, for no path leads to it yet.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { SetattrStep } from "../spec/setattr.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MOUNT_ATTR_IDMAP,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import { featureVersions, hasFeature } from "../syscalls/features.ts";
import { openTreeAttr } from "../syscalls/mod.ts";

/**
 * Clones a tree with its attributes in the same call, also with another id map.
 *
 * @param path the path of the tree, for an error.
 * @param source the tree; undefined if the kernel has to look its path up.
 * @param step the attributes, and whether the mounts below get them too.
 * @param userns the user namespace whose maps the clone gets, if the step is mapped; null for no id map.
 * @returns the detached clone.
 * @throws {SyscallError} EINVAL if a file system of the tree can't be id-mapped, also if it loses its map.
 */
export function cloneWithAttributes(
  path: string,
  source: OwnedFd | undefined,
  { recursive, set, clear, isMapped, propagation }: SetattrStep,
  userns: OwnedFd | null | undefined,
): OwnedFd {
  const flags = cloneFlags(recursive);
  const change = !isMapped || userns === undefined
    ? { set, clear, propagation }
    : userns === null
    ? { set, clear: clear | MOUNT_ATTR_IDMAP, propagation }
    : { set: set | MOUNT_ATTR_IDMAP, clear, propagation, usernsFd: userns.fd };
  return source === undefined
    ? openTreeAttr(AT_FDCWD, path, flags, change)
    : openTreeAttr(source.fd, "", flags | AT_EMPTY_PATH, change);
}

/**
 * The flags of open_tree(2) and open_tree_attr(2) for a clone.
 *
 * @param recursive whether it has the mounts below the source too.
 * @returns `OPEN_TREE_CLONE`, with `AT_RECURSIVE` or without.
 */
export function cloneFlags(recursive: boolean): number {
  return OPEN_TREE_CLONE | (recursive ? AT_RECURSIVE : 0);
}

/** What changing or clearing an id map needs, for an error message. */
export const REPLACING_NEEDS: string =
  `open_tree_attr(2), which came with Linux ${featureVersions.openTreeAttr}`;

/**
 * Throws if the kernel can't clear the id map of a clone.
 *
 * Needs the permission `ffi`.
 *
 * @throws {TypeError} before Linux 6.15.
 */
export function requireIdMapReplacing(): void {
  if (!hasFeature("openTreeAttr")) {
    throw new TypeError(`clearing an id map needs ${REPLACING_NEEDS} and which a seccomp filter may forbid`);
  }
}
