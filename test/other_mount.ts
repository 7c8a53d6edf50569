/**
 * Mounts for tests that need more than one.
 *
 * @module
 */

import { mount, type MountHandle } from "../mod.ts";
import { kernelHas } from "./feature.ts";

/**
 * Mounts something else on a directory that can be id-mapped: a tmpfs, or before Linux 6.3 the directory once more.
 *
 * @param directory the directory.
 * @returns the mount.
 */
export function otherMount(directory: string): Promise<MountHandle> {
  if (kernelHas("mappedTmpfs")) return mount({ type: "tmpfs", source: "other" }, directory);
  return mount({ type: "bind", source: directory, options: ["bind"] }, directory);
}
