/**
 * Taking mounts off a path again.
 *
 * @module
 */

import { Effort, there, type UnmountOptions } from "./effort.ts";
import { reachLater } from "./reach.ts";
import { takeAllOff, takeOff, topInReach, topOf } from "./take_off.ts";
import { umountAtOnce } from "./umount.ts";

/**
 * Takes the topmost mount off a target. A path that is no mountpoint is fine; a busy one is tried again every 50 ms.
 *
 * @param target the mountpoint.
 * @param options how.
 * @throws {SyscallError} EBUSY or, of a server, ETIMEDOUT after the timeout, ENOENT where the path does not exist, EPERM
 * without the right, and EINVAL for a mount that a user namespace holds fast.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN; for FUSE with `run`, the FUSE helpers' rights count instead.
 *
 * @example
 * ```ts
 * import { mount, unmount } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * await unmount(target);
 * await Deno.remove(target);
 * ```
 */
export async function unmount(target: string, options: UnmountOptions = {}): Promise<void> {
  if (options.namespace !== undefined) return await there(options, unmount, target);
  const effort = new Effort(options);
  let top = topInReach(target, effort);
  if (top === "unknown") {
    await reachLater(target, effort);
    top = topOf(target, effort);
  }
  if (top === undefined || !umountAtOnce(target, effort.flags, top)) await takeOff(target, effort, top);
}

/**
 * Takes every mount off a target that are stacked on it. `""`, a path that does not exist and one that is no mountpoint
 * are fine.
 *
 * @param target the mountpoint.
 * @param options how.
 * @throws {SyscallError} as {@linkcode unmount} does.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { mount, unmountAll } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * await unmountAll(target);
 * await Deno.remove(target);
 * ```
 */
export async function unmountAll(target: string, options: UnmountOptions = {}): Promise<void> {
  if (options.namespace !== undefined) return await there(options, unmountAll, target);
  const effort = new Effort(options);
  let top = topInReach(target, effort);
  if (top === "unknown") {
    await reachLater(target, effort);
    top = topOf(target, effort);
  }
  const waiting = takeAllOff(target, effort, top);
  if (waiting) await waiting;
}
