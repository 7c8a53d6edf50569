/**
 * Low-level access to the kernel: system calls under the names of their man pages, constants, and feature probes. Most
 * programs need the main entry only.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, OPEN_TREE_CLONE, openTree } from "@denomount/mount/linux";
 *
 * using tree = openTree(AT_FDCWD, "/usr", OPEN_TREE_CLONE); // a detached bind mount
 * console.log(tree.fd);
 * ```
 *
 * @module
 */

export { errnoName, errnoNumber, isErrno, SyscallError, type SyscallFailure } from "../ffi/errno.ts";
export { OwnedFd } from "../ffi/fd.ts";
export * from "./syscalls/constants.ts";
export {
  type Feature,
  featureVersions,
  hasFeature,
  kernelFeatures,
  pretendMissing,
} from "./syscalls/features.ts";
export * from "./syscalls/mod.ts";
