/**
 * Why a mount can't be id-mapped: mount_setattr(2) fails with EINVAL or EPERM for several reasons.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { lookupMount } from "../mountinfo/lookup.ts";
import { prefixFilter } from "../mountinfo/filters.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { INITIAL_USER_NAMESPACE } from "../namespace/user.ts";
import { fdPath } from "../path/mount_target.ts";
import { canonicalizePath } from "../path/path.ts";
import { ExplainedError } from "../spec/error.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  MOUNT_ATTR_IDMAP,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mountSetattr, openTree } from "../syscalls/mod.ts";
import { cloneWithAttributes, REPLACING_NEEDS } from "./replace_idmap.ts";

/**
 * Finds the reason why a mount could not be id-mapped.
 *
 * @param error the error of mount_setattr(2).
 * @param source the path whose mount was to be mapped.
 * @param userns the user namespace; null if the map was to be cleared.
 * @param recursive whether the mounts below were to be mapped too.
 * @returns the error with the reason, if one was found; else the error as it was.
 */
export async function explainIdMap(
  error: unknown,
  source: string,
  userns: OwnedFd | null,
  recursive: boolean,
): Promise<unknown> {
  if (!isErrno(error, "EINVAL", "EPERM") || !CALLS.includes(error.syscall)) return error;
  if (userns !== null && fdPath(userns) === INITIAL_USER_NAMESPACE) {
    return new ExplainedError(
      error,
      [],
      "the initial user namespace maps nothing: no mount can be mapped to it",
    );
  }
  const mounts = [await lookupMount(source)];
  if (recursive) mounts.push(...await listMounts({ filter: prefixFilter(await canonicalizePath(source)) }));
  const reasons = mounts.map((mount) => whyNot(mount, userns));
  const reason = reasons.find((found) => found !== undefined);
  return reason === undefined ? error : new ExplainedError(error, [], reason);
}

const CALLS = ["mount_setattr", "open_tree_attr"];

/** Maps a clone of the mount alone, to see whether the kernel refuses this one. */
function whyNot({ mountpoint, fsType, options }: MountInfo, userns: OwnedFd | null): string | undefined {
  const isMapped = options.split(",").includes("idmapped");
  if (isMapped && !hasFeature("openTreeAttr")) {
    return `${mountpoint} is id-mapped already: another map for it needs ${REPLACING_NEEDS}`;
  }
  try {
    tryAlone(mountpoint, userns);
    return undefined;
  } catch (error) {
    // Any other failure is about this trial, and not about the caller's mount.
    return isErrno(error, "EINVAL") ? `${fsType}, at ${mountpoint}, can't be id-mapped` : undefined;
  }
}

function tryAlone(mountpoint: string, userns: OwnedFd | null): void {
  const step = { recursive: false, set: 0, clear: 0, isMapped: true, propagation: 0 };
  if (hasFeature("openTreeAttr")) return cloneWithAttributes(mountpoint, undefined, step, userns).close();
  using alone = openTree(AT_FDCWD, mountpoint, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
  mountSetattr(alone.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_IDMAP, usernsFd: userns?.fd ?? 0 });
}
