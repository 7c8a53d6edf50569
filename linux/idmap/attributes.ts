/**
 * Attributes and id maps of mounts, through mount_setattr(2).
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { SetattrStep } from "../spec/setattr.ts";
import { AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR_IDMAP } from "../syscalls/constants.ts";
import { mountSetattr } from "../syscalls/mod.ts";

/**
 * Changes the attributes of a mount and of the tree below it; a detached one can be id-mapped in the same call.
 *
 * @param mount the mount.
 * @param steps the calls to make.
 * @param userns the user namespace whose maps it gets.
 * @throws {SyscallError} as mount_setattr(2) does.
 */
export function setAttributes(mount: OwnedFd, steps: readonly SetattrStep[], userns?: OwnedFd): void {
  for (const { recursive, set, clear, isMapped, propagation } of steps) {
    mountSetattr(mount.fd, "", recursive ? AT_EMPTY_PATH | AT_RECURSIVE : AT_EMPTY_PATH, {
      set: isMapped ? set | MOUNT_ATTR_IDMAP : set,
      clear,
      propagation,
      usernsFd: isMapped && userns ? userns.fd : 0,
    });
  }
}
