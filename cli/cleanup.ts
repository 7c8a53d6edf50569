/**
 * `denomount cleanup`: what killed processes have left.
 *
 * @module
 */

import { cleanupTempMounts, leftTempDirectories } from "../linux/temp/temp_directory.ts";
import { errorMessage, holderLines } from "./errors.ts";
import { escapeControl, print, printError } from "./print.ts";
import { withProgress } from "./progress.ts";

/** The options of `cleanup`. */
export interface CleanupFlags {
  /** MNT_DETACH. */
  lazy?: true;
  /** MNT_FORCE. */
  force?: true;
  /** How long to retry while a mount is busy, in milliseconds. */
  timeout?: number;
  /** Prints what would be removed. */
  dryRun?: true;
}

/**
 * Unmounts and removes the temporary mounts that killed processes have left, and prints their directories.
 *
 * @param flags how to unmount.
 * @returns the exit status: 1 if one could not be removed.
 */
export async function cleanup({ lazy, dryRun, ...how }: CleanupFlags): Promise<number> {
  const found = await leftTempDirectories();
  if (dryRun) {
    for (const directory of found) print(escapeControl(directory));
    return 0;
  }
  const options = { ...how, ...lazy ? { detach: true } : {} };
  const errors = await withProgress("unmounting what was left", cleanupTempMounts(options));
  const left = new Set(await leftTempDirectories());
  for (const directory of found) if (!left.has(directory)) print(`removed ${escapeControl(directory)}`);
  for (const error of errors) {
    printError([`denomount: ${escapeControl(errorMessage(error))}`, ...holderLines(error)].join("\n"));
  }
  return errors.length === 0 ? 0 : 1;
}
