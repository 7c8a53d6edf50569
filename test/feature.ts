/**
 * Probes for kernel features that tests require.
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { AT_EMPTY_PATH, MOUNT_ATTR_IDMAP } from "../linux/syscalls/constants.ts";
import { type Feature, hasFeature } from "../linux/syscalls/features.ts";
import { fsconfigCreate, fsconfigSetString, fsmount, fsopen, mountSetattr } from "../linux/syscalls/mod.ts";
import { UserNamespaces } from "../linux/namespace/user.ts";

/** A feature that the library probes for, or one that only tests require. */
export type TestFeature =
  | Feature
  /** An overlay can be mounted: always by root, in a user namespace since Linux 5.11. */
  | "overlay"
  /** A tmpfs can be id-mapped, since Linux 6.3. */
  | "mappedTmpfs"
  /** An erofs can have several devices, since Linux 5.16. */
  | "erofsDevices";

/**
 * Whether this kernel has a feature.
 *
 * @param feature the feature.
 * @returns true if the feature works.
 */
export function kernelHas(feature: TestFeature): boolean {
  if (feature === "overlay") return mountsOverlay();
  if (feature === "erofsDevices") return takesErofsDevices();
  return feature === "mappedTmpfs" ? mapsTmpfs() : hasFeature(feature);
}

function mountsOverlay(): boolean {
  using context = fsopen("overlay");
  try {
    fsconfigSetString(context.fd, "lowerdir", "/usr:/etc");
    fsconfigCreate(context.fd);
    return true;
  } catch (error) {
    if (isErrno(error, "EPERM")) return false;
    throw error;
  }
}

function takesErofsDevices(): boolean {
  try {
    using context = fsopen("erofs");
    fsconfigSetString(context.fd, "device", "/dev/null");
    return true;
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENODEV", "EPERM")) return false;
    throw error;
  }
}

function mapsTmpfs(): boolean {
  if (!hasFeature("mountSetattr")) return false;
  using namespaces = new UserNamespaces();
  const userns = namespaces.of({ uid: "0 1 1\n", gid: "0 1 1\n" });
  using tree = detachedTmpfs();
  try {
    mountSetattr(tree.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_IDMAP, usernsFd: userns.fd });
    return true;
  } catch (error) {
    if (isErrno(error, "EINVAL")) return false;
    throw error;
  }
}

function detachedTmpfs(): OwnedFd {
  using context = fsopen("tmpfs");
  fsconfigCreate(context.fd);
  return fsmount(context.fd, 0);
}
