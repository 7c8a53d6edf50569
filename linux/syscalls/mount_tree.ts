/**
 * The system calls on the tree of mounts: open_tree(2), move_mount(2) and mount_setattr(2).
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { scratchCString } from "../../ffi/memory.ts";
import { Scratch } from "../../ffi/scratch.ts";
import { AT_EMPTY_PATH, OPEN_TREE_CLOEXEC } from "./constants.ts";
import { SYS_mount_setattr, SYS_move_mount, SYS_open_tree, SYS_open_tree_attr } from "./numbers.ts";

/**
 * open_tree(2): opens a path, or with `OPEN_TREE_CLONE` a detached clone of its mount.
 *
 * Needs the permission `ffi`, Linux 5.2, and CAP_SYS_ADMIN for a clone.
 *
 * @param dirfd the directory of a relative path; `AT_FDCWD` for the working directory.
 * @param path the path.
 * @param flags `OPEN_TREE_CLONE`, `AT_RECURSIVE`, `AT_EMPTY_PATH`, …; close-on-exec is always set.
 * @returns the tree's descriptor.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, OPEN_TREE_CLONE, openTree } from "@denomount/mount/linux";
 *
 * using tree = openTree(AT_FDCWD, "/", OPEN_TREE_CLONE); // a detached bind mount of "/"
 * console.log(tree.fd);
 * ```
 */
export function openTree(dirfd: number, path: string, flags: number): OwnedFd {
  const result = libc().open_tree(
    SYS_open_tree,
    dirfd,
    scratchCString(path),
    (flags | OPEN_TREE_CLOEXEC) >>> 0,
  );
  return new OwnedFd(check(result, errno[0], "open_tree", path));
}

/**
 * move_mount(2): attaches a detached mount, or moves an attached one.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fromFd the mount's descriptor, or the directory of a relative `fromPath`.
 * @param fromPath the mount's path; "" with `MOVE_MOUNT_F_EMPTY_PATH`.
 * @param toFd the mountpoint's descriptor, or the directory of a relative `toPath`.
 * @param toPath the mountpoint; "" with `MOVE_MOUNT_T_EMPTY_PATH`.
 * @param flags `MOVE_MOUNT_…` flags.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   using tree = linux.openTree(linux.AT_FDCWD, "/usr", linux.OPEN_TREE_CLONE);
 *   linux.moveMount(tree.fd, "", linux.AT_FDCWD, target, linux.MOVE_MOUNT_F_EMPTY_PATH);
 * }
 * linux.umount2(target, 0);
 * await Deno.remove(target);
 * ```
 */
export function moveMount(
  fromFd: number,
  fromPath: string,
  toFd: number,
  toPath: string,
  flags: number,
): void {
  check(
    libc().move_mount(SYS_move_mount, fromFd, scratchCString(fromPath), toFd, scratchCString(toPath), flags),
    errno[0],
    "move_mount",
    fromPath || undefined,
    toPath || undefined,
  );
}

/** The changes of {@linkcode mountSetattr}: struct mount_attr of linux/mount.h. */
export interface MountAttr {
  /** The `MOUNT_ATTR_…` flags to set. */
  set?: number;
  /** The `MOUNT_ATTR_…` flags to clear. */
  clear?: number;
  /** One of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` and `MS_UNBINDABLE`; 0 leaves the propagation unchanged. */
  propagation?: number;
  /** The user namespace whose id maps `MOUNT_ATTR_IDMAP` uses. */
  usernsFd?: number;
}

/**
 * mount_setattr(2): changes the attributes of a mount; with `AT_RECURSIVE`, of its whole tree or of none of it.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.12.
 *
 * @param dirfd the mount's descriptor, or the directory of a relative path.
 * @param path the mount's root; "" with `AT_EMPTY_PATH`.
 * @param flags `AT_EMPTY_PATH`, `AT_RECURSIVE`.
 * @param attr the changes.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * using tree = linux.openTree(linux.AT_FDCWD, "/usr", linux.OPEN_TREE_CLONE);
 * linux.mountSetattr(tree.fd, "", linux.AT_EMPTY_PATH, { set: linux.MOUNT_ATTR_RDONLY });
 * ```
 */
export function mountSetattr(dirfd: number, path: string, flags: number, attr: MountAttr): void {
  fillMountAttr(attr);
  check(
    libc().mount_setattr(
      SYS_mount_setattr,
      dirfd,
      scratchCString(path),
      flags >>> 0,
      mountAttr.address,
      MOUNT_ATTR_SIZE,
    ),
    errno[0],
    "mount_setattr",
    flags & AT_EMPTY_PATH ? undefined : path,
  );
}

/**
 * open_tree_attr(2): open_tree(2) and mount_setattr(2) in one call. It alone can change or clear the id map of an id-mapped
 * mount: that of its clone.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 6.15.
 *
 * @param dirfd the directory of a relative path; `AT_FDCWD` for the working directory.
 * @param path the path; "" with `AT_EMPTY_PATH`.
 * @param flags `OPEN_TREE_CLONE`, `AT_RECURSIVE`, `AT_EMPTY_PATH`, …; close-on-exec is always set.
 * @param attr the changes.
 * @returns the tree's descriptor.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * using tree = linux.openTreeAttr(linux.AT_FDCWD, "/usr", linux.OPEN_TREE_CLONE, { set: linux.MOUNT_ATTR_RDONLY });
 * console.log(tree.fd); // a detached read-only bind mount of /usr
 * ```
 */
export function openTreeAttr(dirfd: number, path: string, flags: number, attr: MountAttr): OwnedFd {
  fillMountAttr(attr);
  const result = libc().open_tree_attr(
    SYS_open_tree_attr,
    dirfd,
    scratchCString(path),
    (flags | OPEN_TREE_CLOEXEC) >>> 0,
    mountAttr.address,
    MOUNT_ATTR_SIZE,
  );
  return new OwnedFd(check(result, errno[0], "open_tree_attr", flags & AT_EMPTY_PATH ? undefined : path));
}

function fillMountAttr({ set = 0, clear = 0, propagation = 0, usernsFd = 0 }: MountAttr): void {
  const { view } = mountAttr; // the upper halves stay 0
  view.setUint32(0, set, true); // attr_set
  view.setUint32(8, clear, true); // attr_clr
  view.setUint32(16, propagation, true); // propagation
  view.setUint32(24, usernsFd, true); // userns_fd
}

const MOUNT_ATTR_SIZE = 32n; // MOUNT_ATTR_SIZE_VER0, linux/mount.h
const mountAttr = new Scratch(Number(MOUNT_ATTR_SIZE));
