/**
 * Unmounting what is mounted on a path.
 *
 * @module
 */

import { isRedirected } from "../../ffi/libc.ts";
import { cString } from "../../ffi/memory.ts";
import { onPrivateThread } from "../../ffi/private_thread.ts";
import { withTimeout } from "../path/wait.ts";
import { MNT_EXPIRE } from "../syscalls/constants.ts";
import { umount2 } from "../syscalls/mod.ts";
import { Deadline, type UnmountOptions } from "./deadline.ts";
import { runInNamespace } from "../namespace/mount.ts";
import { resolveTopMount, unmountRetrying, unmountStacked } from "./retry.ts";

/**
 * Unmounts the topmost mount of a target. A busy mount is retried every 50 ms; a path that is not a mountpoint is not an
 * error.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN. A FUSE mount can be unmounted by its owner without CAP_SYS_ADMIN, through
 * fusermount3, with the permission `run`.
 *
 * @param target the mountpoint; symbolic links are followed unless `noFollow` is set.
 * @param options how to unmount.
 * @throws {SyscallError} EBUSY if the mount is still busy at the timeout; ETIMEDOUT if a server does not answer; ENOENT if
 * the path does not exist; EPERM without the capability; EINVAL if the mount is locked in a user namespace.
 * @throws {TypeError} if `timeout` is not a number of milliseconds, or `expire` is combined with `detach` or `force`.
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
  if (options.namespace !== undefined) {
    const { namespace, ...rest } = options;
    return await runInNamespace(namespace, () => unmount(target, rest));
  }
  const deadline = new Deadline(options);
  if (deadline.flags & MNT_EXPIRE) return await expire(target, deadline);
  const top = resolveTopMount(target, deadline);
  await unmountRetrying(target, deadline, top instanceof Promise ? await top : top);
}

/**
 * Unmounts every mount that is stacked on a target. `""`, a path that does not exist and a path that is not a mountpoint
 * are not an error.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN, with the same exception for FUSE as {@linkcode unmount}.
 *
 * @param target the mountpoint; symbolic links are followed unless `noFollow` is set.
 * @param options how to unmount; the timeout is for all mounts together.
 * @throws {SyscallError} as {@linkcode unmount} does, except ENOENT.
 * @throws {TypeError} as {@linkcode unmount} does.
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
  if (options.namespace !== undefined) {
    const { namespace, ...rest } = options;
    return await runInNamespace(namespace, () => unmountAll(target, rest));
  }
  const deadline = new Deadline(options);
  const top = resolveTopMount(target, deadline);
  await unmountStacked(target, deadline, top instanceof Promise ? await top : top);
}

/**
 * umount2(2) with MNT_EXPIRE on a private thread, whose errno is not lost. No other call may look at the path before: that
 * would clear the mark of the first call, and the second would not unmount.
 */
async function expire(target: string, deadline: Deadline): Promise<void> {
  const { flags } = deadline;
  if (isRedirected()) return umount2(target, flags); // the thread in the other namespace makes the call
  const call = { name: "umount2", args: [cString(target), flags], path: target } as const;
  await withTimeout(onPrivateThread([call]), deadline, "umount2", target);
}
