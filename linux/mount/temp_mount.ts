/**
 * Mounts for the length of a call, at a directory that goes with them.
 *
 * @module
 */

import { mountAll, type MountHandle } from "./mount.ts";
import { type Mount, readonlyMounts } from "../spec/mount.ts";
import { TempDirectory } from "../temp/temp_directory.ts";

/**
 * Mounts a list at a temporary directory, calls a function, and takes everything off again, whatever happens.
 *
 * @param mounts the mounts; they are not changed.
 * @param fn gets the directory.
 * @returns what the function returns.
 * @throws {MountError} as `mountAll` does; else what the function throws.
 * @throws {SyscallError} where a mount does not come off: it is left to `cleanupTempMounts`.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN.
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
): Promise<T> {
  using place = new TempDirectory();
  const mounted = await mountAll(mounts, place.root);
  await using _ = { [Symbol.asyncDispose]: () => takeOff(mounted, place) };
  return await fn(place.root);
}

async function takeOff(mounted: MountHandle, place: TempDirectory): Promise<void> {
  try {
    await mounted.unmount();
  } catch (error) {
    place.abandon(); // its directory can't go either, and why it can't is known already
    throw error;
  }
}

/**
 * As {@linkcode withTempMount}, with the mounts made read-only.
 *
 * @param mounts the mounts; they are not changed.
 * @param fn gets the directory.
 * @returns what the function returns.
 * @throws {MountError} as `mountAll` does; else what the function throws.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN.
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
): Promise<T> {
  return withTempMount(readonlyMounts(mounts), fn);
}
