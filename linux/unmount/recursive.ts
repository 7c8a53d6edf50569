/**
 * Unmounting a directory with everything below it.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { Deadline, type UnmountOptions } from "./deadline.ts";
import { isServed } from "../mountinfo/filesystem_types.ts";
import { prefixFilter } from "../mountinfo/filters.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { runInNamespace } from "../namespace/mount.ts";
import { ensureResolvable, isCached } from "../path/cached_lookup.ts";
import { topMount, unmountStacked } from "./retry.ts";
import { readlink, realpath } from "../syscalls/mod.ts";
import { unmountIfChildless, unmountTrees } from "./tree.ts";

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
  const table = await listMounts();
  const filter = prefixFilter(top);
  const isWithin = (mount: MountInfo) => !filter(mount).skip;
  const anyServed = table.some((mount) => isServed(mount.fsType) && isWithin(mount));
  const failures: SyscallError[] = [];
  await unmountTrees(table, isWithin, deadline, anyServed, (error, { mountpoint }) => {
    if (mountpoint === top || !(error instanceof SyscallError)) throw error;
    failures.push(error);
  });
  await unmountStacked(top, deadline, topMount(top, deadline));
  // A mount that could not be unmounted by itself may have gone with a lazy unmount of its parent.
  const [first] = failures;
  if (first && (await listMounts({ filter })).length > 0) throw first;
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
