/**
 * Many mounts by statmount(2), in steps.
 *
 * @module
 */

import { statmountMany } from "../syscalls/mod.ts";
import { MOUNT_FIELDS, mountInfoOf } from "./from_statmount.ts";
import type { MountInfo } from "./parse_mountinfo.ts";

const CHUNK = 64; // mounts, which take 0.2 ms

/**
 * Reads mounts by their unique ids, in steps.
 *
 * Needs the permission `ffi` and Linux 6.13.
 *
 * @param ids the ids.
 * @param take gets each mount, in the order of the ids, and its id; undefined for one that was unmounted meanwhile. It
 * returns true to end the reading.
 * @param options the id of their mount namespace, and the fields to read; others are "" and 0.
 */
export function* readMounts(
  ids: readonly number[],
  take: (mount: MountInfo | undefined, mountId: number) => boolean | void,
  { namespaceId = 0n, fields = MOUNT_FIELDS } = {},
): Generator<void, void> {
  for (let at = 0; at < ids.length; at += CHUNK) {
    const chunk = ids.slice(at, at + CHUNK);
    for (const [index, found] of statmountMany(chunk, fields, namespaceId).entries()) {
      const id = chunk[index] ?? 0;
      if (take(found && mountInfoOf(found, BigInt(id), namespaceId), id)) return;
    }
    yield;
  }
}
