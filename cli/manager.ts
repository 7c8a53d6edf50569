/**
 * The mount manager of the command: where it keeps its mounts and its record.
 *
 * @module
 */

import { AT_FDCWD, isErrno, O_PATH, statx, STATX_BASIC_STATS } from "../linux/mod.ts";
import type { LocalMountManager } from "../linux/manager/local.ts";
import { openMayWait } from "../linux/path/cached_lookup.ts";
import { join } from "../linux/path/path.ts";
import { isRoot } from "./self.ts";

/** The options of the subcommands that use the manager. */
export interface ManagerFlags {
  /** The directory of its mounts and its record. */
  root?: string;
  /** More directories in which its modifiers make files. */
  allowDir?: string[];
}

/**
 * Opens the manager.
 *
 * @param flags where it keeps its mounts, and where it may make files.
 * @returns the manager.
 */
export async function openManager({ root, allowDir = [] }: ManagerFlags): Promise<LocalMountManager> {
  const { LocalMountManager } = await import("../linux/manager/local.ts"); // with a database
  return await LocalMountManager.open({ root: managerRoot(root), allowedRoots: allowDir.map(absolute) });
}

/**
 * The root directory of the manager.
 *
 * @param root the directory that the user has given.
 * @returns that one; otherwise /var/lib/denomount for root, and $XDG_STATE_HOME/denomount for other users.
 * @throws {Error} if the user's home directory is not known.
 */
export function managerRoot(root?: string): string {
  if (root !== undefined) return absolute(root);
  if (isRoot() && ownsSystem()) return "/var/lib/denomount";
  const state = variable("XDG_STATE_HOME");
  if (state?.startsWith("/")) return join(state, "denomount"); // a relative path is to be ignored
  const home = variable("HOME");
  if (home?.startsWith("/")) return join(home, ".local/state/denomount");
  throw new Error("neither XDG_STATE_HOME nor HOME names a directory for the mount manager: use --root");
}

/**
 * Whether the manager's root directory exists. If not, it has no activations.
 *
 * @param root the directory.
 * @returns false if it does not exist.
 */
export async function managerExists(root: string): Promise<boolean> {
  try {
    (await openMayWait(root, O_PATH)).close();
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

/** Root of a user namespace does not own /var/lib, unless the namespace has a root file system of its own. */
function ownsSystem(): boolean {
  return statx(AT_FDCWD, "/var/lib", 0, STATX_BASIC_STATS).uid === 0;
}

/**
 * Reads a variable of the environment, if Deno permits it.
 *
 * @param name its name.
 * @returns its value; undefined if it is not set or can't be read.
 */
export function variable(name: string): string | undefined {
  const granted = Deno.permissions.querySync({ name: "env", variable: name }).state === "granted";
  return granted ? Deno.env.get(name) : undefined;
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : join(Deno.cwd(), path);
}
