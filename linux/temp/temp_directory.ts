/**
 * Directories for temporary mounts, and their cleanup after a crash.
 *
 * Each is a directory `denomount-XXXXXX` with the mountpoint `root` in it. The process that created it holds a lock on
 * the outer directory, so a cleanup can tell a directory that is in use from one that a crash has left. Directories are
 * removed with rmdir(2), never recursively: if a mount can't be unmounted, no file in it is deleted.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { requirePermission } from "../../ffi/permission.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { AT_EMPTY_PATH, STATX_UID } from "../syscalls/constants.ts";
import { ensureServerAnswers } from "../mountinfo/served.ts";
import { ensureAnswers } from "../path/cached_lookup.ts";
import { canonicalizePath, join } from "../path/path.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { geteuid, rmdir, statx } from "../syscalls/mod.ts";
import type { UnmountOptions } from "../unmount/deadline.ts";
import { unmountRecursive } from "../unmount/recursive.ts";
import { createLocked, tryLock } from "./locked_directory.ts";

const PREFIX = "denomount-";
const NAME = /^denomount-[A-Za-z0-9]{6}$/; // the prefix and the six characters of mkdtemp(3)
const ROOT = "root"; // the mountpoint in the directory
let location: string | undefined;

/** A new temporary directory with a mountpoint, removed at the end of its scope. */
export class TempDirectory implements Disposable {
  /** The mountpoint. */
  readonly root: string;
  readonly #directory: string;
  readonly #lock: OwnedFd;
  #abandoned = false;
  #hasRoot = true;

  /**
   * Creates the directory at the temporary location.
   *
   * @throws {SyscallError} if it can't be created or locked.
   */
  constructor() {
    const { directory, lock } = createLocked(join(tempLocation(), PREFIX), ROOT);
    this.#directory = directory;
    this.#lock = lock;
    this.root = join(directory, ROOT);
  }

  /** Releases the lock: the next {@linkcode cleanupTempMounts} unmounts and removes the directory. */
  abandon(): void {
    this.#abandoned = true;
    this.#lock.close();
  }

  /**
   * Removes the mountpoint.
   *
   * @returns false if something is mounted on it, or in it.
   */
  tryRemoveRoot(): boolean {
    try {
      rmdir(this.root);
      this.#hasRoot = false;
      return true;
    } catch (error) {
      if (isErrno(error, "EBUSY", "ENOTEMPTY")) return false;
      throw error;
    }
  }

  /** Removes the directory unless it was abandoned. */
  [Symbol.dispose](): void {
    if (this.#abandoned) return;
    using _lock = this.#lock;
    if (this.#hasRoot) rmdir(this.root);
    rmdir(this.#directory);
  }
}

/**
 * Sets the directory in which temporary mounts are created. By default it is `TMPDIR` if that is an absolute path and
 * may be read, else /tmp.
 *
 * Needs the permissions `ffi` and `write` for the directory.
 *
 * @param directory the directory; it is created if it does not exist.
 * @param wait the timeout and the signal for a server on the path.
 * @throws {TypeError} for a name that is not valid UTF-8.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 *
 * @example
 * ```ts
 * import { setTempMountLocation } from "@denomount/mount";
 *
 * const directory = await Deno.makeTempDir();
 * await setTempMountLocation(directory);
 * await setTempMountLocation("/tmp");
 * await Deno.remove(directory);
 * ```
 */
export async function setTempMountLocation(directory: string, wait: WaitOptions = {}): Promise<void> {
  checkWait(wait);
  if (!directory.isWellFormed()) throw new TypeError("the path of the temporary location is not valid UTF-8");
  requirePermission({ name: "write", path: directory });
  await ensureAnswers(directory, wait); // Deno.mkdir() would wait for ever on one of Deno's threads
  await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  location = await canonicalizePath(directory, wait);
}

/**
 * Unmounts and removes the temporary mounts that crashed processes have left. Directories of running processes, this one
 * included, and of other users are not touched.
 *
 * Needs the permissions `ffi` and `read` for the temporary location, and CAP_SYS_ADMIN if a mount is left.
 *
 * @param options how to unmount.
 * @returns an error for each directory that could not be removed; the next call tries it again.
 *
 * @example
 * ```ts
 * import { cleanupTempMounts } from "@denomount/mount";
 *
 * for (const error of await cleanupTempMounts()) console.error(error.message);
 * ```
 */
export async function cleanupTempMounts(options: UnmountOptions = {}): Promise<Error[]> {
  const errors: Error[] = [];
  requirePermission({ name: "read", path: tempLocation() });
  await ensureTempLocation(options);
  for await (const entry of Deno.readDir(tempLocation())) {
    if (!entry.isDirectory || !NAME.test(entry.name)) continue;
    try {
      await cleanupDirectory(join(tempLocation(), entry.name), options);
    } catch (error) {
      errors.push(error instanceof Error ? error : new Error(String(error)));
    }
  }
  return errors;
}

/**
 * Finds the temporary directories that {@linkcode cleanupTempMounts} removes: those of this user that no process uses.
 *
 * Needs the permissions `ffi` and `read` for the temporary location.
 *
 * @param wait the timeout and the signal for a server on the path.
 * @returns their paths.
 */
export async function leftTempDirectories(wait: WaitOptions = {}): Promise<string[]> {
  requirePermission({ name: "read", path: tempLocation() });
  await ensureTempLocation(wait);
  const found: string[] = [];
  for await (const { isDirectory, name } of Deno.readDir(tempLocation())) {
    const path = join(tempLocation(), name);
    if (isDirectory && NAME.test(name) && isLeft(path)) found.push(path);
  }
  return found.sort();
}

function isLeft(directory: string): boolean {
  try {
    using lock = tryLock(directory);
    return lock !== undefined && statx(lock.fd, "", AT_EMPTY_PATH, STATX_UID).uid === geteuid();
  } catch (error) {
    if (isErrno(error, "EACCES")) return false; // another user's
    throw error;
  }
}

async function cleanupDirectory(directory: string, options: UnmountOptions): Promise<void> {
  using lock = tryLock(directory);
  if (lock === undefined) return;
  // If the owner is another user, they could replace `root` by a symbolic link to any mountpoint after this check.
  if (statx(lock.fd, "", AT_EMPTY_PATH, STATX_UID).uid !== geteuid()) return;
  await unmountRecursive(join(directory, ROOT), { noFollow: true, ...options });
  for (const path of [join(directory, ROOT), directory]) {
    try {
      rmdir(path);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error; // another cleanup has removed it
    }
  }
}

/**
 * Waits until the server of the temporary location answers, before a {@linkcode TempDirectory} is created in it.
 *
 * Needs the permission `ffi`.
 *
 * @param wait the timeout and the signal.
 * @throws {SyscallError} ETIMEDOUT if a server on its path does not answer.
 */
export async function ensureTempLocation(wait: WaitOptions): Promise<void> {
  await ensureServerAnswers(tempLocation(), wait);
}

function tempLocation(): string {
  if (location !== undefined) return location;
  const granted = Deno.permissions.querySync({ name: "env", variable: "TMPDIR" }).state === "granted";
  const directory = granted ? Deno.env.get("TMPDIR") : undefined;
  return directory?.startsWith("/") ? directory : "/tmp";
}
