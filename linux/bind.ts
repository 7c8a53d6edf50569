/**
 * Bind mounts: cloned and given their attributes while detached, so that none is ever writable for an instant; and
 * beside it the older way.
 *
 * @module
 */

import type { OwnedFd } from "../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MS_BIND,
  MS_REC,
  MS_REMOUNT,
  OPEN_TREE_CLONE,
} from "./constants.ts";
import { attributesToFlags, flagsOfMount } from "./flags.ts";
import { hasFeature } from "./features.ts";
import type { AttributeChange, ParsedOptions } from "./options.ts";
import { mount, mountSetattr, openTree } from "./syscalls.ts";
import { attach, throughProc } from "./target.ts";

/** What makes a bind mount. */
export interface BindPlan {
  /** What is bound. */
  source: string;
  /** How. */
  options: ParsedOptions;
}

/**
 * Makes a bind mount.
 *
 * @param plan what to bind, and how.
 * @param place the mountpoint.
 * @param reopen opens the mountpoint again, to find the mount that is now on top.
 */
export function bind(plan: BindPlan, place: OwnedFd, reopen: () => OwnedFd): void {
  if (hasFeature("mountApi") && hasFeature("mountSetattr")) bindDetached(plan, place);
  else bindThenRemount(plan, place, reopen);
}

function bindDetached({ source, options }: BindPlan, place: OwnedFd): void {
  using tree = openTree(AT_FDCWD, source, OPEN_TREE_CLONE | (options.recursive ? AT_RECURSIVE : 0));
  changeAttributes(tree, options);
  attach(tree, place);
}

/**
 * Changes the attributes of one mount, and of the tree below it.
 *
 * @param tree the mount.
 * @param options what to change.
 */
export function changeAttributes(tree: OwnedFd, options: ParsedOptions): void {
  if (changes(options.recursiveAttributes)) {
    mountSetattr(tree.fd, "", AT_EMPTY_PATH | AT_RECURSIVE, options.recursiveAttributes);
  }
  if (changes(options.attributes)) mountSetattr(tree.fd, "", AT_EMPTY_PATH, options.attributes);
}

/** Whether there is anything to set or clear. */
function changes({ set, clear }: AttributeChange): boolean {
  return set !== 0 || clear !== 0;
}

/** Before 5.12: mount(2) binds without attributes, and a remount gives them. */
function bindThenRemount({ source, options }: BindPlan, place: OwnedFd, reopen: () => OwnedFd): void {
  refuseRecursive(options);
  mount(source, throughProc(place), null, MS_BIND | (options.recursive ? MS_REC : 0), null);
  if (!changes(options.attributes)) return;
  using bound = reopen();
  remountBind(bound, options);
}

/**
 * Changes a mount's attributes with mount(2), keeping all others: what a user namespace has locked can't be taken
 * off, and a remount that does not say it again fails.
 *
 * @param mounted the mount.
 * @param options what to change.
 */
export function remountBind(mounted: OwnedFd, options: ParsedOptions): void {
  refuseRecursive(options);
  const path = throughProc(mounted);
  const flags = attributesToFlags(options.attributes, flagsOfMount(path));
  mount(null, path, null, MS_REMOUNT | MS_BIND | flags, null);
}

function refuseRecursive(options: ParsedOptions): void {
  if (changes(options.recursiveAttributes)) {
    throw new TypeError("recursive attributes such as rro need mount_setattr(2), which came with Linux 5.12");
  }
}
