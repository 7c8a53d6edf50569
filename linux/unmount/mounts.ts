/**
 * Taking off a list of mounts whose handle is gone.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { callInNamespace, Deadline, type UnmountOptions } from "./deadline.ts";
import { mountAt } from "../mountinfo/statx_mount.ts";
import { type Mount, parentsFirst, subpathOf } from "../spec/mount.ts";
import { splitOptions } from "../spec/options.ts";
import { join, rootPath } from "../path/path.ts";
import { ensureResolvable } from "../path/cached_lookup.ts";
import { unmountRetrying } from "./retry.ts";
import { unmountTreeRetrying } from "./tree.ts";

/**
 * Takes a list of mounts off a target: the reverse of `mountAll`, for when its handle is gone.
 *
 * @param mounts the list as it was mounted.
 * @param target the directory that it is under.
 * @param options how.
 * @throws {SyscallError} if the last mount of the list does not come off; the failure of another one counts where
 * something is still mounted there at the end.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { mountAll, unmountMounts } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * const list = [{ type: "bind", source: "/usr", options: ["rbind", "ro"] }];
 * await mountAll(list, target);
 * await unmountMounts(list, target);
 * await Deno.remove(target);
 * ```
 */
export async function unmountMounts(
  mounts: readonly Mount[],
  target: string,
  options: UnmountOptions = {},
): Promise<void> {
  if (options.namespace !== undefined) {
    return await callInNamespace(options, (to, rest) => unmountMounts(mounts, to, rest), target);
  }
  const effort = new Deadline(options);
  const made = parentsFirst(
    mounts.filter(makesMount).map((mount) => ({ subpath: subpathOf(mount), isTree: isTree(mount) })),
  ).reverse();
  const failures: { mountpoint: string; error: SyscallError }[] = [];
  for (const [index, { subpath, isTree }] of made.entries()) {
    let mountpoint = join(target, subpath);
    try {
      await ensureResolvable(mountpoint, effort);
      mountpoint = await rootPath(target, subpath);
      await (isTree ? unmountTreeRetrying(mountpoint, effort) : unmountRetrying(mountpoint, effort));
    } catch (error) {
      if (index === 0 || !(error instanceof SyscallError)) throw error;
      failures.push({ mountpoint, error });
    }
  }
  for (const { mountpoint, error } of failures) if (mountAt(mountpoint) !== undefined) throw error;
}

function isTree({ options = [] }: Mount): boolean {
  return options.flatMap(splitOptions).includes("rbind");
}

function makesMount({ type, options: given = [] }: Mount): boolean {
  const options = given.flatMap(splitOptions);
  const bare = type === "" || type === "none";
  return !options.includes("remount") && !(bare && !options.includes("bind") && !options.includes("rbind"));
}
