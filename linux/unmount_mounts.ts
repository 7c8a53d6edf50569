/**
 * Taking off a list of mounts whose handle is gone.
 *
 * @module
 */

import { SyscallError } from "../ffi/errno.ts";
import { Effort, there, type UnmountOptions } from "./effort.ts";
import { mountedOn } from "./spot.ts";
import { insideOf, type Mount, parentsFirst } from "./mount_list.ts";
import { splitOptions } from "./options.ts";
import { join, rootPath } from "./path.ts";
import { reach } from "./reach.ts";
import { takeOff } from "./take_off.ts";
import { takeTreeOff } from "./unmount_tree.ts";

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
    return await there(options, (to, rest) => unmountMounts(mounts, to, rest), target);
  }
  const effort = new Effort(options);
  const made = parentsFirst(
    mounts.filter(makesMount).map((mount) => ({ inside: insideOf(mount), isTree: isTree(mount) })),
  ).reverse();
  const failures: { mountpoint: string; error: SyscallError }[] = [];
  for (const [index, { inside, isTree }] of made.entries()) {
    let mountpoint = join(target, inside);
    try {
      await reach(mountpoint, effort);
      mountpoint = await rootPath(target, inside);
      await (isTree ? takeTreeOff(mountpoint, effort) : takeOff(mountpoint, effort));
    } catch (error) {
      if (index === 0 || !(error instanceof SyscallError)) throw error;
      failures.push({ mountpoint, error });
    }
  }
  for (const { mountpoint, error } of failures) if (mountedOn(mountpoint) !== undefined) throw error;
}

function isTree({ options = [] }: Mount): boolean {
  return options.flatMap(splitOptions).includes("rbind");
}

function makesMount({ type, options: given = [] }: Mount): boolean {
  const options = given.flatMap(splitOptions);
  const bare = type === "" || type === "none";
  return !options.includes("remount") && !(bare && !options.includes("bind") && !options.includes("rbind"));
}
