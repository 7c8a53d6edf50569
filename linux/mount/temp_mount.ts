/**
 * Mounts for the length of a call, at a temporary directory.
 *
 * @module
 */

import { type Mount, readonlyMounts, removeVolatileOption } from "../spec/mount.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { ensureTempLocation, TempDirectory } from "../temp/temp_directory.ts";
import { mountAll, type MountHandle } from "./mount.ts";

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
  const mounted = await mountAll(removeVolatileOption(mounts), directory.root, wait);
  await using _ = { [Symbol.asyncDispose]: () => unmountOrAbandon(mounted, directory) };
  return await fn(directory.root);
}

async function unmountOrAbandon(mounted: MountHandle, directory: TempDirectory): Promise<void> {
  try {
    await mounted.unmount();
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
