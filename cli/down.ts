/**
 * `denomount down`: unmounts what `denomount up` has mounted.
 *
 * @module
 */

import type { UnmountOptions } from "../linux/unmount/deadline.ts";
import { unmountMounts } from "../linux/unmount/mounts.ts";
import type { ManagerFlags } from "./manager.ts";
import { readMounts } from "./mounts_file.ts";
import { withNamespaceErrors } from "./namespace.ts";
import { needsManager } from "./needs_manager.ts";
import { escapeControl } from "./print.ts";
import { withProgress } from "./progress.ts";

/** The options of `down`. */
export interface DownFlags extends UnmountOptions, ManagerFlags {
  /** The process whose mount namespace contains the target. */
  namespace?: number;
}

/**
 * Unmounts a list, and deactivates it if `up` has activated it.
 *
 * @param file the list's file, or "-".
 * @param target the directory that the list is mounted under.
 * @param flags how to unmount, and the manager of a list that needs one.
 * @returns the exit status.
 */
export async function down(
  file: string,
  target: string,
  { root, allowDir, ...options }: DownFlags,
): Promise<number> {
  const mounts = await readMounts(file);
  const place = { ...root === undefined ? {} : { root }, ...allowDir === undefined ? {} : { allowDir } };
  const work = async () => {
    if (!needsManager(mounts)) return await unmountMounts(mounts, target, options);
    const { downManaged } = await import("./managed_list.ts");
    await downManaged(mounts, target, options, place);
  };
  await withNamespaceErrors(
    options.namespace,
    () => withProgress(`unmounting ${escapeControl(target)}`, work()),
  );
  return 0;
}
