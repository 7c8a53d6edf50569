/**
 * Attributes and id maps of mounts, through mount_setattr(2).
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  AT_SYMLINK_NOFOLLOW,
  MOUNT_ATTR_IDMAP,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import { lookupMount } from "../mountinfo/lookup.ts";
import { ExplainedError } from "../spec/error.ts";
import { prefixFilter } from "../mountinfo/filters.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import type { AttributeChange, ParsedOptions } from "../spec/options.ts";
import { canonicalizePath } from "../path/path.ts";
import { mountSetattr, openTree } from "../syscalls/mod.ts";
import { fdPath } from "../path/mount_target.ts";

/**
 * Changes the attributes of one mount, and of the tree below it; a detached one can be id-mapped in the same step.
 *
 * @param tree the mount.
 * @param options what to change.
 * @param userns the user namespace whose maps it gets.
 */
export function changeAttributes(tree: OwnedFd, options: ParsedOptions, userns?: OwnedFd): void {
  const { attributes, recursiveAttributes, recursive } = options;
  const map = userns && { idmap: MOUNT_ATTR_IDMAP, usernsFd: userns.fd };
  if (map && !recursive) {
    // One mount, one step: what is said of the tree is said of it, and its own options have the last word.
    const set = recursiveAttributes.set & ~attributes.clear | attributes.set | map.idmap;
    const clear = recursiveAttributes.clear & ~attributes.set | attributes.clear;
    return mountSetattr(tree.fd, "", AT_EMPTY_PATH, { set, clear, usernsFd: map.usernsFd });
  }
  if (map || hasChanges(recursiveAttributes)) {
    const set = recursiveAttributes.set | (map?.idmap ?? 0);
    const change = { ...recursiveAttributes, set, usernsFd: map?.usernsFd ?? 0 };
    mountSetattr(tree.fd, "", AT_EMPTY_PATH | AT_RECURSIVE, change);
  }
  if (hasChanges(attributes)) mountSetattr(tree.fd, "", AT_EMPTY_PATH, attributes);
}

/**
 * Whether there is anything to set or clear.
 *
 * @param change the attributes.
 * @returns false for none.
 */
export function hasChanges({ set, clear }: AttributeChange): boolean {
  return set !== 0 || clear !== 0;
}

/**
 * Id-maps a new file system's mount before it is attached.
 *
 * @param mount the detached mount.
 * @param userns the user namespace whose maps it gets.
 * @param type the file system's type, for the error.
 */
export function idMapNew(mount: OwnedFd, userns: OwnedFd, type: string): void {
  try {
    mountSetattr(mount.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_IDMAP, usernsFd: userns.fd });
  } catch (error) {
    throw isErrno(error, "EINVAL") ? new ExplainedError(error, [], `${type} can't be id-mapped`) : error;
  }
}

const INITIAL_USER_NAMESPACE = "user:[4026531837]"; // PROC_USER_INIT_INO, linux/proc_ns.h

/**
 * Finds out why something could not be id-mapped: mount_setattr(2) says EINVAL and EPERM for several things.
 *
 * @param error what it said.
 * @param source what was to be mapped.
 * @param userns the user namespace.
 * @param recursive whether everything mounted below was to be mapped too.
 * @returns the error with a sentence, where one was found; else the error as it was.
 */
export async function explainIdMap(
  error: unknown,
  source: string,
  userns: OwnedFd,
  recursive: boolean,
): Promise<unknown> {
  if (!isErrno(error, "EINVAL", "EPERM") || error.syscall !== "mount_setattr") return error;
  if (fdPath(userns) === INITIAL_USER_NAMESPACE) {
    return new ExplainedError(
      error,
      [],
      "the initial user namespace maps nothing: nothing can be mapped to it",
    );
  }
  const mounts = [await lookupMount(source)];
  if (recursive) mounts.push(...await listMounts({ filter: prefixFilter(await canonicalizePath(source)) }));
  const reasons = mounts.map((mount) => whyNot(mount, userns));
  const reason = reasons.find((found) => found !== undefined);
  return reason === undefined ? error : new ExplainedError(error, [], reason);
}

/** Tries the mount alone. */
function whyNot({ mountpoint, fsType, options }: MountInfo, userns: OwnedFd): string | undefined {
  if (options.split(",").includes("idmapped")) return `${mountpoint} is id-mapped already`;
  try {
    using alone = openTree(AT_FDCWD, mountpoint, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
    mountSetattr(alone.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_IDMAP, usernsFd: userns.fd });
    return undefined;
  } catch (error) {
    // Any other failure is about this trial, which is not what the caller asked about.
    return isErrno(error, "EINVAL") ? `${fsType}, at ${mountpoint}, can't be id-mapped` : undefined;
  }
}
