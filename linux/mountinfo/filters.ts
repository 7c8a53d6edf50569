/**
 * Filters for `listMounts()`, with the names of the Go package moby/sys/mountinfo.
 *
 * @module
 */

import type { MountFilter, MountInfo } from "./parse_mountinfo.ts";

/**
 * Selects the mounts at a path and below it.
 *
 * @param prefix a canonical path.
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { listMounts, prefixFilter } from "@denomount/mount";
 *
 * console.log((await listMounts({ filter: prefixFilter("/proc") })).length);
 * ```
 */
export function prefixFilter(prefix: string): (info: Pick<MountInfo, "mountpoint">) => { skip: boolean } {
  const below = prefix.endsWith("/") ? prefix : prefix + "/";
  const at = below === "/" ? "/" : below.slice(0, -1);
  return ({ mountpoint }) => ({ skip: mountpoint !== at && !mountpoint.startsWith(below) });
}

/**
 * Selects the mounts at a path and at each of its parent directories.
 *
 * @param path a canonical path.
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { listMounts, parentsFilter } from "@denomount/mount";
 *
 * console.log(await listMounts({ filter: parentsFilter("/proc/self") }));
 * ```
 */
export function parentsFilter(path: string): MountFilter {
  const inside = path.endsWith("/") ? path : path + "/";
  return ({ mountpoint }) => ({
    skip: !inside.startsWith(mountpoint.endsWith("/") ? mountpoint : mountpoint + "/"),
  });
}

/**
 * Selects the first mount at a mountpoint, and ends the reading.
 *
 * @param mountpoint a canonical path.
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { listMounts, singleEntryFilter } from "@denomount/mount";
 *
 * const [proc] = await listMounts({ filter: singleEntryFilter("/proc") });
 * ```
 */
export function singleEntryFilter(mountpoint: string): MountFilter {
  return (info) => info.mountpoint === mountpoint ? { stop: true } : { skip: true };
}

/**
 * Selects the mounts of file systems by type.
 *
 * @param types the types, such as "overlay".
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { fsTypeFilter, listMounts } from "@denomount/mount";
 *
 * console.log(await listMounts({ filter: fsTypeFilter("overlay", "tmpfs") }));
 * ```
 */
export function fsTypeFilter(...types: string[]): MountFilter {
  return ({ fsType }) => ({ skip: !types.includes(fsType) });
}
