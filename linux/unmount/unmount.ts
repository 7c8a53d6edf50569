/**
 * Unmounting what is mounted on a path.
 *
 * @module
 */

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
