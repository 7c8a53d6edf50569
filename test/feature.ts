/**
 * What a test needs of the kernel, found by trying, as the library does.
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { AT_EMPTY_PATH, MOUNT_ATTR_IDMAP, O_RDONLY } from "../linux/syscalls/constants.ts";
import { type Feature, hasFeature } from "../linux/syscalls/features.ts";
import {
  fsconfigCreate,
  fsconfigSetString,
  fsmount,
  fsopen,
  mountSetattr,
  open,
} from "../linux/syscalls/mod.ts";
import { UserNamespaces } from "../linux/namespace/user.ts";

/** A feature of the library's list, or one that only tests need. */
export type TestFeature =
  | Feature
  /** An overlay can be mounted: by root always, in a user namespace from Linux 5.11. */
  | "overlay"
  /** A tmpfs can be id-mapped, Linux 6.3. */
  | "mappedTmpfs"
  /** An overlay can delete a directory whose upper one is on a tmpfs: for root always, for others from Linux 6.6. */
  | "marksOnTmpfs";

/**
 * Whether this kernel has a feature.
 *
 * @param feature which one.
 * @returns true where it works here.
 */
export function kernelHas(feature: TestFeature): boolean {
  if (feature === "overlay") return mountsOverlay();
  if (feature === "mappedTmpfs") return mapsTmpfs();
  return feature === "marksOnTmpfs" ? marksTmpfs() : hasFeature(feature);
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

/** Overlay marks a directory as opaque by an extended attribute, trusted.… or with `userxattr` user.…. */
function marksTmpfs(): boolean {
  using tree = detachedTmpfs();
  const library = Deno.dlopen("libc.so.6", {
    fsetxattr: { parameters: ["i32", "buffer", "buffer", "usize", "i32"], result: "i32" },
  });
  using directory = open(`/proc/self/fd/${tree.fd}`, O_RDONLY); // the tree's own is an O_PATH descriptor
  const text = (content: string) => new TextEncoder().encode(content + "\0");
  const marked = ["trusted.denomount", "user.denomount"].some((name) =>
    library.symbols.fsetxattr(directory.fd, text(name), text("y"), 1n, 0) === 0
  );
  library.close();
  return marked;
}

function detachedTmpfs(): OwnedFd {
  using context = fsopen("tmpfs");
  fsconfigCreate(context.fd);
  return fsmount(context.fd, 0);
}
