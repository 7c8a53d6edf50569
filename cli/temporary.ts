/**
 * Temporary mounts of the command's: gone when it ends, whoever uses them.
 *
 * @module
 */

import { type Mount, mountAll, type MountHandle } from "../mod.ts";
import { isErrno } from "../linux/mod.ts";
import { TempDirectory } from "../linux/temp/temp_directory.ts";
import { escapeControl, printError } from "./print.ts";
import { withProgress } from "./progress.ts";
import { DeferredSignals } from "./signals.ts";

/**
 * Mounts a list at a temporary directory and calls a function, unless a signal came meanwhile. Then everything comes off.
 *
 * @param mounts the list.
 * @param lazy whether it comes off at once, however busy; else it is tried first without.
 * @param work gets the directory; returns the exit status.
 * @returns the exit status; that of the signal, if the function was not called.
 */
export async function withTempMountOrSignal(
  mounts: readonly Mount[],
  lazy: boolean,
  work: (root: string) => Promise<number>,
): Promise<number> {
  using signals = new DeferredSignals();
  using place = new TempDirectory();
  await using _mounted = unmountOnDispose(await withProgress("mounting", mountAll(mounts, place.root)), lazy);
  return await signals.status() ?? await work(place.root);
}

/**
 * Takes mounts off at the end of a scope. Those that are still in use, by a process that the command has left running,
 * are taken out of sight, and end when nobody uses them any more.
 *
 * @param mounted the mounts.
 * @param lazy whether this is done without trying anything else.
 * @returns what is disposed of.
 */
export function unmountOnDispose(mounted: MountHandle, lazy: boolean): AsyncDisposable {
  return { [Symbol.asyncDispose]: () => takeOff(mounted, lazy) };
}

async function takeOff(mounted: MountHandle, lazy: boolean): Promise<void> {
  if (lazy) return await mounted.unmount({ detach: true });
  try {
    await withProgress(`unmounting ${escapeControl(mounted.target)}`, mounted.unmount());
  } catch (error) {
    if (!isErrno(error, "EBUSY")) throw error;
    await mounted.unmount({ detach: true });
    printError(
      `denomount: still used by a process, and gone when that ends: ${escapeControl(error.path ?? "")}`,
    );
  }
}
