/**
 * `denomount up`: a list that stays mounted.
 *
 * @module
 */

import { mountAll, type MountHandle, type MountOptions } from "../linux/mount/mount.ts";
import type { ManagerFlags } from "./manager.ts";
import { readMounts } from "./mounts_file.ts";
import { needsManager } from "./needs_manager.ts";
import { escapeControl, printOrUndo } from "./print.ts";
import { withProgress } from "./progress.ts";
import { DeferredSignals } from "./signals.ts";

/** The options of `up`. */
export interface UpFlags extends ManagerFlags {
  /** The process whose mount namespace contains the target. */
  namespace?: number;
  /** Replaces what is mounted on the mountpoints. */
  replace?: true;
}

/**
 * Mounts a list and leaves it mounted. Unmounts all of it if a signal arrives meanwhile, or if the mountpoints can't be
 * printed.
 *
 * @param file the list's file, or "-".
 * @param target the directory to mount under.
 * @param flags the process whose mount namespace contains the target, whether what is mounted is replaced, and the manager
 * of a list that needs one.
 * @returns the exit status.
 */
export async function up(
  file: string,
  target: string,
  { namespace, replace, ...place }: UpFlags,
): Promise<number> {
  const mounts = await readMounts(file);
  const options: MountOptions = { replace, ...namespace === undefined ? {} : { namespace } };
  const mountWith = (more: MountOptions) =>
    mountAndPrint(target, (signal) => mountAll(mounts, target, { ...options, ...more, signal }), replace);
  if (!needsManager(mounts)) return await mountWith({});
  if (replace) {
    throw new Error(
      'a list for the mount manager can\'t replace another: activate it under a name with "denomount activate", and ' +
        'give the list that this prints to "denomount up --replace"',
    );
  }
  const { withManagedTarget } = await import("./managed_list.ts");
  return await withManagedTarget(target, namespace, place, (manager) => mountWith({ manager }));
}

/**
 * Mounts, and prints the mountpoints. Unmounts everything if a signal arrives meanwhile, or if they can't be printed.
 *
 * @param target the directory to mount under.
 * @param mount mounts until the signal aborts.
 * @param isFinal whether what is mounted stays in any case: what it has replaced can't be mounted again.
 * @returns the exit status.
 */
export async function mountAndPrint(
  target: string,
  mount: (signal: AbortSignal) => Promise<MountHandle>,
  isFinal = false,
): Promise<number> {
  using signals = new DeferredSignals();
  const handle = await signals.abortable((signal) =>
    withProgress(`mounting on ${escapeControl(target)}`, mount(signal))
  );
  const status = await signals.status();
  const undo = async () => {
    if (!isFinal) await handle?.unmount();
  };
  if (status !== undefined && !(isFinal && handle)) {
    await undo();
    return status;
  }
  await printOrUndo(handle?.mountpoints.map(escapeControl) ?? [], undo);
  return 0;
}
