/**
 * Mounts for the length of a call, at a temporary directory.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type Mount, readonlyMounts, removeVolatileOption } from "../spec/mount.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { planMounts } from "../spec/plan.ts";
import { ensureTempLocation, TempDirectory } from "../temp/temp_directory.ts";
import { unmountRecursive } from "../unmount/recursive.ts";
import { executePlans } from "./execute.ts";
import { AttachedMounts } from "./handle.ts";

/**
 * Mounts a list at a temporary directory, calls a function, and unmounts everything, also if the function throws. An
 * overlay's option `volatile` is left out, because the kernel refuses to mount the same upper directory again after it.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN.
 *
 * @param mounts the mounts; they are not changed.
 * @param fn gets the directory.
 * @param wait the timeout and the signal of the mounting, as for `mountAll`.
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
  wait: WaitOptions = {},
): Promise<T> {
  checkWait(wait);
  await ensureTempLocation(wait);
  using directory = new TempDirectory();
  const plans = planMounts(removeVolatileOption(mounts), directory.root);
  const handle = new AttachedMounts(directory.root, await executePlans(plans, directory.root, wait));
  await using _ = { [Symbol.asyncDispose]: () => unmountOrAbandon(handle, directory) };
  return await fn(directory.root);
}

/** The directory is this call's own: whatever is mounted in it is unmounted, also what the function has mounted. */
async function unmountOrAbandon(handle: AttachedMounts, directory: TempDirectory): Promise<void> {
  try {
    await handle.unmount({ timeout: 0 }).catch((error) => {
      if (!isErrno(error, "EBUSY", "ETIMEDOUT")) throw error; // tried again below, with all the time there is
    });
    handle.removeDirectories();
    if (directory.tryRemoveRoot()) return;
    await unmountRecursive(directory.root);
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
 * @param wait the timeout and the signal of the mounting, as for `mountAll`.
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
  wait: WaitOptions = {},
): Promise<T> {
  return withTempMount(readonlyMounts(mounts), fn, wait);
}
