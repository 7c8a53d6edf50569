/**
 * The kernel as it is: system calls under their man-page names, its constants, and what this kernel can do. For
 * those who need the raw call; most want the main entry.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, OPEN_TREE_CLONE, openTree } from "@denomount/mount/linux";
 *
 * using tree = openTree(AT_FDCWD, "/usr", OPEN_TREE_CLONE); // a bind mount, attached nowhere
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
