/**
 * Whether a server has to answer for a file system.
 *
 * @module
 */

import { withDisposable } from "../../ffi/fd.ts";
import { ensureAnswers, openCached } from "../path/cached_lookup.ts";
import type { WaitOptions } from "../path/wait.ts";
import { STATMOUNT_FS_TYPE } from "../syscalls/constants.ts";
import { isServed } from "./filesystem_types.ts";
import { findMountById } from "./list_mounts.ts";
import { statmountBy } from "./lookup.ts";
import { hasBlockDevice, type MountId, statxMountUniqueFd } from "./statx_mount.ts";

/**
 * Whether a call that asks a file system, such as statfs(2), may wait for a server.
 *
 * Needs the permission `ffi`. Before Linux 6.13, it reads the mount table for a file system without a block device.
 *
 * @param found the mount of a path.
 * @returns true for a file system with a server, and for an overlay, whose layers may be on one.
 */
export async function mayWaitForServer(found: MountId): Promise<boolean> {
  if (hasBlockDevice(found)) return false; // all file systems with a server but fuseblk have none
  const fsType = typeOf(found) ?? (await findMountById(found.mountId))?.fsType ?? "";
  return isServed(fsType) || fsType === "overlay";
}

/** A unique id is never used again, and a mount keeps its file system: a type that was read once stays true. */
function typeOf(found: MountId): string | undefined {
  if (!found.isUnique) return undefined;
  const known = types.get(found.mountId);
  if (known !== undefined) return known;
  const fsType = statmountBy(found, STATMOUNT_FS_TYPE)?.fsType;
  if (fsType === undefined) return undefined;
  if (types.size >= MOST_TYPES) types.clear();
  types.set(found.mountId, fsType);
  return fsType;
}

const types = new Map<number, string>();
const MOST_TYPES = 256;

/**
 * Waits until the server of a path answers, if the path is on a file system with a server.
 *
 * Needs the permission `ffi`.
 *
 * @param path the path; it need not exist.
 * @param wait the timeout and the signal.
 * @throws {SyscallError} ETIMEDOUT if a server on its path does not answer.
 */
export async function ensureServerAnswers(path: string, wait: WaitOptions): Promise<void> {
  const found = openCached(path);
  if (found === "enoent") return;
  if (found !== "uncached" && !await mayWaitForServer(withDisposable(found, statxMountUniqueFd))) return;
  await ensureAnswers(path, wait);
}
