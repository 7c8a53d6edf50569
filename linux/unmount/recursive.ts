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
import { ensureResolvable } from "../path/cached_lookup.ts";
import { topMount, unmountRetrying, unmountStacked } from "./retry.ts";
import { realpath, umount2 } from "../syscalls/mod.ts";
import { filesystemState, needsNoFlush } from "./umount_once.ts";

/**
 * Unmounts every mount of a target and below it, the deepest first.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param target a path; symbolic links are followed. It need not be a mountpoint, nor exist.
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
  const top = canonicalOrMissing(target);
  if (top === undefined) return;
  const table = await listMounts();
  const within = prefixFilter(top);
  // A mountpoint below another has a longer path. Of mounts stacked on one path, each call unmounts the topmost.
  const mounts = table.filter((mount) => !within(mount).skip).reverse().sort((a, b) =>
    b.mountpoint.length - a.mountpoint.length
  );
  const mountCounts = countMountsByDevice(table);
  const anyServed = mounts.some(({ fsType }) => isServed(fsType)); // the path to a mount may lead through its server
  const failures: SyscallError[] = [];
  for (const info of mounts) {
    const { mountpoint } = info;
    try {
      if (anyServed) await ensureResolvable(mountpoint, deadline);
      deadline.signal?.throwIfAborted();
      if (isImmediate(info, mountCounts) && tryUmount(mountpoint, deadline.flags)) continue;
      await unmountRetrying(mountpoint, deadline);
    } catch (error) {
      if (mountpoint === top || !(error instanceof SyscallError)) throw error;
      failures.push(error);
    }
  }
  await unmountStacked(top, deadline, topMount(top, deadline));
  // A mount that could not be unmounted by itself may have gone with a lazy unmount of its parent.
  const [first] = failures;
  if (first && (await listMounts({ filter: within })).length > 0) throw first;
}

function canonicalOrMissing(path: string): string | undefined {
  try {
    return realpath(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

/** A file system with another mount has nothing to flush yet; some types never have. */
function isImmediate(info: MountInfo, mountCounts: Map<string, number>): boolean {
  const device = deviceOf(info);
  const others = (mountCounts.get(device) ?? 1) - 1;
  mountCounts.set(device, others);
  return others > 0 || needsNoFlush(info.mountpoint, filesystemState(info));
}

/** False if the target is busy or not a mountpoint. */
function tryUmount(target: string, flags: number): boolean {
  try {
    umount2(target, flags);
    return true;
  } catch (error) {
    if (isErrno(error, "EBUSY", "EINVAL")) return false;
    throw error;
  }
}

function deviceOf({ major, minor }: MountInfo): string {
  return `${major}:${minor}`;
}

function countMountsByDevice(table: readonly MountInfo[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const device of table.map(deviceOf)) counts.set(device, (counts.get(device) ?? 0) + 1);
  return counts;
}
