/**
 * The actions of the subcommands.
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
import { withNamespaceErrors } from "./namespace.ts";
import { dim } from "./deps.ts";
import { escapeControl, mountLines, print, printOrUndo } from "./print.ts";
import { withProgress } from "./progress.ts";
import { DeferredSignals } from "./signals.ts";

/**
 * Mounts a list and leaves it mounted. Unmounts all of it if a signal arrives meanwhile, or if the mountpoints can't be
 * printed.
 *
 * @param file the list's file, or "-".
 * @param target the directory to mount under.
 * @param flags the process whose mount namespace contains the target.
 * @returns the exit status.
 */
export async function up(file: string, target: string, flags: { namespace?: number }): Promise<number> {
  const mounts = await readMounts(file);
  using signals = new DeferredSignals();
  const handle = await withProgress(`mounting on ${escapeControl(target)}`, mountAll(mounts, target, flags));
  const status = await signals.status();
  if (status !== undefined) {
    await handle.unmount();
    return status;
  }
  await printOrUndo(handle.mountpoints.map(escapeControl), () => handle.unmount());
  return 0;
}

/**
 * Unmounts a list.
 *
 * @param file the list's file, or "-".
 * @param target the directory that the list is mounted under.
 * @param options how to unmount.
 * @returns the exit status.
 */
export async function down(file: string, target: string, options: CommandOptions): Promise<number> {
  const mounts = await readMounts(file);
  const work = () =>
    withProgress(`unmounting ${escapeControl(target)}`, unmountMounts(mounts, target, options));
  await withNamespaceErrors(options.namespace, work);
  return 0;
}

/** The options that `down` and `umount` share. */
export interface CommandOptions extends UnmountOptions {
  /** The process whose mount namespace contains the target. */
  namespace?: number;
}

/** The options of `umount`. */
export interface UmountFlags extends CommandOptions {
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
  const options: CommandOptions = { ...rest, ...(lazy ? { detach: true } : {}) };
  const unmountTarget = recursive ? unmountRecursive : all ? unmountAll : unmount;
  for (const target of targets) {
    const work = () => withProgress(`unmounting ${escapeControl(target)}`, unmountTarget(target, options));
    await withNamespaceErrors(options.namespace, work);
  }
  return 0;
}

/**
 * Prints the mount that contains a path.
 *
 * @param path the path.
 * @param flags whether to print JSON.
 * @returns the exit status.
 */
export async function lookup(path: string, flags: { json?: boolean }): Promise<number> {
  const info = await lookupMount(path);
  print(flags.json ? JSON.stringify(info, null, 2) : mountLines(info));
  return 0;
}

/**
 * Binds a directory or file as an id-mapped mount.
 *
 * @param source the directory or file.
 * @param target the mountpoint.
 * @param flags the maps and the attributes of the mount.
 * @returns the exit status.
 */
export async function idmap(
  source: string,
  target: string,
  { uid, gid, recursive = false, ...attributes }: IdMapAttributes & { uid: string; gid?: string },
): Promise<number> {
  using userns = await createUserNamespace(uid, gid ?? uid);
  await idMapMount(source, target, userns, { recursive, ...attributes });
  return 0;
}

/**
 * Prints the system calls that mount a list, without making them.
 *
 * @param file the list's file, or "-".
 * @param target the directory to mount under.
 * @param flags whether to print JSON.
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
