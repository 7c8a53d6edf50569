/**
 * A second mount that can be id-mapped, for tests that need more than one file system.
 *
 * @module
 */

import { mount, type MountHandle } from "../mod.ts";
import { kernelHas } from "./feature.ts";

/**
 * Mounts a file system that can be id-mapped on a directory: a tmpfs, or before Linux 6.3 a bind of the directory itself.
 *
 * @param directory the directory.
 * @returns the mount.
 */
export function otherMount(directory: string): Promise<MountHandle> {
  if (kernelHas("mappedTmpfs")) return mount({ type: "tmpfs", source: "other" }, directory);
  return mount({ type: "bind", source: directory, options: ["bind"] }, directory);
}
