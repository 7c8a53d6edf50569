/**
 * Mounts for the length of a call, at a temporary directory.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type Mount, readonlyMounts, removeVolatileOption } from "../spec/mount.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { ensureTempLocation, TempDirectory } from "../temp/temp_directory.ts";
import { unmountRecursive } from "../unmount/recursive.ts";
import type { UserNamespace } from "../namespace/open_user.ts";
import type { AttachedMounts } from "./handle.ts";
import { mountAttached } from "./mount.ts";

/** How a temporary mount is made and unmounted. */
export interface TempMountOptions extends WaitOptions {
  /**
   * A user namespace whose id maps the new mounts get, as for `mountAll`: a pid, the path of a namespace file, or a
   * descriptor.
   */
  userNamespace?: UserNamespace | undefined;
  /** Detaches what is still in use when the function has returned, instead of failing: its users keep it. */
  detach?: boolean | undefined;
}

/**
 * Mounts a list at a temporary directory, calls a function, and unmounts everything, also if the function throws. An
 * overlay's option `volatile` is left out, because the kernel refuses to mount the same upper directory again after it.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN.
 *
 * @param mounts the mounts; they are not changed.
 * @param fn gets the directory.
 * @param options the timeout and the signal of the mounting, in milliseconds as for `mountAll`; id maps; what happens to a
 * mount that is in use at the end.
 * @returns what the function returns.
 * @throws {MountError} as `mountAll` does; else what the function throws.
 * @throws {SyscallError} if a mount can't be unmounted: it is left to `cleanupTempMounts`.
 *
 * @example
 * ```ts
 * import { withTempMount } from "@denomount/mount";
 *
 * const overlay = { type: "overlay", source: "overlay", options: ["lowerdir=/usr:/etc"] };
 * await withTempMount([overlay], (root) => Deno.stat(`${root}/hostname`));
 * ```
 */
export async function withTempMount<T>(
  mounts: readonly Mount[],
  fn: (root: string) => T | Promise<T>,
  options: TempMountOptions = {},
): Promise<T> {
  const { detach = false, userNamespace, ...wait } = options;
  checkWait(wait);
  await ensureTempLocation(wait);
  using directory = new TempDirectory();
  const handle = await mountAttached(removeVolatileOption(mounts), directory.root, {
    ...wait,
    userNamespace,
  });
  await using _ = { [Symbol.asyncDispose]: () => unmountOrAbandon(handle, directory, detach) };
  return await fn(directory.root);
}

/** The directory is this call's own: whatever is mounted in it is unmounted, also what the function has mounted. */
async function unmountOrAbandon(
  handle: AttachedMounts,
  directory: TempDirectory,
  detach: boolean,
): Promise<void> {
  try {
    await handle.unmount({ timeout: 0, detach }).catch((error) => {
      if (!isErrno(error, "EBUSY", "ETIMEDOUT")) throw error; // tried again below, with all the time there is
    });
    handle.removeDirectories();
    if (directory.tryRemoveRoot()) return;
    await unmountRecursive(directory.root, { detach });
    handle.removeDirectories(); // those that were mountpoints until now
  } catch (error) {
    directory.abandon(); // it can't be removed while something is mounted on it
    throw error;
  }
}

/**
 * As {@linkcode withTempMount}, with the mounts made read-only.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN.
 *
 * @param mounts the mounts; they are not changed.
 * @param fn gets the directory.
 * @param options the timeout and the signal of the mounting, in milliseconds as for `mountAll`; id maps; what happens to a
 * mount that is in use at the end.
 * @returns what the function returns.
 * @throws {MountError} as `mountAll` does; else what the function throws.
 *
 * @example
 * ```ts
 * import { withReadonlyTempMount } from "@denomount/mount";
 *
 * await withReadonlyTempMount([{ type: "bind", source: "/etc", options: ["rbind"] }], (root) => {
 *   return Deno.readTextFile(`${root}/hostname`);
 * });
 * ```
 */
export function withReadonlyTempMount<T>(
  mounts: readonly Mount[],
  fn: (root: string) => T | Promise<T>,
  options: TempMountOptions = {},
): Promise<T> {
  return withTempMount(readonlyMounts(mounts), fn, options);
}
