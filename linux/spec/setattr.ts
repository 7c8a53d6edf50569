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
  /** `MS_SLAVE`, or 0 to keep the propagation. */
  readonly propagation: number;
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

/** The attributes of a plan: those of the mount, and those of the whole tree. */
export interface PlanAttributes {
  /** Attributes of the mount; they have the last word over the tree's. */
  readonly attributes: AttributeChange;
  /** Attributes of the mount and of every mount below it. */
  readonly recursiveAttributes: AttributeChange;
}

/**
 * The attributes of a mount that has no mounts below it, such as a new file system's.
 *
 * @param plan its attributes.
 * @returns those of the mount and of the tree as one.
 */
export function topAttributes({ attributes, recursiveAttributes }: PlanAttributes): AttributeChange {
  if (!hasChanges(recursiveAttributes)) return attributes;
  return {
    set: recursiveAttributes.set & ~attributes.clear | attributes.set,
    clear: recursiveAttributes.clear & ~attributes.set | attributes.clear,
  };
}

/** Which mounts get an id map. */
export type Mapping = "none" | "top" | "tree";

/**
 * The calls that give a mount its attributes.
 *
 * @param plan the attributes.
 * @param isTree whether there can be mounts below it.
 * @param mapping which mounts get an id map.
 * @param propagation the propagation that every mount of it gets; 0 to keep it.
 * @returns the calls, in their order.
 */
export function setattrSteps(
  plan: PlanAttributes,
  isTree: boolean,
  mapping: Mapping,
  propagation = 0,
): readonly SetattrStep[] {
  const isMapped = mapping !== "none";
  if (!isTree) {
    const change = topAttributes(plan);
    const isNeeded = isMapped || propagation !== 0 || hasChanges(change);
    return isNeeded ? [{ recursive: false, ...change, isMapped, propagation }] : NONE;
  }
  const { attributes, recursiveAttributes } = plan;
  const steps: SetattrStep[] = [];
  if (hasChanges(recursiveAttributes) || mapping === "tree" || propagation !== 0) {
    steps.push({ recursive: true, ...recursiveAttributes, isMapped: mapping === "tree", propagation });
  }
  if (hasChanges(attributes) || mapping === "top") {
    steps.push({ recursive: false, ...attributes, isMapped: mapping === "top", propagation: 0 });
  }
  return steps;
}
