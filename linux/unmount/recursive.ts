/**
 * Unmounting a directory with everything below it.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { Deadline, type UnmountOptions } from "./deadline.ts";
import { prefixFilter } from "../mountinfo/filters.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import { mayWaitForServer } from "../mountinfo/served.ts";
import { type StatxMount, statxMountUnique } from "../mountinfo/statx_mount.ts";
import { readSubtree, type TreeInfo } from "../mountinfo/subtree.ts";
import { runInNamespace } from "../namespace/mount.ts";
import { ensureResolvable, isCached } from "../path/cached_lookup.ts";
import { filtered, inSteps } from "../path/steps.ts";
import { topMount, unmountRetrying, unmountStacked } from "./retry.ts";
import {
  MNT_DETACH,
  MNT_EXPIRE,
  MNT_FORCE,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { getdents64, open, readlink, realpath } from "../syscalls/mod.ts";
import { treesOf, treesWithin, unmountIfChildless, unmountTrees, wholeTrees } from "./tree.ts";

/**
 * Unmounts every mount of a target and below it, the deepest first.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param target a path; symbolic links are followed, except with `noFollow` one at its end. It need not be a mountpoint, nor exist.
 * @param options how to unmount; the timeout is for all mounts together.
 * @throws {SyscallError} if the mount of the target can't be unmounted, or if a mount below it remains.
 *
 * @example
 * ```ts
 * import { mountAll, unmountRecursive } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await mountAll([{ type: "tmpfs", source: "tmpfs" }, { type: "tmpfs", source: "tmpfs" }], target);
 * await unmountRecursive(target);
 * await Deno.remove(target);
 * ```
 */
export async function unmountRecursive(target: string, options: UnmountOptions = {}): Promise<void> {
  if (target === "") return;
  if (options.namespace !== undefined) {
    const { namespace, ...rest } = options;
    return await runInNamespace(namespace, () => unmountRecursive(target, rest));
  }
  const deadline = new Deadline(options);
  await ensureResolvable(target, deadline);
  if (options.noFollow && isSymbolicLink(target)) return; // nothing is mounted on a link, nor below it
  const top = canonicalOrMissing(target);
  if (top === undefined) return;
  const failures: SyscallError[] = [];
  const onError = (error: unknown, { mountpoint }: TreeInfo) => {
    if (mountpoint === top || !(error instanceof SyscallError)) throw error;
    failures.push(error);
  };
  const isComplete = hasFeature("statmount") && top !== "/"
    ? await unmountByIds(top, deadline, onError)
    : await unmountByTable(top, deadline, onError);
  const [first] = failures;
  if (first === undefined && isComplete) return;
  // A mount that could not be unmounted by itself may have gone with a lazy unmount of its parent.
  const [left] = await listMounts({ filter: prefixFilter(top) });
  if (left) throw first ?? movedError(left);
}

function movedError({ mountpoint: path }: TreeInfo): SyscallError {
  const reason = `${path} was moved, or a directory above it renamed, each time that it was to be unmounted`;
  return new SyscallError({ syscall: "umount2", errno: errnoNumber("EBUSY"), path, reason });
}

type OnError = (error: unknown, info: TreeInfo) => void;

/** How often the mounts are looked for again that another process has moved, or renamed the directory of. */
const ATTEMPTS = 20;

/** The fallback without statmount(2): the whole mount table is read. */
async function unmountByTable(top: string, deadline: Deadline, onError: OnError): Promise<boolean> {
  const filter = prefixFilter(top);
  let isComplete = false;
  for (let attempt = 0; attempt < ATTEMPTS && !isComplete; attempt++) {
    const trees = await treesWithin(await listMounts(), (mount) => !filter(mount).skip);
    isComplete = await unmountTrees(trees, deadline, onError);
  }
  await unmountStacked(top, deadline, topMount(top, deadline));
  return isComplete;
}

/** Reads the mounts of the target's trees only, and of a single mount nothing: it is busy if another one is below it. */
async function unmountByIds(top: string, deadline: Deadline, onError: OnError): Promise<boolean> {
  const isPlain = (deadline.flags & (MNT_DETACH | MNT_EXPIRE | MNT_FORCE)) === 0;
  for (let mount = topMount(top, deadline); mount; mount = topMount(top, deadline)) {
    if (isPlain && await tryUnmountChildless(top, deadline, mount)) continue;
    await unmountTrees(await treesOf(mount), deadline, onError);
    // Not in the table, such as below /proc/PID/root: umount2(2) says why.
    if (topMount(top, deadline)?.mountId === mount.mountId) await unmountRetrying(top, deadline, mount);
  }
  if (await isEmptyDirectory(top)) return true; // no mount can be below it
  const parent = statxMountUnique(top);
  if (!parent.isUnique) return await unmountByTable(top, deadline, onError);
  const filter = prefixFilter(top);
  let isComplete = false;
  for (let attempt = 0; attempt < ATTEMPTS && !isComplete; attempt++) {
    const around = await readSubtree(parent);
    const tree = await inSteps(filtered(around, (mount) => !filter(mount).skip));
    isComplete = await unmountTrees(await wholeTrees(tree, around), deadline, onError);
  }
  await unmountStacked(top, deadline, topMount(top, deadline));
  return isComplete;
}

/** False also for a mount that is locked, or that another process has unmounted meanwhile. */
async function tryUnmountChildless(top: string, deadline: Deadline, mount: StatxMount): Promise<boolean> {
  try {
    return await unmountIfChildless(top, deadline.restarted(), mount);
  } catch (error) {
    if (isErrno(error, "EINVAL")) return false;
    throw error;
  }
}

/** Whether a path is no directory, or an empty one. Of a server's file system, that is not asked. */
async function isEmptyDirectory(path: string): Promise<boolean> {
  try {
    if (await mayWaitForServer(statxMountUnique(path))) return false;
    using directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    return getdents64(directory.fd, 1).length === 0;
  } catch (error) {
    if (isErrno(error, "ENOTDIR", "ENOENT")) return true;
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

/**
 * Unmounts the mount of a target, if that takes no look at the mount table, whose length is that of the whole machine's.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param target the mountpoint; a symbolic link at its end is not followed.
 * @param options how to unmount; `namespace` is ignored.
 * @returns true if the topmost mount is unmounted, or there is none; another one may be under it, or below the target.
 * @throws {SyscallError} if it can't be unmounted.
 */
export async function tryUnmountSingle(target: string, options: UnmountOptions): Promise<boolean> {
  const deadline = new Deadline({ ...options, noFollow: true });
  return isCached(target, deadline) && await unmountIfChildless(target, deadline);
}

function canonicalOrMissing(path: string): string | undefined {
  try {
    return realpath(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

function isSymbolicLink(path: string): boolean {
  try {
    readlink(path);
    return true;
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}
