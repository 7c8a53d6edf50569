/**
 * `denomount umount`.
 *
 * @module
 */

import type { UnmountOptions } from "../linux/unmount/deadline.ts";
import { unmountRecursive } from "../linux/unmount/recursive.ts";
import { unmount, unmountAll } from "../linux/unmount/unmount.ts";
import { withNamespaceErrors } from "./namespace.ts";
import { escapeControl } from "./print.ts";
import { withProgress } from "./progress.ts";

/** The options of `umount`. */
export interface UmountFlags extends UnmountOptions {
  /** The process whose mount namespace contains the target. */
  namespace?: number;
  /** Unmounts every mount that is stacked on the target. */
  all?: boolean;
  /** Unmounts everything at and below the target. */
  recursive?: boolean;
  /** MNT_DETACH. */
  lazy?: boolean;
}

/**
 * Unmounts targets.
 *
 * @param targets their paths.
 * @param flags how to unmount.
 * @returns the exit status.
 */
export async function umount(targets: readonly string[], flags: UmountFlags): Promise<number> {
  const { all, recursive, lazy, ...rest } = flags;
  const options = { ...rest, ...(lazy ? { detach: true } : {}) };
  const unmountTarget = recursive ? unmountRecursive : all ? unmountAll : unmount;
  for (const target of targets) {
    const work = () => withProgress(`unmounting ${escapeControl(target)}`, unmountTarget(target, options));
    await withNamespaceErrors(options.namespace, work);
  }
  return 0;
}
