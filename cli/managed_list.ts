/**
 * `denomount up` and `denomount down` of a list that needs the mount manager.
 *
 * The list is activated under a name made of its target, by which `down` finds it again, and by which the next `up` finds
 * what a crash has left between the activation and the mount.
 *
 * @module
 */

import type { LocalMountManager } from "../linux/manager/local.ts";
import { NotFoundError } from "../linux/manager/errors.ts";
import type { Activation, MountManager } from "../linux/manager/types.ts";
import { withDisposable } from "../ffi/fd.ts";
import { AT_EMPTY_PATH, AT_FDCWD, isErrno, readlink, rmdir, statx, STATX_INO } from "../linux/mod.ts";
import { isMountpoint } from "../linux/mountinfo/lookup.ts";
import { runInNamespace } from "../linux/namespace/mount.ts";
import { canonicalizePath, join, rootPath } from "../linux/path/path.ts";
import type { ListActivator } from "../linux/mount/mount.ts";
import type { Mount } from "../linux/spec/mount.ts";
import { lockOrMake } from "../linux/temp/locked_directory.ts";
import type { UnmountOptions } from "../linux/unmount/deadline.ts";
import { unmountMounts } from "../linux/unmount/mounts.ts";
import { type ManagerFlags, managerRoot, openManager } from "./manager.ts";
import { withNamespaceErrors } from "./namespace.ts";

/**
 * Mounts a list with a manager that activates it under the name of its target. Keeps every other `up` and `down` of the
 * target away meanwhile.
 *
 * @param target the directory to mount under.
 * @param namespace the process whose mount namespace contains the target.
 * @param place where the manager keeps its mounts.
 * @param mount mounts the list.
 * @returns the exit status.
 */
export async function withManagedTarget(
  target: string,
  namespace: number | undefined,
  place: ManagerFlags,
  mount: (manager: ListActivator) => Promise<number>,
): Promise<number> {
  const name = await withNamespaceErrors(namespace, () => nameFor(target, namespace));
  await using manager = await openManager(place);
  using _lock = await lockTarget(name, target, managerRoot(place.root));
  await removeUnmounted(manager, name, target, namespace);
  return await mount({
    activate: (_: string, list: readonly Mount[], wait = {}) => manager.activate(name, list, wait),
    deactivate: (_: string, how = {}) => manager.deactivate(name, how),
  });
}

/**
 * Unmounts a list that `up` has activated, and deactivates it.
 *
 * @param mounts the list.
 * @param target the directory that it is mounted under.
 * @param options how to unmount, and where.
 * @param place the manager that has it.
 */
export async function downManaged(
  mounts: readonly Mount[],
  target: string,
  options: UnmountOptions & { namespace?: number },
  place: ManagerFlags,
): Promise<void> {
  const { namespace, ...how } = options;
  const name = await nameFor(target, namespace);
  await using manager = await openManager(place);
  using _lock = await lockTarget(name, target, managerRoot(place.root));
  const activation = await find(manager, name);
  if (activation !== undefined) await unmountMounts(activation.system, target, options);
  else await forgetBegun(manager, name, mounts, target, namespace);
  await manager.deactivate(name, how);
}

/** Without an activation: a crash can have ended `up` while it was activating, or the list was mounted in another way. */
async function forgetBegun(
  manager: LocalMountManager,
  name: string,
  mounts: readonly Mount[],
  target: string,
  namespace: number | undefined,
): Promise<void> {
  if (await hasMounts(mounts, target, namespace)) {
    throw new Error(
      `${target} is mounted, but not by "denomount up" with this list and this root directory: see --root`,
    );
  }
  await manager.activate(name, []); // undoes what was begun under this name
}

/**
 * Removes the activation of an `up` that a crash has ended before it mounted anything, or whose mounts were unmounted
 * without `down`.
 *
 * @param manager the manager that has it.
 * @param name its name.
 * @param target the directory that its list is mounted under.
 * @param namespace the process whose mount namespace contains the target.
 * @throws {Error} if the list is mounted.
 */
export async function removeUnmounted(
  manager: MountManager,
  name: string,
  target: string,
  namespace?: number,
): Promise<void> {
  const existing = await find(manager, name);
  if (existing === undefined || existing.lost) return; // activate() replaces a lost one
  if (await hasMounts(existing.system, target, namespace)) {
    throw new Error(
      `a list is mounted on ${target} already, as the activation "${name}": unmount it with "denomount down"`,
    );
  }
  await deactivateFound(manager, name);
}

/**
 * Deactivates an activation that was found; containerd's garbage collector may have removed it meanwhile.
 *
 * @param manager the manager that has it.
 * @param name its name.
 */
export async function deactivateFound(
  manager: Pick<MountManager, "deactivate">,
  name: string,
): Promise<void> {
  try {
    await manager.deactivate(name);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
}

/**
 * Looks up an activation.
 *
 * @param manager the manager.
 * @param name the name of the activation.
 * @returns the activation; undefined if there is none.
 */
export async function find(manager: MountManager, name: string): Promise<Activation | undefined> {
  try {
    return await manager.info(name);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/**
 * Whether an entry of a list has its mountpoint mounted.
 *
 * @param mounts the list.
 * @param target the directory that it is mounted under.
 * @param namespace the process whose mount namespace contains the target.
 * @returns true if one has.
 */
export async function hasMounts(
  mounts: readonly Mount[],
  target: string,
  namespace?: number,
): Promise<boolean> {
  if (namespace !== undefined) {
    return await runInNamespace(namespace, () => hasMounts(mounts, target, undefined));
  }
  for (const { target: inside } of mounts) {
    try {
      if (await isMountpoint(await rootPath(target, inside ?? "/"))) return true;
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENOTDIR")) throw error; // nothing is mounted on a target that is gone
    }
  }
  return false;
}

/**
 * The name of the activation: of the target's canonical path, and the mount namespace if it is another one.
 *
 * @param target the target.
 * @param namespace the process whose mount namespace contains it.
 * @returns the name.
 */
export async function nameFor(target: string, namespace?: number): Promise<string> {
  if (namespace !== undefined) {
    return `up:${join("/", target)} in ${readlink(`/proc/${namespace}/ns/mnt`)}`;
  }
  try {
    return `up:${await canonicalizePath(target)}`;
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error; // `down` of a target that is gone
    return `up:${target.startsWith("/") ? join(target) : join(Deno.cwd(), target)}`;
  }
}

/**
 * Keeps every other `up` and `down` of the target away: between its activation and its mount, an `up` looks as if a crash
 * had ended it.
 *
 * @param name the name of its activation.
 * @param target the target, for the error.
 * @param root an existing directory, which holds the lock.
 * @returns the lock, which ends when it is disposed.
 * @throws {Error} if another process holds it.
 */
export async function lockTarget(name: string, target: string, root: string): Promise<Disposable> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name));
  const bytes = Array.from(new Uint8Array(digest, 0, 16), (byte) => byte.toString(16).padStart(2, "0"));
  const directory = join(root, `up-${bytes.join("")}`);
  for (;;) {
    const lock = lockOrMake(directory);
    const inode = inodeOf(AT_FDCWD, directory);
    if (lock === undefined && inode !== undefined) {
      throw new Error(`another process is just mounting or unmounting a list on ${target}`);
    }
    // Another process can have removed the directory before it was locked.
    if (lock !== undefined && inode === inodeOf(lock.fd, "")) {
      return { [Symbol.dispose]: () => withDisposable(lock, () => removeDirectory(directory)) };
    }
    lock?.close();
  }
}

function removeDirectory(path: string): void {
  try {
    rmdir(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

function inodeOf(dirfd: number, path: string): bigint | undefined {
  try {
    return statx(dirfd, path, AT_EMPTY_PATH, STATX_INO).inode;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
