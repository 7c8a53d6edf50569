/**
 * Changes of a mount's propagation. They are made after the mount is attached, because the kernel makes a mount shared
 * that is attached under a shared one; and in calls of their own, because mount(2) takes them with nothing else.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { MountTarget } from "../path/mount_target.ts";
import { openTopMount, procFdPath } from "../path/mount_target.ts";
import { type Call, mountCall, quoted, setattrCall } from "../spec/call.ts";
import type { PropagationStep } from "../spec/options.ts";
import { AT_EMPTY_PATH, AT_RECURSIVE, MS_REC } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mount, mountSetattr } from "../syscalls/mod.ts";

/**
 * Changes the propagation of the topmost mount on a mountpoint.
 *
 * @param steps the changes, in their order.
 * @param target the mountpoint.
 */
export function setPropagation(steps: readonly PropagationStep[], target: MountTarget): void {
  for (const { type, recursive } of steps) {
    using mounted = openTopMount(target);
    if (hasFeature("mountSetattr")) setPropagationFd([{ type, recursive }], mounted);
    else mount(null, procFdPath(mounted), null, type | (recursive ? MS_REC : 0), null);
  }
}

/**
 * Changes the propagation of a mount that is held by a descriptor. It needs mount_setattr(2).
 *
 * @param steps the changes, in their order.
 * @param mounted the root of the mount.
 */
export function setPropagationFd(steps: readonly PropagationStep[], mounted: OwnedFd): void {
  for (const { type, recursive } of steps) {
    mountSetattr(mounted.fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), { propagation: type });
  }
}

/**
 * Describes {@linkcode setPropagation}.
 *
 * @param steps the changes.
 * @param target the mountpoint's path.
 * @returns its calls.
 */
export function describePropagation(steps: readonly PropagationStep[], target: string): Call[] {
  const purpose = "set which mounts made here later are visible in other namespaces";
  return steps.map(({ type, recursive }) =>
    hasFeature("mountSetattr")
      ? setattrCall({ mount: quoted(target), recursive, propagation: type }, purpose)
      : mountCall({ target, flags: type | (recursive ? MS_REC : 0) }, purpose)
  );
}
