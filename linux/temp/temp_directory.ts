/**
 * Temporary mounts' places, and what becomes of them after a crash.
 *
 * Each place is a directory of its own, and in it the mountpoint. The outer one is locked for as long as the process
 * that made it lives, so that a clean-up tells what a crash has left from what is in use. Directories are removed with
 * rmdir, never recursively: a mount that would not come off costs nobody data.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { requirePermission } from "../../ffi/permission.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  LOCK_EX,
  LOCK_NB,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  STATX_UID,
} from "../syscalls/constants.ts";
import { canonicalizePath, join } from "../path/path.ts";
import { flock, geteuid, mkdir, mkdtemp, open, rmdir, statx } from "../syscalls/mod.ts";
import type { UnmountOptions } from "../unmount/deadline.ts";
import { unmountAll } from "../unmount/unmount.ts";

const PREFIX = "denomount-";
const NAME = /^denomount-[A-Za-z0-9]{6}$/; // the prefix, and what mkdtemp(3) puts after it
const ROOT = "root"; // the mountpoint within
let location: string | undefined;

/** A directory of its own to mount at; at the end of its scope it is removed. */
export class TempDirectory implements Disposable {
  /** The mountpoint. */
  readonly root: string;
  readonly #directory: string;
  readonly #lock: OwnedFd;
  #abandoned = false;

  /** Makes it at the temporary location. */
  constructor() {
    const { directory, lock } = lockedDirectory();
    this.#directory = directory;
    this.#lock = lock;
    this.root = join(directory, ROOT);
    try {
      mkdir(this.root, 0o700);
    } catch (error) {
      lock.close();
      rmdir(directory);
      throw error;
    }
  }

  /** Leaves it, with what is mounted there, to the next {@linkcode cleanupTempMounts}. */
  abandon(): void {
    this.#abandoned = true;
    this.#lock.close();
  }

  /** Removes it, unless it was abandoned. */
  [Symbol.dispose](): void {
    if (this.#abandoned) return;
    using _lock = this.#lock;
    rmdir(this.root);
    rmdir(this.#directory);
  }
}

/** A clean-up that comes between making a directory and locking it takes it for a left one: then another is made. */
function lockedDirectory(): { directory: string; lock: OwnedFd } {
  for (;;) {
    const directory = mkdtemp(join(tempLocation(), PREFIX));
    try {
      const lock = lockAlone(directory);
      if (lock !== undefined) return { directory, lock };
    } catch (error) {
      rmdir(directory);
      throw error;
    }
  }
}

/**
 * Says where temporary mounts are made; it is `TMPDIR`, or /tmp, until then.
 *
 * @param directory made if it does not exist.
 *
 * Needs the permissions `ffi` and `write` of the directory.
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
export async function setTempMountLocation(directory: string): Promise<void> {
  if (!directory.isWellFormed()) throw new TypeError("the temporary location has a name that is no UTF-8");
  requirePermission({ name: "write", path: directory });
  await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  location = await canonicalizePath(directory);
}

/**
 * Takes off what crashed processes have left at the temporary location. What a living process uses, this one too, stays,
 * and so does what another user has made.
 *
 * @param options how to unmount.
 * @returns an error for each directory that could not be cleaned; it is there for the next time.
 *
 * Needs the permissions `ffi` and `read` (of the temporary directory), and CAP_SYS_ADMIN where there is something to do.
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
  for await (const entry of Deno.readDir(tempLocation())) {
    if (!entry.isDirectory || !NAME.test(entry.name)) continue;
    try {
      await cleanUp(join(tempLocation(), entry.name), options);
    } catch (error) {
      errors.push(error instanceof Error ? error : new Error(String(error)));
    }
  }
  return errors;
}

async function cleanUp(directory: string, options: UnmountOptions): Promise<void> {
  using lock = lockAlone(directory);
  if (lock === undefined) return;
  // Another user's directory could be exchanged, from here on, for a link to where something else is mounted.
  if (statx(lock.fd, "", AT_EMPTY_PATH, STATX_UID).uid !== geteuid()) return;
  await unmountAll(join(directory, ROOT), { noFollow: true, ...options });
  for (const path of [join(directory, ROOT), directory]) {
    try {
      rmdir(path);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error; // another clean-up was here
    }
  }
}

/** Locks a directory; undefined where somebody else has, or where it has gone. */
function lockAlone(directory: string): OwnedFd | undefined {
  try {
    using stack = new DisposableStack();
    const lock = stack.use(open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    flock(lock.fd, LOCK_EX | LOCK_NB);
    stack.move();
    return lock;
  } catch (error) {
    if (isErrno(error, "EAGAIN", "ENOENT", "ENOTDIR", "ELOOP")) return undefined;
    throw error;
  }
}

function tempLocation(): string {
  if (location !== undefined) return location;
  const granted = Deno.permissions.querySync({ name: "env", variable: "TMPDIR" }).state === "granted";
  const directory = granted ? Deno.env.get("TMPDIR") : undefined;
  return directory?.startsWith("/") ? directory : "/tmp";
}
