/**
 * Unmounting a list of mounts without its handle.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { Deadline, type UnmountOptions } from "./deadline.ts";
import { runInNamespace } from "../namespace/mount.ts";
import { mountAt } from "../mountinfo/statx_mount.ts";
import { type Mount, subpathOf } from "../spec/mount.ts";
import { splitOptions } from "../spec/options.ts";
import { canonicalizePath, join, pathInRoot } from "../path/path.ts";
import { topMount } from "./retry.ts";
import { unmountTreeRetrying } from "./tree.ts";

/**
 * Unmounts a list of mounts from a target: the reverse of `mountAll`, if its handle is gone. As containerd's, it unmounts
 * everything that is stacked on each mountpoint, with the mounts below it; a mountpoint that is gone is no error.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param mounts the list that was mounted.
 * @param target the directory under which it is mounted.
 * @param options how to unmount; the timeout is for all mounts together.
 * @throws {SyscallError} if the last mount of the list can't be unmounted, or if another one can't and its mountpoint is
 * still a mountpoint at the end.
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
    const { namespace, ...rest } = options;
    return await runInNamespace(namespace, () => unmountMounts(mounts, target, rest));
  }
  const deadline = new Deadline(options);
  const inReverse = mounts.filter(makesMount).map((mount) => subpathOf(mount.target)).reverse();
  const failures: { mountpoint: string; error: SyscallError }[] = [];
  let root: string | undefined;
  for (const [index, subpath] of inReverse.entries()) {
    let mountpoint = join(target, subpath);
    try {
      root ??= await canonicalizePath(target, deadline.restarted());
      mountpoint = await pathInRoot(root, subpath, deadline.restarted());
      for (let top = topMount(mountpoint, deadline); top; top = topMount(mountpoint, deadline)) {
        await unmountTreeRetrying(mountpoint, deadline.restarted(), top);
      }
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR")) continue; // nothing is mounted at a path that is gone
      if (index === 0 || !(error instanceof SyscallError)) throw error;
      failures.push({ mountpoint, error });
    }
  }
  for (const { mountpoint, error } of failures) if (mountAt(mountpoint) !== undefined) throw error;
}

/** Neither a remount nor a change of propagation makes a mount. */
function makesMount({ type, options: given }: Mount): boolean {
  const options = (given ?? []).flatMap(splitOptions);
  const hasNoType = type === "" || type === "none";
  const isBind = options.includes("bind") || options.includes("rbind");
  return !options.includes("remount") && (isBind || !hasNoType);
}
