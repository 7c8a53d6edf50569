/**
 * The calls of mount_setattr(2) that a mount's attributes take, as data: made by the kinds of mounts, printed by
 * `explain()`.
 *
 * @module
 */

import type { AttributeChange } from "./options.ts";

/** One call of mount_setattr(2). */
export interface SetattrStep {
  /** Whether it changes the mounts below too (AT_RECURSIVE). */
  readonly recursive: boolean;
  /** `MOUNT_ATTR_…` to set. */
  readonly set: number;
  /** `MOUNT_ATTR_…` to clear. */
  readonly clear: number;
  /** Whether it gives the mount its id map. */
  readonly isMapped: boolean;
}

const NONE: readonly SetattrStep[] = [];

/**
 * Whether there is anything to set or to clear.
 *
 * @param change the attributes.
 * @returns false for none.
 */
export function hasChanges({ set, clear }: AttributeChange): boolean {
  return set !== 0 || clear !== 0;
}

/**
 * The calls that give a mount its attributes.
 *
 * @param plan the attributes of the mount, and those of the whole tree.
 * @param isTree whether there can be mounts below it.
 * @param isMapped whether it gets an id map.
 * @returns the calls, in their order; the mount's own attributes have the last word over the tree's.
 */
export function setattrSteps(
  plan: { attributes: AttributeChange; recursiveAttributes: AttributeChange },
  isTree: boolean,
  isMapped: boolean,
): readonly SetattrStep[] {
  const { attributes, recursiveAttributes } = plan;
  const isOwn = hasChanges(attributes);
  const isRecursive = hasChanges(recursiveAttributes);
  if (!isOwn && !isRecursive && !isMapped) return NONE;
  if (!isTree) {
    const set = recursiveAttributes.set & ~attributes.clear | attributes.set;
    const clear = recursiveAttributes.clear & ~attributes.set | attributes.clear;
    return [{ recursive: false, set, clear, isMapped }];
  }
  const steps: SetattrStep[] = [];
  if (isRecursive || isMapped) steps.push({ recursive: true, ...recursiveAttributes, isMapped });
  if (isOwn) steps.push({ recursive: false, ...attributes, isMapped: false });
  return steps;
}
