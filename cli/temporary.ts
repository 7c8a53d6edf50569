/**
 * Temporary mounts, unmounted when the command exits.
 *
 * @module
 */

import { type Mount, mountAll, type MountHandle } from "../mod.ts";
import { isErrno } from "../linux/mod.ts";
import { ensureTempLocation, TempDirectory } from "../linux/temp/temp_directory.ts";
import { holderLines } from "./errors.ts";
import { type ManagerFlags, openManager } from "./manager.ts";
import { needsManager } from "./needs_manager.ts";
import { escapeControl, printError } from "./print.ts";
import { withProgress } from "./progress.ts";
import { DeferredSignals } from "./signals.ts";

/**
 * Mounts a list at a temporary directory, calls a function unless a signal arrived meanwhile, and unmounts the list.
 *
 * @param mounts the list.
 * @param lazy whether to detach the mounts at once (MNT_DETACH); otherwise only if they are busy.
 * @param place where the manager keeps its mounts, for a list that needs it.
 * @param work called with the directory; returns the exit status.
 * @returns the exit status of the function, or of the signal if the function was not called.
 */
export async function withTempMountOrSignal(
  mounts: readonly Mount[],
  lazy: boolean,
  place: ManagerFlags,
  work: (root: string) => Promise<number>,
): Promise<number> {
  using signals = new DeferredSignals();
  await using manager = needsManager(mounts) ? await openManager(place) : undefined;
  await ensureTempLocation({});
  using directory = new TempDirectory();
  const handle = await signals.abortable<MountHandle>((signal) =>
    withProgress("mounting", mountAll(mounts, directory.root, { manager, signal }))
  );
  await using _mounts = handle === undefined ? undefined : unmountOnDispose(handle, lazy);
  return await signals.status() ?? await work(directory.root);
}

/** Unmounts at the end of the scope. Detaches the mounts if a process that the command left running still uses them. */
function unmountOnDispose(handle: MountHandle, lazy: boolean): AsyncDisposable {
  return { [Symbol.asyncDispose]: () => unmountOrDetach(handle, lazy) };
}

async function unmountOrDetach(handle: MountHandle, lazy: boolean): Promise<void> {
  if (lazy) return await handle.unmount({ detach: true });
  try {
    await withProgress(`unmounting ${escapeControl(handle.target)}`, handle.unmount());
  } catch (error) {
    if (!isErrno(error, "EBUSY")) throw error;
    await handle.unmount({ detach: true });
    const message = `denomount: still used by a process, unmounted when it exits: ${
      escapeControl(error.path ?? "")
    }`;
    printError([message, ...holderLines(error)].join("\n"));
  }
}
