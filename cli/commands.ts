/**
 * What each of the command's verbs does.
 *
 * @module
 */

import {
  createUserNamespace,
  explain,
  type IdMapAttributes,
  idMapMount,
  lookupMount,
  mountAll,
  unmount,
  unmountAll,
  unmountMounts,
  type UnmountOptions,
  unmountRecursive,
} from "../mod.ts";
import { readMounts } from "./mounts_file.ts";
import { ofProcess } from "./namespace.ts";
import { dim } from "./deps.ts";
import { escapeControl, mountLines, print } from "./print.ts";
import { withProgress } from "./progress.ts";
import { DeferredSignals } from "./signals.ts";

/**
 * Mounts a list and leaves it mounted. On Ctrl-C all of it comes off again.
 *
 * @param file the list's file, or "-".
 * @param target the directory to mount under.
 * @param flags the process whose mount namespace that is in.
 * @returns the exit status.
 */
export async function up(file: string, target: string, flags: { namespace?: number }): Promise<number> {
  const mounts = await readMounts(file);
  using signals = new DeferredSignals();
  const stack = await withProgress(`mounting on ${escapeControl(target)}`, mountAll(mounts, target, flags));
  const status = await signals.status();
  if (status !== undefined) {
    await stack.unmount();
    return status;
  }
  for (const mountpoint of stack.mountpoints) print(escapeControl(mountpoint));
  return 0;
}

/**
 * Takes a list off again.
 *
 * @param file the list's file, or "-".
 * @param target the directory that it is under.
 * @param options how to unmount.
 * @returns the exit status.
 */
export async function down(file: string, target: string, options: CommandOptions): Promise<number> {
  const mounts = await readMounts(file);
  const work = () =>
    withProgress(`unmounting ${escapeControl(target)}`, unmountMounts(mounts, target, options));
  await ofProcess(options.namespace, work);
  return 0;
}

/** How the command unmounts. */
export interface CommandOptions extends UnmountOptions {
  /** The process whose mount namespace the target is in. */
  namespace?: number;
}

/** What `umount` does with each target. */
export interface UmountFlags extends CommandOptions {
  /** Every mount that is stacked on it. */
  all?: boolean;
  /** Everything below it too. */
  recursive?: boolean;
  /** MNT_DETACH. */
  lazy?: boolean;
}

/**
 * Unmounts targets.
 *
 * @param targets their paths.
 * @param flags how.
 * @returns the exit status.
 */
export async function umount(targets: readonly string[], flags: UmountFlags): Promise<number> {
  const { all, recursive, lazy, ...rest } = flags;
  const options: CommandOptions = { ...rest, ...(lazy ? { detach: true } : {}) };
  const take = recursive ? unmountRecursive : all ? unmountAll : unmount;
  for (const target of targets) {
    const work = () => withProgress(`unmounting ${escapeControl(target)}`, take(target, options));
    await ofProcess(options.namespace, work);
  }
  return 0;
}

/**
 * Prints the mount that a path is on.
 *
 * @param path the path.
 * @param flags as JSON.
 * @returns the exit status.
 */
export async function lookup(path: string, flags: { json?: boolean }): Promise<number> {
  const info = await lookupMount(path);
  print(flags.json ? JSON.stringify(info, null, 2) : mountLines(info));
  return 0;
}

/**
 * Mounts a directory or file at another place with its owners mapped.
 *
 * @param source what is mounted.
 * @param target the mountpoint.
 * @param flags the maps, and what else the mount is to be.
 * @returns the exit status.
 */
export async function idmap(
  source: string,
  target: string,
  { uid, gid, ...attributes }: IdMapAttributes & { uid: string; gid?: string },
): Promise<number> {
  using userns = await createUserNamespace(uid, gid ?? uid);
  await idMapMount(source, target, userns, attributes);
  return 0;
}

/**
 * Prints what mounting a list would do, without doing it.
 *
 * @param file the list's file, or "-".
 * @param target the directory to mount under.
 * @param flags as JSON.
 * @returns the exit status.
 */
export async function explainList(file: string, target: string, flags: { json?: true }): Promise<number> {
  const steps = explain(await readMounts(file), target);
  if (flags.json) print(JSON.stringify(steps, null, 2));
  else {for (const step of steps) {
      print(`${escapeControl(`${step.call}(${step.arguments})`)}  ${dim(`// ${step.purpose}`)}`);
    }}
  return 0;
}
