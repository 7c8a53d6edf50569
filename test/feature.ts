/**
 * What a test needs of the kernel, found by trying, as the library does.
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { AT_EMPTY_PATH, MOUNT_ATTR_IDMAP } from "../linux/syscalls/constants.ts";
import { type Feature, hasFeature } from "../linux/syscalls/features.ts";
import { fsconfigCreate, fsmount, fsopen, mountSetattr } from "../linux/syscalls/mod.ts";
import { UserNamespaces } from "../linux/namespace/user.ts";

/** A feature of the library's list, or one that only tests need. */
export type TestFeature =
  | Feature
  /** A tmpfs can be id-mapped, Linux 6.3. */
  | "mappedTmpfs";

/**
 * Whether this kernel has a feature.
 *
 * @param feature which one.
 * @returns true where it works here.
 */
export function kernelHas(feature: TestFeature): boolean {
  return feature === "mappedTmpfs" ? mapsTmpfs() : hasFeature(feature);
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
