/**
 * A new mount with others of its list inside of it, all of them attached nowhere yet.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { Stage } from "../filesystem/staged.ts";
import { type StatxMount, statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { tryOpenCached, tryOpenMayWait } from "../path/cached_lookup.ts";
import { fdPath, MountTarget, openInRoot, procFdPath, resolveInside } from "../path/mount_target.ts";
import type { WaitOptions } from "../path/wait.ts";
import type { NewMountPlan } from "../spec/plan.ts";
import { O_PATH, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS } from "../syscalls/constants.ts";
import { open } from "../syscalls/mod.ts";
import { type MadeDirectories, type MadeDirectory, removeDirectory } from "./make_target.ts";

/** A new mount. */
export interface NewMount {
  readonly plan: NewMountPlan;
  readonly id: StatxMount;
  /** Its mountpoint: of one inside of another new mount, as the list says it until that is attached. */
  mountpoint: string;
}

/** A new mount that is not inside of another one of its list, with what the list mounts inside of it. */
export interface DetachedTree extends NewMount {
  /** Its root. */
  readonly fd: OwnedFd;
  /** Where it will be attached. */
  target: MountTarget;
  /** The directories that were made in it for mountpoints. */
  readonly directories: InnerDirectory[];
  /** Where it is mounted as long as mounts are made inside of it: before Linux 6.15. */
  stage: Stage | undefined;
}

/** A directory that was made inside of a tree. A mount on the way to it, made later, does not change what these name. */
interface InnerDirectory {
  readonly parent: OwnedFd;
  readonly name: string;
}

/** Where an entry goes that is inside of another new mount of its list. */
export interface InsideTree {
  /** The new mount that it is inside of. */
  readonly tree: DetachedTree;
  /** The normalized path from its root. */
  readonly inside: string;
  /** Gets each directory that was made for the mountpoint. */
  readonly made: MadeDirectories;
}

/** Finds the new mount that a mountpoint is inside of, by its path below the target of the list. */
export interface DetachedTrees {
  /** Undefined if it is inside of none: then it is a mountpoint of its own. */
  find(subpath: string): InsideTree | undefined;
}

/** A mountpoint that is not in the new mount which its path leads through, because of a symbolic link. */
export class LeavesTree extends TypeError {
  /**
   * An error.
   *
   * @param inside the path from the root of the new mount.
   */
  constructor(inside: string) {
    super(
      `a symbolic link of ${inside} leads out of the new mount that it is in: name the mountpoint by a path ` +
        "without symbolic links",
    );
  }
}

/**
 * Where an entry goes inside of a tree.
 *
 * @param tree the new mount.
 * @param subpath the mountpoint's path below the target of the list.
 * @param fds closes what is opened for the directories that are made.
 * @returns the place.
 */
export function placeInside(tree: DetachedTree, subpath: string, fds: OwnedFds): InsideTree {
  const { plan, directories } = tree;
  const push = ({ directory }: MadeDirectory, parent?: OwnedFd) => {
    if (parent === undefined) return; // never inside of a tree
    const name = directory.slice(directory.lastIndexOf("/") + 1);
    try {
      directories.push({ parent: fds.add(open(procFdPath(parent), O_PATH)), name });
    } catch (error) {
      removeDirectory(`${procFdPath(parent)}/${name}`);
      throw error;
    }
  };
  return {
    tree,
    inside: plan.subpath === "/" ? subpath : subpath.slice(plan.subpath.length),
    made: { push },
  };
}

/**
 * Opens a mountpoint inside of a tree. A symbolic link leads to where it would lead if the tree were attached; where that
 * may be outside of the tree, or is the mountpoint of the tree itself, it is not followed.
 *
 * @param place the place.
 * @param isMade whether the mountpoint is made if it is missing.
 * @param wait the timeout and the signal.
 * @returns an O_PATH descriptor of the topmost mount at that path; undefined if it is to be made.
 * @throws {LeavesTree} for such a link.
 * @throws {SyscallError} if the mountpoint can't be opened.
 */
export async function openInside(
  { tree, inside }: InsideTree,
  isMade: boolean,
  wait: WaitOptions,
): Promise<MountTarget | undefined> {
  const { fd: { fd }, plan } = tree;
  const path = inside.slice(1); // relative, for RESOLVE_BENEATH
  const direct = tryOpenCached(fd, path, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
  if (direct >= 0) return new MountTarget(direct, tree.stage ? undefined : inside);
  // Of a tree at the target itself, the root is the root directory of every link. An absolute link in another one leaves it.
  const resolve = plan.subpath === "/" ? RESOLVE_IN_ROOT : RESOLVE_BENEATH;
  try {
    const found = isMade
      ? await tryOpenMayWait(fd, path, resolve, wait) ?? openInRoot(tree.fd, path, resolve)
      : await resolveInside(tree.fd, path, wait, resolve);
    return refuseRoot(new MountTarget(found.release()), tree, inside);
  } catch (error) {
    if (isErrno(error, "EXDEV")) throw new LeavesTree(inside);
    if (isMade && isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** A link to the root of the tree leads to the mountpoint of the tree. */
function refuseRoot(target: MountTarget, { id }: DetachedTree, inside: string): MountTarget {
  using stack = new DisposableStack();
  const { isRoot, mountId } = statxMountUniqueFd(stack.use(target));
  if (isRoot && mountId === id.mountId) throw new LeavesTree(inside);
  stack.move();
  return target;
}

/**
 * The part of a path that is inside of a tree. As long as that is detached, the path begins at its root.
 *
 * @param tree the tree.
 * @param path a path that leads into it.
 * @returns the path from its root.
 */
export function pathInside({ fd, stage }: DetachedTree, path: string): string {
  return stage === undefined ? path : path.slice(fdPath(fd).length) || "/";
}

/**
 * Removes the directories that were made in a tree which is not mounted.
 *
 * @param tree the tree.
 */
export function removeDirectoriesInside({ directories }: DetachedTree): void {
  for (const { parent, name } of directories.toReversed()) removeDirectory(`${procFdPath(parent)}/${name}`);
}
