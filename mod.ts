/**
 * Mounts file systems on Linux: bind, overlay, tmpfs, disk images through loop devices, and FUSE, each optionally
 * id-mapped. A list of mounts, in the form of containerd's snapshotters, is mounted completely or not at all.
 *
 * Every function that makes a system call needs the permission `ffi`; most need CAP_SYS_ADMIN too.
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
export { explain, type ExplainOptions, type Step } from "./linux/mount/explain.ts";
export { type Feature, featureVersions, kernelFeatures } from "./linux/syscalls/features.ts";
export { type IdMapping, parseIdMappings } from "./linux/spec/id_mapping.ts";
export { type IdMapAttributes, idMapMount } from "./linux/mount/idmap_mount.ts";
export { type Partition, probe, type ProbeOptions, type ProbeResult } from "./linux/filesystem/probe.ts";
export { isMountpoint, lookupMount } from "./linux/mountinfo/lookup.ts";
export { attachLoop, detachLoop, LoopDevice, type LoopParams, setupLoop } from "./linux/loop/loop.ts";
export {
  type ListActivator,
  mount,
  mountAll,
  type MountHandle,
  type MountOptions,
} from "./linux/mount/mount.ts";
export { MountError } from "./linux/spec/error.ts";
export {
  isReadonly,
  type Mount,
  readonlyMounts,
  removeIdMapOption,
  removeVolatileOption,
} from "./linux/spec/mount.ts";
export {
  bind,
  type BindSpec,
  image,
  type ImageSpec,
  type MountSpec,
  overlay,
  type OverlaySpec,
  tmpfs,
  type TmpfsSpec,
} from "./linux/spec/make_mount.ts";
export { parseMounts } from "./linux/spec/read_mount.ts";
export { fsTypeFilter, parentsFilter, prefixFilter, singleEntryFilter } from "./linux/mountinfo/filters.ts";
export { listMounts } from "./linux/mountinfo/list_mounts.ts";
export { type MountFilter, type MountInfo, parseMountInfo } from "./linux/mountinfo/parse_mountinfo.ts";
export type { MountNamespace } from "./linux/namespace/mount.ts";
export type { UserNamespace } from "./linux/namespace/open_user.ts";
export { canonicalizePath, rootPath } from "./linux/path/path.ts";
export { AbandonedCallsError, type WaitOptions } from "./linux/path/wait.ts";
export { type TempMountOptions, withReadonlyTempMount, withTempMount } from "./linux/mount/temp_mount.ts";
export { cleanupTempMounts, setTempMountLocation } from "./linux/temp/temp_directory.ts";
export { BusyError } from "./linux/unmount/busy_error.ts";
export type {
  Holder,
  LoopHolder,
  MountHolder,
  MountUse,
  NamespaceHolder,
  ProcessHolder,
  SwapHolder,
} from "./linux/unmount/holders.ts";
export type { UnmountOptions } from "./linux/unmount/deadline.ts";
export { unmount, unmountAll } from "./linux/unmount/unmount.ts";
export { unmountMounts } from "./linux/unmount/mounts.ts";
export { unmountRecursive } from "./linux/unmount/recursive.ts";
export { createUserNamespace, userNamespaceOf } from "./linux/namespace/user.ts";
export type { MountEvent } from "./linux/mountinfo/diff.ts";
export { type MountWatch, watchMounts, type WatchOptions } from "./linux/mountinfo/watch.ts";
