/**
 * Taking off everything below a directory.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { callInNamespace, Deadline, type UnmountOptions } from "./deadline.ts";
import { isServed } from "../mountinfo/filesystem_types.ts";
import { prefixFilter } from "../mountinfo/filters.ts";
import { listMounts } from "../mountinfo/list_mounts.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { canonicalizePath } from "../path/path.ts";
import { ensureResolvable } from "../path/cached_lookup.ts";
import { topMount, unmountRetrying, unmountStacked } from "./retry.ts";
import { filesystemState, needsNoFlush, tryUmount } from "./umount_once.ts";

/**
 * Takes everything off at a target and below it, the deepest first.
 *
 * @param target a path; symbolic links are followed. It need not be a mountpoint itself.
 * @param options how; the timeout is for all of it together.
 * @throws {SyscallError} if the target's own mount does not come off, or another one stays.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
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
  if (options.namespace !== undefined) return await callInNamespace(options, unmountRecursive, target);
  const effort = new Deadline(options);
  await ensureResolvable(target, effort);
  const top = await canonicalizePath(target);
  const table = await listMounts();
  const within = prefixFilter(top);
  // Below a mount is only what has a longer path; of those on one path, each call takes the topmost.
  const mounts = table.filter((mount) => !within(mount).skip).reverse().sort((a, b) =>
    b.mountpoint.length - a.mountpoint.length
  );
  const users = usersOfDevices(table);
  const anyServed = mounts.some(({ fsType }) => isServed(fsType)); // what is mounted in it, may be out of reach
  const failures: SyscallError[] = [];
  for (const info of mounts) {
    const { mountpoint } = info;
    try {
      if (anyServed) await ensureResolvable(mountpoint, effort);
      effort.signal?.throwIfAborted();
      if (needNotWait(info, users) && tryUmount(mountpoint, effort.flags)) continue;
      await unmountRetrying(mountpoint, effort);
    } catch (error) {
      if (mountpoint === top || !(error instanceof SyscallError)) throw error;
      failures.push(error);
    }
  }
  await unmountStacked(top, effort, topMount(top, effort));
  // What would not come off by itself may have gone with what it was mounted in.
  const [first] = failures;
  if (first && (await listMounts({ filter: within })).length > 0) throw first;
}

/** A file system that is mounted elsewhere too has nothing to flush; nor have some others. */
function needNotWait(info: MountInfo, users: Map<string, number>): boolean {
  const device = deviceOf(info);
  const left = (users.get(device) ?? 1) - 1;
  users.set(device, left);
  return left > 0 || needsNoFlush(info.mountpoint, filesystemState(info));
}

function deviceOf({ major, minor }: MountInfo): string {
  return `${major}:${minor}`;
}

/** How often each device is in the table. */
function usersOfDevices(table: readonly MountInfo[]): Map<string, number> {
  const users = new Map<string, number>();
  for (const device of table.map(deviceOf)) {
    users.set(device, (users.get(device) ?? 0) + 1);
  }
  return users;
}
