/**
 * Which lists need the mount manager, which loads a database.
 *
 * @module
 */

import type { Mount } from "../linux/spec/mount.ts";
import { isManagerType } from "../linux/spec/needs_manager.ts";
import { splitOptions } from "../linux/spec/split_options.ts";

/**
 * Whether a list has to be activated before it can be mounted.
 *
 * @param mounts the list.
 * @returns true if one of its types or options is for a mount manager.
 */
export function needsManager(mounts: readonly Mount[]): boolean {
  return mounts.some(({ type, options = [] }) =>
    isManagerType(type) || options.flatMap(splitOptions).some((option) => option.startsWith("X-containerd."))
  );
}
