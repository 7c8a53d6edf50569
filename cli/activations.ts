/**
 * `denomount activate`, `deactivate`, `activations` and `sync`: the mount manager.
 *
 * @module
 */

import type { ActivateOptions, Activation } from "../linux/manager/types.ts";
import { bold, dim, yellow } from "./deps.ts";
import { managerExists, type ManagerFlags, managerRoot, openManager } from "./manager.ts";
import { readMounts } from "./mounts_file.ts";
import { columns, escapeControl, print, printOrUndo } from "./print.ts";
import { withProgress } from "./progress.ts";
import { DeferredSignals } from "./signals.ts";

/**
 * Activates a list and prints what remains to be mounted. Undoes it if a signal arrives meanwhile, or if the list can't be
 * printed.
 *
 * @param name the name of the activation.
 * @param file the list's file, or "-".
 * @param flags the labels, whether to mount everything, and where the manager keeps its mounts.
 * @returns the exit status.
 */
export async function activate(
  name: string,
  file: string,
  { label, temporary, ...place }: ManagerFlags & { label?: Record<string, string>; temporary?: true },
): Promise<number> {
  const mounts = await readMounts(file);
  await using manager = await openManager(place);
  using signals = new DeferredSignals();
  const options: ActivateOptions = { labels: label ?? {}, temporary: temporary ?? false };
  const activation = await signals.abortable((signal) =>
    withProgress(`activating ${escapeControl(name)}`, manager.activate(name, mounts, { ...options, signal }))
  );
  const status = await signals.status();
  if (status !== undefined) {
    if (activation !== undefined) await manager.deactivate(name);
    return status;
  }
  await printOrUndo([JSON.stringify(activation?.system)], () => manager.deactivate(name));
  return 0;
}

/** The options of `deactivate`. */
export interface DeactivateFlags extends ManagerFlags {
  /** MNT_DETACH. */
  lazy?: true;
  /** MNT_FORCE. */
  force?: true;
  /** How long to retry while a mount is busy, in milliseconds. */
  timeout?: number;
}

/**
 * Deactivates an activation.
 *
 * @param name its name.
 * @param flags how to unmount, and where the manager keeps its mounts.
 * @returns the exit status.
 */
export async function deactivate(
  name: string,
  { root, lazy, ...options }: DeactivateFlags,
): Promise<number> {
  await using manager = await openManager(root === undefined ? {} : { root });
  const work = manager.deactivate(name, { ...options, ...lazy ? { detach: true } : {} });
  await withProgress(`deactivating ${escapeControl(name)}`, work);
  return 0;
}

/** The options of `activations`. */
export interface ActivationsFlags {
  /** The directory of the manager. */
  root?: string;
  /** Labels that an activation must have. */
  label?: Record<string, string>;
  /** Prints JSON. */
  json?: true;
  /** Prints the names only. */
  names?: true;
}

/**
 * Prints the activations.
 *
 * @param flags which, and how.
 * @returns the exit status.
 */
export async function activations({ json, names, ...flags }: ActivationsFlags): Promise<number> {
  const found = await findActivations(flags);
  if (json) print(JSON.stringify(found, null, 2));
  else if (!names) print(await columns(["NAME", "STATE", "MOUNTS", "LABELS"], found.map(row)));
  else for (const { name } of found) print(escapeControl(name));
  return 0;
}

/** Makes no directory and no record where there is none. */
async function findActivations({ root: given, label }: ActivationsFlags): Promise<Activation[]> {
  const root = managerRoot(given);
  if (!await managerExists(root)) return [];
  await using manager = await openManager({ root });
  return await Array.fromAsync(manager.list(label === undefined ? {} : { labels: label }));
}

function row({ name, active, labels, lost }: Activation): string[] {
  const texts = Object.entries(labels).map(([key, value]) => escapeControl(`${key}=${value}`));
  return [
    bold(escapeControl(name)),
    lost ? yellow("lost") : "active",
    `${active.length}`,
    texts.length > 0 ? dim(texts.join(" ")) : "",
  ];
}

/**
 * Makes the record and the mounts agree, and prints what it has found.
 *
 * @param flags where the manager keeps its mounts, and where it may have made files.
 * @returns the exit status.
 */
export async function sync(flags: ManagerFlags): Promise<number> {
  if (!await managerExists(managerRoot(flags.root))) return 0;
  await using manager = await openManager(flags);
  const { removed, lost } = await withProgress("comparing the record with the mounts", manager.sync());
  for (const name of removed) print(`removed ${escapeControl(name)}`);
  for (const name of lost) print(`lost ${escapeControl(name)}`);
  return 0;
}
