/**
 * What a remount of an overlay asks to change: the kernel can't change its layers and features, and a remount that
 * repeats them is fine.
 *
 * @module
 */

import { type OverlayOptions, parseOverlayOptions } from "./overlay_options.ts";

/**
 * The options of a remount that differ from those of the mounted overlay.
 *
 * @param wanted the remount's options, one to an entry.
 * @param current the overlay's, as the mount table shows them.
 * @returns those that the kernel is asked to change, and refuses.
 */
export function changedOverlayOptions(wanted: readonly string[], current: readonly string[]): string[] {
  const now = parseOverlayOptions(current);
  return wanted.filter((option) => !isStated(option, now));
}

function isStated(option: string, now: OverlayOptions): boolean {
  const { lower, dataOnly, upper, work, rest } = parseOverlayOptions([option]);
  if (rest.length > 0) return rest.every((word) => now.rest.includes(word));
  if (upper !== undefined) return upper === now.upper;
  if (work !== undefined) return work === now.work;
  return same(lower, now.lower) && same(dataOnly, now.dataOnly);
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((path, index) => path === b[index]);
}
