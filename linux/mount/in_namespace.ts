/**
 * One mount made in another mount namespace. What is mounted comes from here, where it goes to is there: the mount is
 * made while it is attached nowhere, for which namespaces are of no matter, and only attaching it is done there.
 *
 * @module
 */

import type { OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { usesMountSetattr } from "../syscalls/features.ts";
import { AT_FDCWD, AT_RECURSIVE, MS_PRIVATE, MS_REC, OPEN_TREE_CLONE } from "../syscalls/constants.ts";
import { usesFsopen } from "../filesystem/by_type.ts";
import { usesLowerdirPlus } from "../filesystem/overlay.ts";
import type { Plan } from "./plan.ts";
import { mount, openTree } from "../syscalls/mod.ts";
import { attachMount, type MountTarget, openTarget } from "../path/mount_target.ts";
import { TempDirectory } from "../temp/temp_directory.ts";
import { detachTree } from "../unmount/tree.ts";

/** Makes a mount at a place. */
type Make = (
  plan: Plan,
  place: MountTarget,
  fds: OwnedFds,
  userns: OwnedFd | undefined,
) => Promise<void> | undefined;

/**
 * Makes one mount in another mount namespace.
 *
 * @param plan what to do.
 * @param place the mountpoint there.
 * @param thread the thread there.
 * @param fds closes what is opened for it.
 * @param userns the user namespace whose maps it gets.
 * @param make makes the mount.
 * @throws {TypeError} for a change of a mount, where this kernel can't change it by its descriptor.
 */
export async function mountInNamespace(
  plan: Plan,
  place: MountTarget,
  thread: NamespaceThread,
  fds: OwnedFds,
  userns: OwnedFd | undefined,
  make: Make,
): Promise<void> {
  const { kind } = plan.action;
  const isChange = kind === "remount" || kind === "propagation";
  if ((isChange || plan.propagation.length > 0) && !usesMountSetattr()) {
    throw new TypeError(
      "to change a mount in another mount namespace takes mount_setattr(2), which came with Linux 5.12",
    );
  }
  if (isChange) await thread.run(() => make(plan, place, fds, userns));
  else if (isMadeDetached(plan)) await make(plan, place, fds, userns);
  else await makeAtTemporaryPlace(plan, place, fds, userns, make);
}

function isMadeDetached({ action }: Plan): boolean {
  switch (action.kind) {
    case "bind":
      return usesMountSetattr();
    case "overlay":
      return usesLowerdirPlus();
    case "filesystem":
      return usesFsopen(action.plan);
    default:
      return false; // FUSE is mounted by its helper
  }
}

/** What can't be made detached is made at a temporary place here, cloned, and taken off again. */
async function makeAtTemporaryPlace(
  plan: Plan,
  place: MountTarget,
  fds: OwnedFds,
  userns: OwnedFd | undefined,
  make: Make,
): Promise<void> {
  using temporary = new TempDirectory();
  using spot = openTarget(temporary.root);
  await make(plan, spot, fds, userns);
  try {
    mount(null, temporary.root, null, MS_REC | MS_PRIVATE, null); // else the clone would be its peer
    const isTree = plan.action.kind === "bind" && plan.action.plan.options.recursive;
    using tree: OwnedFd = openTree(
      AT_FDCWD,
      temporary.root,
      OPEN_TREE_CLONE | (isTree ? AT_RECURSIVE : 0),
    );
    attachMount(tree, place);
  } finally {
    detachTree(temporary.root);
  }
}
