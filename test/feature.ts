/**
 * Probes for kernel features that tests require.
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { AT_EMPTY_PATH, MOUNT_ATTR_IDMAP, O_RDONLY } from "../linux/syscalls/constants.ts";
import { type Feature, hasFeature } from "../linux/syscalls/features.ts";
import { fsconfigCreate, fsmount, fsopen, mountSetattr, open } from "../linux/syscalls/mod.ts";
import { UserNamespaces } from "../linux/namespace/user.ts";

/** A feature that the library probes for, or one that only tests require. */
export type TestFeature =
  | Feature
  /** A tmpfs can be id-mapped, since Linux 6.3. */
  | "mappedTmpfs"
  /** An overlay with its upper directory on a tmpfs can delete directories: for root always, for others since Linux 6.6. */
  | "marksOnTmpfs";

/**
 * Whether this kernel has a feature.
 *
 * @param feature the feature.
 * @returns true if the feature works.
 */
export function kernelHas(feature: TestFeature): boolean {
  if (feature === "mappedTmpfs") return mapsTmpfs();
  return feature === "marksOnTmpfs" ? marksTmpfs() : hasFeature(feature);
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

/** Overlay marks a directory as opaque by an extended attribute: trusted.…, or user.… with `userxattr`. */
function marksTmpfs(): boolean {
  using tree = detachedTmpfs();
  const library = Deno.dlopen("libc.so.6", {
    fsetxattr: { parameters: ["i32", "buffer", "buffer", "usize", "i32"], result: "i32" },
  });
  using directory = open(`/proc/self/fd/${tree.fd}`, O_RDONLY); // fsmount(2) returns an O_PATH descriptor
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
