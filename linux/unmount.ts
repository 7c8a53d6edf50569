/**
 * Taking mounts off again.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import {
  AT_SYMLINK_NOFOLLOW,
  MNT_DETACH,
  MNT_EXPIRE,
  MNT_FORCE,
  MS_PRIVATE,
  MS_REC,
  UMOUNT_NOFOLLOW,
} from "./constants.ts";
import { mountRoot, statxUnique } from "./lookup.ts";
import { insideOf, type Mount, parentsFirst } from "./mount_list.ts";
import { listMounts, type MountInfo, prefixFilter } from "./mountinfo.ts";
import { inNamespace, type MountNamespace } from "./namespace.ts";
import { canonicalizePath, join, rootPath } from "./path.ts";
import { pause } from "./pause.ts";
import { splitOptions } from "./options.ts";
import { type Patience, reach, TIMEOUT } from "./reach.ts";
import { mount, type Statx, umount2 } from "./syscalls.ts";
import { openOnTop, throughProc } from "./target.ts";
import { endsAtOnce, filesystemOf, hasServer, umountOnce } from "./umount.ts";

/** How to unmount. */
export interface UnmountOptions {
  /** Out of the tree now, cleaned up when it is no longer used (MNT_DETACH). */
  detach?: boolean;
  /** Breaks off requests to a server that is gone (MNT_FORCE). */
  force?: boolean;
  /** Marks it at the first call (EAGAIN), takes it off at the second if it was not used since (MNT_EXPIRE). */
  expire?: boolean;
  /** Does not follow a symbolic link at the end of the path (UMOUNT_NOFOLLOW). */
  noFollow?: boolean;
  /**
   * How long a busy mount is tried again, and a FUSE or network server waited for, in milliseconds; 2500 if left out. A
   * server is given half a second at the least. After it, an unmount that hangs may still come to its end.
   */
  timeout?: number;
  /** Ends the trying. */
  signal?: AbortSignal;
  /** The mount namespace that the target is in; this process's own if left out. */
  namespace?: MountNamespace;
}

const SHORTEST = 500; // ms; a disk may have to be asked for a name
const AGAIN = 50; // ms between two tries of a busy mount

/**
 * Takes the topmost mount off a target. A path that is no mountpoint is fine; a busy one is tried again every 50 ms.
 *
 * @param target the mountpoint.
 * @param options how.
 * @throws {SyscallError} EBUSY or, of a server, ETIMEDOUT after the timeout, ENOENT where the path does not exist, EPERM without the right, and
 * EINVAL for a mount that a user namespace holds fast.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN; for FUSE with `run`, the FUSE helpers' rights count instead.
 *
 * @example
 * ```ts
 * import { mount, unmount } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * await unmount(target);
 * await Deno.remove(target);
 * ```
 */
export async function unmount(target: string, options: UnmountOptions = {}): Promise<void> {
  if (options.namespace !== undefined) return await there(options, (rest) => unmount(target, rest));
  const effort = new Effort(options);
  await reach(target, effort.patience);
  await takeOff(target, effort);
}

/**
 * Takes every mount off a target that are stacked on it. `""`, a path that does not exist and one that is no mountpoint
 * are fine.
 *
 * @param target the mountpoint.
 * @param options how.
 * @throws {SyscallError} as {@linkcode unmount} does.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { mount, unmountAll } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * await mount({ type: "tmpfs", source: "tmpfs" }, target);
 * await unmountAll(target);
 * await Deno.remove(target);
 * ```
 */
export async function unmountAll(target: string, options: UnmountOptions = {}): Promise<void> {
  if (options.namespace !== undefined) return await there(options, (rest) => unmountAll(target, rest));
  const effort = new Effort(options);
  await reach(target, effort.patience);
  await takeAllOff(target, effort);
}

/**
 * Takes a list of mounts off a target: the reverse of `mountAll`, for when its handle is gone.
 *
 * @param mounts the list as it was mounted.
 * @param target the directory that it is under.
 * @param options how.
 * @throws {SyscallError} if the last mount of the list does not come off; the failure of another one counts where
 * something is still mounted there at the end.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { mountAll, unmountMounts } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * const list = [{ type: "bind", source: "/usr", options: ["rbind", "ro"] }];
 * await mountAll(list, target);
 * await unmountMounts(list, target);
 * await Deno.remove(target);
 * ```
 */
export async function unmountMounts(
  mounts: readonly Mount[],
  target: string,
  options: UnmountOptions = {},
): Promise<void> {
  if (options.namespace !== undefined) {
    return await there(options, (rest) => unmountMounts(mounts, target, rest));
  }
  const effort = new Effort(options);
  const made = parentsFirst(
    mounts.filter(makesMount).map((mount) => ({ inside: insideOf(mount), isTree: isTree(mount) })),
  ).reverse();
  const failures: { mountpoint: string; error: SyscallError }[] = [];
  for (const [index, { inside, isTree }] of made.entries()) {
    let mountpoint = join(target, inside);
    try {
      await reach(mountpoint, effort.patience);
      mountpoint = await rootPath(target, inside);
      await (isTree ? takeTreeOff(mountpoint, effort) : takeOff(mountpoint, effort));
    } catch (error) {
      if (index === 0 || !(error instanceof SyscallError)) throw error;
      failures.push({ mountpoint, error });
    }
  }
  for (const { mountpoint, error } of failures) if (mountRoot(mountpoint) !== undefined) throw error;
}

function isTree({ options = [] }: Mount): boolean {
  return options.flatMap(splitOptions).includes("rbind");
}

function makesMount({ type, options: given = [] }: Mount): boolean {
  const options = given.flatMap(splitOptions);
  const bare = type === "" || type === "none";
  return !options.includes("remount") && !(bare && !options.includes("bind") && !options.includes("rbind"));
}

/**
 * Takes everything off at a target and below it, the deepest first.
 *
 * @param target a path; symbolic links are followed. It need not be a mountpoint itself.
 * @param options how; the timeout is for all of it together.
 * @throws {SyscallError} if the target's own mount does not come off, or another one stays.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { mountAll, unmountRecursive } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * await mountAll([{ type: "tmpfs", source: "tmpfs" }, { type: "tmpfs", source: "tmpfs" }], target);
 * await unmountRecursive(target);
 * await Deno.remove(target);
 * ```
 */
export async function unmountRecursive(target: string, options: UnmountOptions = {}): Promise<void> {
  if (target === "") return;
  if (options.namespace !== undefined) return await there(options, (rest) => unmountRecursive(target, rest));
  const effort = new Effort(options);
  await reach(target, effort.patience);
  const top = await canonicalizePath(target);
  const table = await listMounts();
  const within = prefixFilter(top);
  // Below a mount is only what has a longer path; of those on one path, each call takes the topmost.
  const mounts = table.filter((mount) => !within(mount).skip).reverse().sort((a, b) =>
    b.mountpoint.length - a.mountpoint.length
  );
  const users = usersOfDevices(table);
  const isServed = mounts.some(({ fsType }) => hasServer(fsType)); // what is mounted in it, may be out of reach
  const failures: SyscallError[] = [];
  for (const info of mounts) {
    const { mountpoint } = info;
    try {
      if (isServed) await reach(mountpoint, effort.patience);
      if (needNotWait(info, users) && takesOffAtOnce(mountpoint, effort)) continue;
      await takeOff(mountpoint, effort);
    } catch (error) {
      if (mountpoint === top || !(error instanceof SyscallError)) throw error;
      failures.push(error);
    }
  }
  await takeAllOff(top, effort);
  // What would not come off by itself may have gone with what it was mounted in.
  const [first] = failures;
  if (first && (await listMounts({ filter: within })).length > 0) throw first;
}

/** A file system that is mounted elsewhere too has nothing to flush; nor have some others. */
function needNotWait(info: MountInfo, users: Map<string, number>): boolean {
  const device = deviceOf(info);
  const left = (users.get(device) ?? 1) - 1;
  users.set(device, left);
  return left > 0 || endsAtOnce(info.mountpoint, filesystemOf(info));
}

function deviceOf({ major, minor }: MountInfo): string {
  return `${major}:${minor}`;
}

/** The same call in another mount namespace. */
async function there(
  { namespace, ...rest }: UnmountOptions,
  call: (rest: UnmountOptions) => Promise<void>,
): Promise<void> {
  if (namespace !== undefined) await inNamespace(namespace, () => call(rest));
}

/** How often each device is in the table. */
function usersOfDevices(table: readonly MountInfo[]): Map<string, number> {
  const users = new Map<string, number>();
  for (const device of table.map(deviceOf)) {
    users.set(device, (users.get(device) ?? 0) + 1);
  }
  return users;
}

function takesOffAtOnce(mountpoint: string, { flags, signal }: Effort): boolean {
  signal?.throwIfAborted();
  try {
    umount2(mountpoint, flags);
    return true;
  } catch (error) {
    if (isErrno(error, "EBUSY", "EINVAL")) return false;
    throw error;
  }
}

/** How hard to try: the flags, and one deadline for all that a call takes off. */
class Effort {
  readonly flags: number;
  readonly signal: AbortSignal | undefined;
  readonly #deadline: number;
  readonly #patientUntil: number;

  constructor({ detach, force, expire, noFollow, timeout = TIMEOUT, signal }: UnmountOptions) {
    if (expire && (detach || force)) throw new TypeError("expire goes with neither detach nor force");
    if (!(timeout >= 0)) throw new TypeError(`a timeout is a number of milliseconds, not ${timeout}`);
    this.flags = (detach ? MNT_DETACH : 0) | (force ? MNT_FORCE : 0) | (expire ? MNT_EXPIRE : 0) |
      (noFollow ? UMOUNT_NOFOLLOW : 0);
    this.signal = signal;
    this.#deadline = performance.now() + timeout;
    this.#patientUntil = performance.now() + Math.max(timeout, SHORTEST);
  }

  /** How long a server may take now. */
  get patience(): Patience {
    return { timeout: Math.max(0, this.#patientUntil - performance.now()), signal: this.signal };
  }

  get isOver(): boolean {
    return performance.now() >= this.#deadline;
  }
}

/**
 * Takes the topmost mount off a target with all that is mounted within it: a recursive bind with what came with it.
 *
 * @param target the mountpoint.
 * @param options how.
 * @throws {SyscallError} as {@linkcode unmount} does.
 */
export async function unmountTree(target: string, options: UnmountOptions = {}): Promise<void> {
  const effort = new Effort(options);
  await reach(target, effort.patience);
  await takeTreeOff(target, effort);
}

/**
 * Takes a tree of mounts out of sight at once, however busy it is. For what nobody was told of yet.
 *
 * @param target the mountpoint.
 */
export function detachTree(target: string): void {
  makePrivate(target);
  umount2(target, MNT_DETACH);
}

/**
 * The same for what is mounted on a place that is still held, wherever it has been renamed to.
 *
 * @param place the place.
 */
export function detachOnTop(place: OwnedFd): void {
  using top = openOnTop(place);
  detachTree(throughProc(top));
}

async function takeTreeOff(target: string, effort: Effort): Promise<void> {
  const top = mountRoot(target);
  if (top === undefined) return await takeOff(target, effort);
  makePrivate(target);
  if (!(effort.flags & MNT_DETACH)) {
    if (await comesOffAlone(target, effort)) return;
    try {
      for (const mountpoint of await mountedWithin(top)) await takeOff(mountpoint, effort);
    } catch (error) {
      // In a user namespace, what came with the tree is locked to it, and comes off with it and in no other way.
      if (isErrno(error, "EINVAL")) return umount2(target, effort.flags | MNT_DETACH);
      throw error;
    }
  }
  await takeOff(target, effort);
}

/** Most trees are of one mount: then the mount table need not be read. */
async function comesOffAlone(target: string, effort: Effort): Promise<boolean> {
  try {
    effort.signal?.throwIfAborted();
    await umountOnce(target, effort.flags, topOf(target, effort), effort.patience);
    return true;
  } catch (error) {
    if (isErrno(error, "EBUSY")) return false;
    throw error;
  }
}

/** A bind of a shared tree is its peer: without this, an unmount in one would be one in the other. */
function makePrivate(target: string): void {
  mount(null, target, null, MS_REC | MS_PRIVATE, null);
}

/** The mountpoints within a mount, the deepest first; what is hidden under that mount is not. */
async function mountedWithin(top: Statx): Promise<string[]> {
  const tree = new Set([Number(top.mountId)]);
  const within: string[] = [];
  const mounts = await listMounts();
  for (let found = -1; found !== tree.size;) { // again while there is news: a child may stand before its parent
    found = tree.size;
    for (const { id, parent, mountpoint } of mounts) {
      if (!tree.has(parent) || tree.has(id)) continue;
      tree.add(id);
      within.unshift(mountpoint);
    }
  }
  return within;
}

async function takeAllOff(target: string, effort: Effort): Promise<void> {
  if (target === "") return;
  for (let top = topOf(target, effort); top !== undefined; top = topOf(target, effort)) {
    await takeOff(target, effort, top);
  }
}

function topOf(target: string, { flags }: Effort): Statx | undefined {
  return mountRoot(target, (path) => statxUnique(path, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0));
}

/** Takes one mount off, if there is one. */
async function takeOff(target: string, effort: Effort, top = topOf(target, effort)): Promise<void> {
  for (;; top = topOf(target, effort)) {
    effort.signal?.throwIfAborted();
    try {
      return await umountOnce(target, effort.flags, top, effort.patience);
    } catch (error) {
      if (isErrno(error, "EINVAL") && error.syscall === "umount2") return refuseLocked(target, effort);
      if (!isErrno(error, "EBUSY") || effort.isOver) throw error;
    }
    await pause(AGAIN, effort.signal);
  }
}

/** EINVAL says "no mountpoint", but also "a mount that came from a more privileged mount namespace". */
function refuseLocked(target: string, effort: Effort): void {
  if (topOf(target, effort) === undefined) return;
  throw new SyscallError({ syscall: "umount2", errno: errnoNumber("EINVAL"), path: target });
}
