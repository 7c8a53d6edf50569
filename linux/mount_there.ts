/**
 * One mount made in another mount namespace. What is mounted comes from here, where it goes to is there: the mount is
 * made while it is attached nowhere, for which namespaces are of no matter, and only attaching it is done there.
 *
 * @module
 */

import type { OwnedFd, OwnedFds } from "../ffi/fd.ts";
import type { NamespaceThread } from "../ffi/namespace_thread.ts";
import { canChangeByDescriptor } from "./attributes.ts";
import { AT_FDCWD, AT_RECURSIVE, MS_PRIVATE, MS_REC, OPEN_TREE_CLONE } from "./constants.ts";
import { isMadeByContext } from "./filesystem.ts";
import { isMadeByLayers } from "./overlay.ts";
import type { Plan } from "./plan.ts";
import { mount, openTree } from "./syscalls.ts";
import { attach, openTarget, type Place } from "./target.ts";
import { TempPlace } from "./temp_place.ts";
import { detachTree } from "./unmount_tree.ts";

/** Makes a mount at a place. */
type Make = (
  plan: Plan,
  place: Place,
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
export async function makeThere(
  plan: Plan,
  place: Place,
  thread: NamespaceThread,
  fds: OwnedFds,
  userns: OwnedFd | undefined,
  make: Make,
): Promise<void> {
  const { kind } = plan.action;
  const isChange = kind === "remount" || kind === "propagation";
  if ((isChange || plan.propagation.length > 0) && !canChangeByDescriptor()) {
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
      return canChangeByDescriptor();
    case "overlay":
      return isMadeByLayers();
    case "filesystem":
      return isMadeByContext(action.plan);
    default:
      return false; // FUSE is mounted by its helper
  }
}

/** What can't be made detached is made at a temporary place here, cloned, and taken off again. */
async function makeAtTemporaryPlace(
  plan: Plan,
  place: Place,
  fds: OwnedFds,
  userns: OwnedFd | undefined,
  make: Make,
): Promise<void> {
  using temporary = new TempPlace();
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
    attach(tree, place);
  } finally {
    detachTree(temporary.root);
  }
}
