/**
 * What is remembered of a mount for its unmounting.
 *
 * @module
 */

import { isPeerTree, isTree } from "../filesystem/bind.ts";
import { isUnmountedAtOnce } from "../filesystem/kinds.ts";
import type { StatxMount } from "../mountinfo/statx_mount.ts";
import type { NewMountPlan } from "../spec/plan.ts";
import type { AttachedMount } from "../unmount/own.ts";

/**
 * What is remembered of a mount.
 *
 * @param plan what it was made from.
 * @param mountpoint its mountpoint.
 * @param mount its ids.
 * @returns what unmounting it needs.
 */
export function attachedMount(
  plan: NewMountPlan,
  mountpoint: string,
  { mountId: id, isUnique, device }: StatxMount,
): AttachedMount {
  return {
    mountpoint,
    isTree: isTree(plan),
    isPeer: isPeerTree(plan),
    id,
    isUnique,
    device,
    isImmediate: isUnmountedAtOnce(plan),
  };
}
