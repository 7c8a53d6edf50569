/**
 * `denomount umount`.
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import { prefixFilter } from "../linux/mountinfo/filters.ts";
import { listMounts } from "../linux/mountinfo/list_mounts.ts";
import { runInNamespace } from "../linux/namespace/mount.ts";
import { openMayWait } from "../linux/path/cached_lookup.ts";
import { canonicalizePath, dirname, join } from "../linux/path/path.ts";
import { O_PATH, S_IFBLK, S_IFREG } from "../linux/syscalls/constants.ts";
import { Deadline, type UnmountOptions } from "../linux/unmount/deadline.ts";
import { unmountRecursive } from "../linux/unmount/recursive.ts";
import { resolveTopMount } from "../linux/unmount/retry.ts";
import { unmount, unmountAll } from "../linux/unmount/unmount.ts";
import { withNamespaceErrors } from "./namespace.ts";
import { escapeControl, printError } from "./print.ts";
import { withProgress } from "./progress.ts";

/** The options of `umount`. */
export interface UmountFlags extends Omit<UnmountOptions, "namespace"> {
  /** The process whose mount namespace contains the target. */
  namespace?: number;
  /** Unmounts every mount that is stacked on the target. */
  all?: boolean;
  /** Unmounts everything at and below the target. */
  recursive?: boolean;
  /** MNT_DETACH. */
  lazy?: boolean;
  /** Prints nothing about a target that is not mounted. */
  quiet?: boolean;
}

/** The exit statuses of umount(8): no target was unmounted, and some were. */
const UMOUNT_FAILED = 32;
const SOME_UNMOUNTED = 64;

/** A target on which nothing is mounted. */
class NotMounted extends Error {}

/**
 * Unmounts targets, and goes on after a failure.
 *
 * @param targets mountpoints, block devices, image files.
 * @param flags how to unmount.
 * @returns the exit status.
 */
export async function umount(targets: readonly string[], flags: UmountFlags): Promise<number> {
  const { quiet, ...how } = flags;
  let failures = 0;
  for (const target of targets) {
    try {
      await withProgress(`unmounting ${escapeControl(target)}`, unmountTarget(target, how));
    } catch (error) {
      failures++;
      const isQuiet = quiet && (error instanceof NotMounted || isErrno(error, "ENOENT", "ENOTDIR"));
      if (!isQuiet) await printFailure(error);
    }
  }
  if (failures === 0) return 0;
  return failures < targets.length ? SOME_UNMOUNTED : UMOUNT_FAILED;
}

async function printFailure(error: unknown): Promise<void> {
  const { errorMessage, holderLines } = await import("./errors.ts");
  printError([`denomount: ${escapeControl(errorMessage(error))}`, ...holderLines(error)].join("\n"));
}

async function unmountTarget(
  target: string,
  { all, recursive, lazy, namespace, ...rest }: Omit<UmountFlags, "quiet">,
): Promise<void> {
  const options = { ...rest, ...(lazy ? { detach: true } : {}) };
  const unmountOne = recursive ? unmountRecursive : all ? unmountAll : unmount;
  const work = async () => {
    const isMounted = recursive ? await hasMounts(target, options) : await isMountpoint(target, options);
    const mountpoint = isMounted ? target : await mountpointOfSource(target, options);
    if (mountpoint === undefined) throw new NotMounted(`${target} is not mounted`);
    await unmountOne(mountpoint, options);
  };
  await withNamespaceErrors(
    namespace,
    () => namespace === undefined ? work() : runInNamespace(namespace, work),
  );
}

async function isMountpoint(target: string, options: UnmountOptions): Promise<boolean> {
  return await resolveTopMount(target, new Deadline(options)) !== undefined;
}

/** Whether something is mounted on a path or below it, also under a later mount. */
async function hasMounts(target: string, options: UnmountOptions): Promise<boolean> {
  if (await isMountpoint(target, options)) return true;
  try {
    const wait = new Deadline(options);
    const path = options.noFollow
      ? join(await canonicalizePath(dirname(target), wait), target.slice(target.lastIndexOf("/") + 1))
      : await canonicalizePath(target, wait);
    return (await listMounts({ filter: prefixFilter(path) })).length > 0;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

/** The mountpoint of a block device or of an image: of several, the one that was mounted last. */
async function mountpointOfSource(target: string, options: UnmountOptions): Promise<string | undefined> {
  if (options.noFollow) return undefined;
  let path: string;
  try {
    path = await canonicalizePath(target, new Deadline(options));
  } catch (error) {
    if (!isErrno(error, "ENOENT") || !/^loop\d+$/.test(target)) throw error;
    return await mountpointOfSource(`/dev/${target}`, options);
  }
  const devices = await devicesOfSource(path, new Deadline(options));
  const mounts = await listMounts({ filter: ({ source }) => ({ skip: !devices.includes(source) }) });
  return mounts.at(-1)?.mountpoint;
}

async function devicesOfSource(path: string, wait: Deadline): Promise<string[]> {
  const { identify } = await import("../linux/loop/backing_file.ts");
  using file = await openMayWait(path, O_PATH, wait);
  const { type, id } = identify(file);
  if (type === S_IFBLK) return [path];
  if (type !== S_IFREG) return [];
  const { devicesOf } = await import("../linux/loop/attached.ts");
  return (await devicesOf(id)).map((device) => device.path);
}
