/**
 * Many mounts by statmount(2), in steps.
 *
 * @module
 */

import { Steps } from "../path/steps.ts";
import { statmountMany } from "../syscalls/mod.ts";
import { MOUNT_FIELDS, mountInfoOf } from "./from_statmount.ts";
import type { MountInfo } from "./parse_mountinfo.ts";

const CHUNK = 64; // mounts, which take 0.2 ms

/** A mount, and its unique id. */
export interface IdentifiedMount {
  /** The unique id. */
  readonly mountId: number;
  /** The mount; its mountpoint is "" if it is outside of this process's root. */
  readonly mount: MountInfo;
}

/**
 * Reads mounts by their unique ids. The event loop runs meanwhile.
 *
 * Needs the permission `ffi` and Linux 6.13.
 *
 * @param ids the ids.
 * @param options the id of their mount namespace, and the fields to read; others are "" and 0.
 * @returns the mounts in the order of the ids, without those that were unmounted meanwhile.
 */
export async function* readMounts(
  ids: readonly number[],
  { namespaceId = 0n, fields = MOUNT_FIELDS } = {},
): AsyncGenerator<IdentifiedMount[]> {
  const steps = new Steps();
  for (let at = 0; at < ids.length; at += CHUNK) {
    yield readChunk(ids.slice(at, at + CHUNK), namespaceId, fields);
    if (steps.isOver) await steps.next();
  }
}

function readChunk(ids: readonly number[], namespaceId: bigint, fields: number): IdentifiedMount[] {
  return statmountMany(ids, fields, namespaceId).flatMap((found, index) => {
    const mountId = ids[index];
    if (found === undefined || mountId === undefined) return [];
    return [{ mountId, mount: mountInfoOf(found, BigInt(mountId), namespaceId) }];
  });
}
