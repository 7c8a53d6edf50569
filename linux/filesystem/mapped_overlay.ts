/**
 * How the lower layers of an id-mapped overlay are mapped, for `explain()`.
 *
 * @module
 */

import { commonDirectory, join } from "../path/path.ts";
import { type Call, call, quoted, setattrCall } from "../spec/call.ts";
import type { OverlayPlan } from "../spec/plan.ts";
import { MOUNT_ATTR_RDONLY, MS_PRIVATE } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";

/**
 * Whether overlay takes layers of detached mounts as descriptors.
 *
 * @returns false before Linux 6.15: the mapped layers are attached at temporary places while the overlay is made.
 */
export function usesDetachedLayers(): boolean {
  // mount(2) takes no descriptors, and would mount the layers without their id map.
  return hasFeature("mountApi") && hasFeature("overlayLayers") && hasFeature("detachedLayers");
}

/**
 * The lower layers that an id map applies to.
 *
 * @param plan the overlay.
 * @returns their paths, in their order.
 */
export function mappedLayersOf({ layers, unmapped }: OverlayPlan): string[] {
  const lower = [...layers.lower, ...layers.dataOnly];
  return unmapped.length === 0 ? lower : lower.filter((path) => !unmapped.includes(path));
}

/**
 * Describes how the lower layers are mapped, if all of them are on one mount; else each is cloned and mapped alone.
 *
 * @param plan the overlay.
 * @returns the calls before the overlay is made, those after, and whether the mapped layers stay detached.
 */
export function describeMappedLayers(
  plan: OverlayPlan,
): { before: Call[]; after: Call[]; isDetached: boolean } {
  const isDetached = usesDetachedLayers();
  const change = { set: MOUNT_ATTR_RDONLY, clear: 0 };
  const common = commonDirectory(mappedLayersOf(plan).map((path) => join("/", path)));
  const place = quoted("…/denomount-XXXXXX/root");
  const before = [
    call("open_tree", ["AT_FDCWD", quoted(common), "OPEN_TREE_CLONE"], "clone the layers' common directory"),
    setattrCall({ mount: "tree", change, isMapped: true, propagation: MS_PRIVATE }, "map its ids"),
  ];
  if (isDetached) return { before, after: [], isDetached };
  return {
    before: [...before, call("move_mount", ["tree", place], "attach it while the overlay is made")],
    after: [call("umount2", [place, "0"], "the overlay has clones of its layers")],
    isDetached,
  };
}
