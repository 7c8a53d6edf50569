/**
 * The mounts of a tree without the rest of the mount table, by listmount(2) and statmount(2).
 *
 * @module
 */

import { isRedirected } from "../../ffi/libc.ts";
import { each, filtered, inSteps } from "../path/steps.ts";
import {
  LSMT_ROOT,
  MS_SHARED,
  STATMOUNT_FS_SUBTYPE,
  STATMOUNT_FS_TYPE,
  STATMOUNT_MNT_BASIC,
  STATMOUNT_MNT_POINT,
  STATMOUNT_SB_BASIC,
} from "../syscalls/constants.ts";
import { statmountMany } from "../syscalls/mod.ts";
import { listMounts } from "./list_mounts.ts";
import { oldIdOf, subtreeIds } from "./mount_ids.ts";
import type { MountInfo } from "./parse_mountinfo.ts";
import { readMounts } from "./read_mounts.ts";
import type { StatxMount } from "./statx_mount.ts";

/** The fields of a mount that its place in a tree, and its unmounting, depend on. */
export type TreeInfo = Pick<
  MountInfo,
  "id" | "parent" | "major" | "minor" | "mountpoint" | "fsType" | "optional"
>;

const TREE_FIELDS = STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE |
  STATMOUNT_FS_SUBTYPE;
const FEW = 64; // mounts for which the length of the table is not asked

/**
 * Reads a mount and the mounts below it, at any depth.
 *
 * Needs the permission `ffi` and Linux 6.13.
 *
 * @param root the mount, with its unique id.
 * @returns the mounts, the first one first; none if it was unmounted meanwhile.
 * @throws {SyscallError} ENOENT if it was unmounted before.
 */
export async function readSubtree({ mountId }: StatxMount): Promise<TreeInfo[]> {
  const ids = [mountId, ...await inSteps(subtreeIds(BigInt(mountId)))];
  if (ids.length > FEW && ids.length * linesOfCall() > (await inSteps(subtreeIds(LSMT_ROOT))).length) {
    const root = oldIdOf(mountId);
    const table = await listMounts();
    return root === undefined ? [] : await inSteps(filtered(table, await inSteps(subtreeOf(table, root))));
  }
  const tree: TreeInfo[] = [];
  const take = (mount: MountInfo | undefined) => {
    if (mount !== undefined && mount.mountpoint !== "") tree.push(mount);
  };
  await inSteps(readMounts(ids, take, { fields: TREE_FIELDS }));
  return tree;
}

/** How many lines of mountinfo take as long as a statmount(2) with strings, here or on the thread of another namespace. */
function linesOfCall(): number {
  return isRedirected() ? 8 : 2;
}

/**
 * Finds the mounts of a tree, in steps.
 *
 * @param table the mount table.
 * @param root the mountinfo id of the tree's topmost mount.
 * @returns a function that tells whether a mount is in the tree.
 */
export function* subtreeOf(
  table: readonly TreeInfo[],
  root: number,
): Generator<void, (info: TreeInfo) => boolean> {
  const children = new Map<number, number[]>();
  yield* each(table, ({ id, parent }) => {
    const siblings = children.get(parent);
    if (siblings) siblings.push(id);
    else children.set(parent, [id]);
  });
  const ids = new Set([root]);
  yield* each(ids, (id) => children.get(id)?.forEach((child) => ids.add(child))); // a Set iterates what is added
  return ({ id }) => ids.has(id);
}

/**
 * Finds those of some peer groups that have a mount outside of a tree in this mount namespace, in steps.
 *
 * Needs the permission `ffi` and Linux 6.8.
 *
 * @param groups the ids of the peer groups.
 * @param tree the mounts of the tree.
 * @returns the ids of those that have one.
 */
export function* groupsOutside(
  groups: ReadonlySet<number>,
  tree: readonly TreeInfo[],
): Generator<void, Set<number>> {
  const found = new Set<number>();
  if (groups.size === 0) return found;
  const inside = new Set(tree.map(({ id }) => id));
  const ids = yield* subtreeIds(LSMT_ROOT);
  for (let at = 0; at < ids.length && found.size < groups.size; at += FEW) {
    for (const mount of statmountMany(ids.slice(at, at + FEW), STATMOUNT_MNT_BASIC)) {
      if (mount === undefined || inside.has(mount.oldId) || !(mount.propagation & MS_SHARED)) continue;
      if (groups.has(mount.peerGroup)) found.add(mount.peerGroup);
    }
    yield;
  }
  return found;
}
