/**
 * Staged mounts: what mount(2) or a helper program can only make on a mountpoint is mounted at a private temporary one,
 * completed there, and moved to its target. So the target never shows a mount that is not yet what its plan says, and
 * another mount namespace gets what can't be made detached.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { mountAt } from "../mountinfo/statx_mount.ts";
import { attachMount, type MountTarget, openTarget, procFdPath } from "../path/mount_target.ts";
import { type Call, call, mountCall, quoted } from "../spec/call.ts";
import type { NewMountPlan } from "../spec/plan.ts";
import {
  AT_FDCWD,
  AT_RECURSIVE,
  MNT_DETACH,
  MS_BIND,
  MS_MOVE,
  MS_PRIVATE,
  MS_REC,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mount, openTree, umount2 } from "../syscalls/mod.ts";
import { TempDirectory } from "../temp/temp_directory.ts";
import { describeOnto, mountOnto } from "./kinds.ts";
import type { DescribeOptions, Resolved } from "./resolved.ts";

/**
 * Makes a mount at a temporary mountpoint, and moves it to its target.
 *
 * @param plan the mount.
 * @param resolved its descriptors.
 */
export async function mountStaged(plan: NewMountPlan, resolved: Resolved): Promise<void> {
  using stage = new Stage();
  {
    using mountpoint = openTarget(stage.root);
    await mountOnto(plan, mountpoint, resolved);
  } // closed: an open descriptor keeps a mount busy
  stage.moveTo(resolved.target, isTree(plan));
}

function isTree(plan: NewMountPlan): boolean {
  return plan.kind === "bind" && plan.recursive;
}

/** A temporary directory, bound on itself: as a private mount, so that what is mounted on it stays in this namespace. */
class Stage implements Disposable {
  readonly #directory = new TempDirectory();
  readonly root = this.#directory.root;

  constructor() {
    try {
      mount(this.root, this.root, null, MS_BIND, null);
      mount(null, this.root, null, MS_PRIVATE, null);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Moves the mount that was made on it to a target; into another mount namespace, a clone of it. */
  moveTo(target: MountTarget, isTree: boolean): void {
    // mount_setattr(2) and mount(2) leave a bind in its source's peer group; the target must not be in it.
    mount(null, this.root, null, isTree ? MS_REC | MS_PRIVATE : MS_PRIVATE, null);
    if (!hasFeature("mountApi")) return mount(this.root, procFdPath(target), null, MS_MOVE, null);
    using clone: OwnedFd = openTree(AT_FDCWD, this.root, cloneFlags(isTree));
    attachMount(clone, target);
  }

  /** Unmounts what is left on it, and removes the directory. */
  [Symbol.dispose](): void {
    using _directory = this.#directory;
    unmountAllSync(this.root);
  }
}

function cloneFlags(isTree: boolean): number {
  return isTree ? OPEN_TREE_CLONE | AT_RECURSIVE : OPEN_TREE_CLONE;
}

function unmountAllSync(path: string): void {
  while (mountAt(path) !== undefined) umount2(path, MNT_DETACH);
}

/**
 * Describes {@linkcode mountStaged}.
 *
 * @param plan the mount.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeStaged(plan: NewMountPlan, options: DescribeOptions): Call[] {
  const root = "…/denomount-XXXXXX/root";
  const isMoved = !hasFeature("mountApi");
  const clone = [
    call(
      "open_tree",
      ["AT_FDCWD", quoted(root), isTree(plan) ? "OPEN_TREE_CLONE|AT_RECURSIVE" : "OPEN_TREE_CLONE"],
      "clone the complete mount, detached",
    ),
    call("move_mount", ["tree", quoted(options.target)], "attach the clone"),
    call("umount2", [quoted(root), "MNT_DETACH"], "unmount it at its temporary mountpoint"),
  ];
  const flags = isTree(plan) ? MS_REC | MS_PRIVATE : MS_PRIVATE;
  return [
    mountCall({ source: root, target: root, flags: MS_BIND }, "a temporary mountpoint"),
    mountCall({ target: root, flags: MS_PRIVATE }, "what is mounted on it stays in this namespace"),
    ...describeOnto(plan, { ...options, target: root }),
    mountCall({ target: root, flags }, "leave its source's peer group"),
    ...isMoved
      ? [mountCall({ source: root, target: options.target, flags: MS_MOVE }, "move it to the target")]
      : clone,
    call("umount2", [quoted(root), "MNT_DETACH"], "remove the temporary mountpoint"),
  ];
}
