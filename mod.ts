/**
 * Linux mounts for Deno: bind, overlay, tmpfs, images through loop devices, FUSE; a list of mounts as containerd's
 * snapshotters print it goes up under a directory, all of it or nothing, and comes down again.
 *
 * @example
 * ```ts
 * import { mountAll } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   await using root = await mountAll([
 *     { type: "overlay", source: "overlay", options: ["lowerdir=/usr:/etc"] },
 *     { type: "bind", source: "/etc", target: "/share", options: ["rbind", "ro"] },
 *   ], target);
 *   console.log(root.mountpoints);
 * } // unmounted here
 * await Deno.remove(target);
 * ```
 *
 * @module
 */

export { SyscallError, type SyscallFailure } from "./ffi/errno.ts";
export { OwnedFd } from "./ffi/fd.ts";
export { explain, type Step } from "./linux/explain.ts";
export { type Feature, featureVersions, kernelFeatures } from "./linux/features.ts";
export { type IdMapping, parseIdMappings } from "./linux/idmap.ts";
export { type IdMapAttributes, idMapMount } from "./linux/bind.ts";
export { isMountpoint, lookupMount } from "./linux/lookup.ts";
export { attachLoop, detachLoop, LoopDevice, type LoopParams, setupLoop } from "./linux/loop.ts";
export { mount, mountAll, type MountOptions, type MountStack } from "./linux/mount.ts";
export { MountError } from "./linux/mount_error.ts";
export {
  isReadonly,
  type Mount,
  readonlyMounts,
  removeIdMapOption,
  removeVolatileOption,
} from "./linux/mount_list.ts";
export {
  fsTypeFilter,
  listMounts,
  type MountFilter,
  type MountInfo,
  parentsFilter,
  parseMountInfo,
  prefixFilter,
  singleEntryFilter,
} from "./linux/mountinfo.ts";
export type { MountNamespace } from "./linux/namespace.ts";
export { canonicalizePath, rootPath } from "./linux/path.ts";
export type { Patience } from "./linux/reach.ts";
export { withReadonlyTempMount, withTempMount } from "./linux/temp.ts";
export { cleanupTempMounts, setTempMountLocation } from "./linux/temp_place.ts";
export type { UnmountOptions } from "./linux/effort.ts";
export { unmount, unmountAll } from "./linux/unmount.ts";
export { unmountMounts } from "./linux/unmount_mounts.ts";
export { unmountRecursive } from "./linux/unmount_recursive.ts";
export { createUserNamespace, userNamespaceOf } from "./linux/userns.ts";
export type { MountEvent } from "./linux/mount_changes.ts";
export { type MountWatch, watchMounts, type WatchOptions } from "./linux/watch.ts";
