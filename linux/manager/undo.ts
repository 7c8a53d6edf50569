/**
 * Taking an activation down: at its end, after a failure, and after a crash.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { dirname, join } from "../path/path.ts";
import { DEFAULT_TIMEOUT, type WaitOptions } from "../path/wait.ts";
import { delay } from "../path/delay.ts";
import { O_DIRECTORY, O_RDONLY } from "../syscalls/constants.ts";
import { getdents64, open, rmdir, unlink } from "../syscalls/mod.ts";
import { lockOrMake } from "../temp/locked_directory.ts";
import type { UnmountOptions } from "../unmount/deadline.ts";
import { tryUnmountSingle, unmountRecursive } from "../unmount/recursive.ts";
import { isInUse, type Manager } from "./context.ts";
import { FailedPreconditionError } from "./errors.ts";
import { removeMadeDirectory, removeMadeFile } from "./made.ts";
import type { MountRow, Row } from "./record.ts";
import { inOrder, mountsImage } from "./together.ts";

/** How to unmount, without the namespace: an activation belongs to that of its manager. */
export type TakeDownOptions = Omit<UnmountOptions, "namespace">;

/**
 * Undoes an activation that is not complete, or completes a deactivation.
 *
 * @param manager the manager.
 * @param row the activation.
 * @param options `isLocked` if the caller holds the lock of its directory.
 * @returns "busy" if another process works on it just now, "settled" if that has ended its work meanwhile.
 */
export async function undo(
  manager: Manager,
  row: Row,
  { isLocked = false }: { isLocked?: boolean } = {},
): Promise<"undone" | "settled" | "busy"> {
  using lock = isLocked ? undefined : lockOrMake(row.directory);
  if (!isLocked && lock === undefined) return "busy";
  const now = await manager.record.find(row.name);
  if (now?.id !== row.id) { // the other process has completed it
    removeDirectoryOf(row);
    return "settled";
  }
  if (now.state === "active") return "settled";
  if (isElsewhere(manager, now)) return "busy";
  if (isOfThisBoot(manager, now)) await unmountAllOf(manager, now, {});
  if (now.state === "activating") await removeAllMade(manager, now);
  await forget(manager, now);
  return "undone";
}

/**
 * Deactivates an activation.
 *
 * @param manager the manager.
 * @param row the activation.
 * @param options how to unmount.
 */
export async function deactivate(manager: Manager, row: Row, options: TakeDownOptions): Promise<void> {
  using _lock = await waitForLock(row, options);
  const now = await manager.record.beginEnd(row, (now) => now.state !== "lost" && isHere(manager, now));
  if (now === undefined) return removeDirectoryOf(row); // another process has deactivated it meanwhile
  if (now.state === "lost" || !isOfThisBoot(manager, now)) return await forget(manager, now);
  if (isElsewhere(manager, now)) {
    throw new FailedPreconditionError(
      `the activation "${row.name}" is mounted in another mount namespace, ${now.namespace}: deactivate it there`,
    );
  }
  if (!isHere(manager, now)) await manager.record.setState(now.id, "deactivating"); // its namespace has ended
  await unmountAllOf(manager, now, options);
  await forget(manager, now);
}

async function forget(manager: Manager, row: Row): Promise<void> {
  await manager.record.remove(row.id);
  removeDirectoryOf(row);
}

/**
 * Whether the mounts of an activation can be in this process's mount namespace.
 *
 * @param manager the manager.
 * @param row the activation.
 * @returns false after a reboot, and for another namespace.
 */
export function isHere(manager: Manager, row: Row): boolean {
  return isOfThisBoot(manager, row) && row.namespace === manager.namespace;
}

/**
 * Whether the mounts of an activation are in another mount namespace, in which a process still is.
 *
 * @param manager the manager.
 * @param row the activation.
 * @returns true if only a process in that namespace can unmount them.
 */
export function isElsewhere(manager: Manager, row: Row): boolean {
  return isOfThisBoot(manager, row) && row.namespace !== manager.namespace && isInUse(row.namespace);
}

/**
 * Whether an activation is of this boot. Its mount namespace may have ended, but its loop devices have not.
 *
 * @param manager the manager.
 * @param row the activation.
 * @returns false after a reboot.
 */
export function isOfThisBoot(manager: Manager, row: Row): boolean {
  return row.boot === manager.boot;
}

/**
 * Unmounts the mounts of an activation, the last first, and removes their mountpoints. If one can't be unmounted, those
 * that are unmounted are forgotten, and another call goes on.
 *
 * @param manager the manager.
 * @param row the activation.
 * @param options how to unmount.
 */
export async function unmountAllOf(manager: Manager, row: Row, options: TakeDownOptions): Promise<void> {
  const done: number[] = [];
  try {
    const isImage = ({ handler }: MountRow) => mountsImage(manager, handler);
    await inOrder(row.mounts.toReversed(), isImage, async (mount) => {
      await unmountOne(manager, row, mount, options);
      done.push(mount.position);
    });
  } catch (error) {
    if (done.length > 0) await manager.record.removeMounts(row.id, done);
    else if (row.state === "active") await manager.record.setState(row.id, "active");
    throw error;
  }
}

async function unmountOne(
  manager: Manager,
  row: Row,
  mount: MountRow,
  options: TakeDownOptions,
): Promise<void> {
  const { handler: type, mountPoint, data } = mount;
  const handler = type === undefined ? undefined : manager.handlers.get(type);
  if (type !== undefined && handler === undefined) {
    throw new FailedPreconditionError(
      `no handler "${type}" was given, which has made the mount ${mountPoint}`,
    );
  }
  if (handler !== undefined) await handler.unmount(mountPoint, { ...mount.mount, data });
  await unmountPlace(row, mountPoint, options);
}

/** Unmounts all that is on a mountpoint, and removes it. */
async function unmountPlace({ directory }: Row, mountPoint: string, options: TakeDownOptions): Promise<void> {
  // Any other is inside a mount, or a handler's own: what is there is data.
  const isOwn = dirname(mountPoint) === directory;
  // Most have one mount: if the mountpoint can be removed after it, then nothing else was mounted there.
  if (isOwn && await tryUnmountSingle(mountPoint, options) && tryRemovePlace(mountPoint)) return;
  await unmountRecursive(mountPoint, { ...options, noFollow: true });
  if (isOwn) removePlace(mountPoint);
}

async function removeAllMade({ record, roots }: Manager, row: Row): Promise<void> {
  const wait: WaitOptions = {};
  for (const made of row.made.toReversed()) {
    if (!made.isOwned) continue;
    if (made.kind === "directory") await removeMadeDirectory(roots, made.path, wait);
    else {
      await removeMadeFile(roots, made, wait, (unlink) => record.unlinkUnused(row.id, made.path, unlink));
    }
  }
}

/**
 * Removes the directory of an activation. What is still mounted in it stays.
 *
 * @param row the activation.
 */
export function removeDirectoryOf({ directory }: Pick<Row, "directory">): void {
  if (tryRemovePlace(directory)) return;
  for (const name of namesIn(directory)) removePlace(join(directory, name));
  removePlace(directory);
}

/**
 * The names in a directory.
 *
 * @param directory its path.
 * @returns the names; none if it does not exist.
 */
export function namesIn(directory: string): string[] {
  try {
    using opened = open(directory, O_RDONLY | O_DIRECTORY);
    return getdents64(opened.fd);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Removes a mountpoint: a directory, a file, or the symbolic link to a device. */
function removePlace(path: string): void {
  try {
    rmdir(path);
  } catch (error) {
    if (isErrno(error, "ENOTDIR")) unlink(path);
    else if (!isErrno(error, "ENOENT")) throw error;
  }
}

/** False if something is in it, or mounted on it. */
function tryRemovePlace(path: string): boolean {
  try {
    removePlace(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOTEMPTY", "EBUSY")) return false;
    throw error;
  }
}

async function waitForLock(
  { name, directory }: Row,
  { timeout = DEFAULT_TIMEOUT, signal }: WaitOptions,
): Promise<OwnedFd> {
  for (const start = performance.now();;) {
    const lock = lockOrMake(directory);
    if (lock !== undefined) return lock;
    if (performance.now() - start > timeout) {
      throw new FailedPreconditionError(`another process works on the activation "${name}" just now`);
    }
    await delay(2 + Math.random() * 8, signal);
  }
}
