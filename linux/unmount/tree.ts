/**
 * Unmounting a mount together with the mounts below it, such as a recursive bind.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { isRedirected } from "../../ffi/libc.ts";
import { isServed } from "../mountinfo/filesystem_types.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import { deviceNumber, mountAt, type StatxMount, uniqueMountAt } from "../mountinfo/statx_mount.ts";
import { groupsOutside, readSubtree, subtreeOf, type TreeInfo } from "../mountinfo/subtree.ts";
import { ensureResolvable } from "../path/cached_lookup.ts";
import { openTopMount, procFdPath } from "../path/mount_target.ts";
import { each, inSteps, Steps } from "../path/steps.ts";
import { AT_SYMLINK_NOFOLLOW, MNT_DETACH, MS_REC, MS_SLAVE } from "../syscalls/constants.ts";
import { mount, umount2 } from "../syscalls/mod.ts";
import type { Deadline } from "./deadline.ts";
import { groupsOfParents, isOfGroup, mountTrees, peersOutside, unmountSteps } from "./order.ts";
import { topMount, unmountRetrying } from "./retry.ts";
import { umountOnce } from "./umount_once.ts";

/**
 * Unmounts the topmost mount of a target together with the mounts below it, and retries while one is busy.
 *
 * @param target the mountpoint.
 * @param deadline its flags, and how long to retry and wait.
 * @param known the topmost mount.
 * @throws {SyscallError} as {@linkcode unmount} does.
 */
export async function unmountTreeRetrying(
  target: string,
  deadline: Deadline,
  known = topMount(target, deadline),
): Promise<void> {
  if (await unmountIfChildless(target, deadline, known)) return;
  const top = uniqueMountAt(target);
  if (top === undefined) return;
  try {
    await unmountTrees(await treesOf(top), deadline);
  } catch (error) {
    // In a user namespace, the mounts of a tree are locked to it: they can only be detached as a whole.
    if (!isErrno(error, "EINVAL")) throw error;
    umount2(target, deadline.flags | MNT_DETACH);
  }
}

/** Trees of mounts that are to be unmounted. */
export interface Trees {
  /** The mounts of the trees, and those that may hide them. */
  readonly table: readonly TreeInfo[];
  /** Whether a mount belongs to the trees. */
  readonly isWithin: (info: TreeInfo) => boolean;
  /** Whether a mount that has mounts below it has a peer outside of the trees. */
  readonly hasPeer: (info: TreeInfo) => boolean;
  /** The device of a mount's file system, by the mount's id, as statx(2) has it; also of the trees' parents if known. */
  readonly devices: ReadonlyMap<number, number>;
}

/**
 * The tree of a mount: of the whole mount table only without statmount(2).
 *
 * @param top the mount.
 * @returns the tree; empty if the mount was unmounted meanwhile.
 */
export async function treesOf(top: StatxMount): Promise<Trees> {
  if (!top.isUnique) {
    const table = await listMounts();
    return await treesWithin(table, await inSteps(subtreeOf(table, top.mountId)));
  }
  try {
    return await wholeTrees(await readSubtree(top));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return wholeTrees([]);
    throw error;
  }
}

/**
 * The trees of the mounts of a table that are chosen.
 *
 * @param table the whole mount table.
 * @param isWithin whether a mount is chosen.
 * @returns the trees.
 */
export async function treesWithin(
  table: readonly TreeInfo[],
  isWithin: (info: TreeInfo) => boolean,
): Promise<Trees> {
  const devices = await inSteps(devicesIn(table));
  return { table, isWithin, hasPeer: peersOutside(table, isWithin), devices };
}

function* devicesIn(table: readonly TreeInfo[]): Generator<void, Map<number, number>> {
  const devices = new Map<number, number>();
  yield* each(table, ({ id, major, minor }) => devices.set(id, deviceNumber(major, minor)));
  return devices;
}

/**
 * Trees that no other mount hides.
 *
 * @param tree their mounts.
 * @param around the same mounts, and those that they are mounted on if known.
 * @returns the trees.
 */
export async function wholeTrees(tree: readonly TreeInfo[], around = tree): Promise<Trees> {
  const outside = await inSteps(groupsOutside(await inSteps(groupsOfParents(tree)), tree));
  const devices = await inSteps(devicesIn(around));
  return { table: tree, isWithin: () => true, hasPeer: isOfGroup(outside), devices };
}

/**
 * Unmounts the mount of a target, without the mount table: most trees are a single mount, and one with children is busy.
 *
 * @param target the mountpoint, which can be reached without waiting for a server.
 * @param deadline its flags, and how long to wait for a server.
 * @param top the topmost mount.
 * @returns false if the mount is busy, or is to be detached.
 * @throws {SyscallError} as {@linkcode unmount} does.
 */
export async function unmountIfChildless(
  target: string,
  deadline: Deadline,
  top = topMount(target, deadline),
): Promise<boolean> {
  if (deadline.flags & MNT_DETACH) return false;
  deadline.signal?.throwIfAborted();
  if (top === undefined) return true;
  try {
    await umountOnce(target, deadline, top);
    return true;
  } catch (error) {
    if (isErrno(error, "EBUSY")) return false;
    throw error;
  }
}

/**
 * Unmounts trees of mounts.
 *
 * @param trees the trees.
 * @param deadline its flags, and how long to retry and wait for each mount.
 * @param onError gets the error of a mount; the others are unmounted if it doesn't throw.
 * @returns whether each mount was found at its mountpoint; one that was not may be unmounted, moved, or below a renamed
 * directory.
 */
export async function unmountTrees(
  { table, isWithin, hasPeer, devices }: Trees,
  deadline: Deadline,
  onError = (error: unknown, _info: TreeInfo): void => {
    throw error;
  },
): Promise<boolean> {
  const { anyServed, stacked } = await inSteps(lookAt(table, isWithin));
  const trees = await inSteps(mountTrees(table, isWithin));
  const steps = new Steps();
  let isComplete = true;
  for (const tree of trees) {
    for (const { info, kind } of unmountSteps(tree, hasPeer)) {
      if (steps.isOver) await steps.next();
      deadline.signal?.throwIfAborted();
      try {
        if (anyServed) await ensureResolvable(info.mountpoint, deadline.restarted());
        if (kind === "leave") leavePeerGroup(info);
        else {
          const isStacked = stacked.has(info.mountpoint);
          const isUnmounted = await unmountInfo(info, isStacked, devices.get(info.parent), deadline);
          isComplete &&= isUnmounted;
        }
      } catch (error) {
        if (isErrno(error, "ENOENT", "ENOTDIR")) isComplete = false; // renamed between the look and the call
        else onError(error, info);
      }
    }
  }
  return isComplete;
}

/** What the mounts of some trees have in common. */
interface Common {
  /** Whether one has a server, which may be on the path to another one. */
  readonly anyServed: boolean;
  /** The mountpoints with several mounts. */
  readonly stacked: ReadonlySet<string>;
}

function* lookAt(
  table: readonly TreeInfo[],
  isWithin: (info: TreeInfo) => boolean,
): Generator<void, Common> {
  const [seen, stacked] = [new Set<string>(), new Set<string>()];
  let anyServed = false;
  yield* each(table, (info) => {
    if (!isWithin(info)) return;
    if (seen.size === seen.add(info.mountpoint).size) stacked.add(info.mountpoint);
    anyServed ||= isServed(info.fsType);
  });
  return { anyServed, stacked };
}

/**
 * Of a stack, each mount down to this one; what is mounted on top of it meanwhile too. False if it is not there. The parent,
 * which is unmounted later, keeps the file system in use if it has the same: then nothing is flushed.
 */
async function unmountInfo(
  { id, mountpoint }: TreeInfo,
  isStacked: boolean,
  parentDevice: number | undefined,
  deadline: Deadline,
): Promise<boolean> {
  for (let isLast = !isStacked;; isLast = !isStacked) {
    const top = topMount(mountpoint, deadline);
    if (top === undefined) return false;
    isLast ||= mountAt(mountpoint, AT_SYMLINK_NOFOLLOW)?.mountId === id;
    const isImmediate = top.device === parentDevice;
    await unmountRetrying(mountpoint, deadline.restarted(), top, undefined, isImmediate);
    if (isLast) return true;
  }
}

/** A mount with a peer outside of its tree would take what is below the peer with it. As a slave, it does not. */
function leavePeerGroup({ id, mountpoint }: TreeInfo): void {
  if (mountAt(mountpoint)?.mountId === id) mount(null, mountpoint, null, MS_SLAVE, null);
}

/**
 * Detaches the mount of a mountpoint with the mounts below it, even if they are busy: for a rollback, of mounts that the
 * caller has not seen yet.
 *
 * @param target the mountpoint.
 * @param isPeer whether the mount is a recursive bind that may be a peer of its source: then it becomes a slave first, so
 * that nothing of the source is detached.
 * @param flags further flags for umount2(2).
 */
export function detachTree(target: string, isPeer = false, flags = 0): void {
  if (isPeer) mount(null, target, null, MS_SLAVE | MS_REC, null);
  umount2(target, MNT_DETACH | flags);
}

/**
 * Detaches the topmost mount of a mountpoint with the mounts below it, wherever the mountpoint was renamed to.
 *
 * @param mountpoint a descriptor of the mountpoint.
 * @param isPeer as for {@linkcode detachTree}.
 */
export function detachTopMount(mountpoint: OwnedFd, isPeer = false): void {
  using top = openTopMount(mountpoint);
  detachTree(isRedirected() ? top.path : procFdPath(top), isPeer); // the thread in another namespace may have no such /proc
}
