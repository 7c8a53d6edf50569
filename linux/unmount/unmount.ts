/**
 * Taking mounts off a path again.
 *
 * @module
 */

import { callInNamespace, Deadline, type UnmountOptions } from "./deadline.ts";
import { resolveOffThread } from "../path/cached_lookup.ts";
import { topMount, topMountCached, unmountRetrying, unmountStacked } from "./retry.ts";
import { tryUmountSync } from "./umount_once.ts";

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
  if (options.namespace !== undefined) return await callInNamespace(options, unmount, target);
  const effort = new Deadline(options);
  let top = topMountCached(target, effort);
  if (top === "unknown") {
    await resolveOffThread(target, effort);
    top = topMount(target, effort);
  }
  if (top === undefined || !tryUmountSync(target, effort.flags, top)) {
    await unmountRetrying(target, effort, top);
  }
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
  if (options.namespace !== undefined) return await callInNamespace(options, unmountAll, target);
  const effort = new Deadline(options);
  let top = topMountCached(target, effort);
  if (top === "unknown") {
    await resolveOffThread(target, effort);
    top = topMount(target, effort);
  }
  const waiting = unmountStacked(target, effort, top);
  if (waiting) await waiting;
}
