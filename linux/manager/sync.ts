/**
 * Making the record and the kernel agree after a crash or a reboot.
 *
 * @module
 */

import { uniqueMountAt } from "../mountinfo/statx_mount.ts";
import { join } from "../path/path.ts";
import { AT_SYMLINK_NOFOLLOW } from "../syscalls/constants.ts";
import { tryLock } from "../temp/locked_directory.ts";
import { unmountRecursive } from "../unmount/recursive.ts";
import { type Manager, PREFIX, toActiveMount } from "./context.ts";
import { isAttached, loopHandler } from "./loop_handler.ts";
import type { MountRow, Row } from "./record.ts";
import {
  isElsewhere,
  isHere,
  isOfThisBoot,
  lockOrMake,
  namesIn,
  removeDirectoryOf,
  undo,
  unmountAllOf,
} from "./undo.ts";

/** What a sync has found. */
export interface SyncResult {
  /** The activations that a crash had left half made, or half unmounted: they are gone. */
  removed: string[];
  /** The activations whose mounts are gone, after a reboot for example. */
  lost: string[];
}

/**
 * Makes the record and the kernel agree.
 *
 * @param manager the manager.
 * @returns what was found.
 * @throws {AggregateError} with an error for each activation that could not be put right; the others are.
 */
export async function sync(manager: Manager): Promise<SyncResult> {
  const result: SyncResult = { removed: [], lost: [] };
  const errors: unknown[] = [];
  for (const row of await manager.record.all()) {
    try {
      await syncOne(manager, row, result);
    } catch (error) {
      errors.push(error);
    }
  }
  try {
    await removeUnrecorded(manager);
  } catch (error) {
    errors.push(error);
  }
  if (errors.length > 0) {
    const messages = errors.map((error) => error instanceof Error ? error.message : String(error));
    throw new AggregateError(errors, `not everything could be put right: ${messages.join("; ")}`);
  }
  return result;
}

async function syncOne(manager: Manager, row: Row, { removed, lost }: SyncResult): Promise<void> {
  if (row.state === "activating" || row.state === "deactivating") {
    if (await undo(manager, row) === "undone") removed.push(row.name);
  } else if (row.state === "lost" || await loseIncomplete(manager, row)) lost.push(row.name);
}

/** Returns true for an activation some of whose mounts are gone, when the others are unmounted. */
async function loseIncomplete(manager: Manager, row: Row): Promise<boolean> {
  if (isElsewhere(manager, row) || await isComplete(manager, row)) return false;
  const { record } = manager;
  using lock = lockOrMake(row.directory);
  if (lock === undefined) return false; // another process is just deactivating it
  const now = await record.find(row.name);
  if (now?.id !== row.id || now.state !== "active") {
    removeDirectoryOf(row);
    return false;
  }
  if (await isComplete(manager, now)) return false;
  if (isOfThisBoot(manager, now)) await unmountAllOf(manager, now, {});
  await record.setState(now.id, "lost");
  removeDirectoryOf(now);
  return true;
}

async function isComplete(manager: Manager, row: Row): Promise<boolean> {
  if (!isHere(manager, row)) return false;
  for (const mount of row.mounts) if (!await isMounted(manager, mount)) return false;
  return true;
}

async function isMounted({ handlers }: Manager, row: MountRow): Promise<boolean> {
  const { mountId, mountPoint, handler } = row;
  if (mountId !== undefined) return `${uniqueMountAt(mountPoint, AT_SYMLINK_NOFOLLOW)?.mountId}` === mountId;
  // What a handler of the user's own makes without a mount can't be looked at.
  return handler === undefined || handlers.get(handler) !== loopHandler ||
    await isAttached(toActiveMount(row));
}

/** Removes the directories of activations that a crash has ended before they were recorded, or after they were forgotten. */
async function removeUnrecorded({ root, record }: Manager): Promise<void> {
  for (const name of namesIn(root).filter((name) => name.startsWith(PREFIX))) {
    const directory = join(root, name);
    using lock = tryLock(directory);
    if (lock === undefined) continue; // another process is just beginning or ending it
    if ((await record.all()).some((row) => row.directory === directory)) continue;
    await unmountRecursive(directory, { noFollow: true });
    removeDirectoryOf({ directory });
  }
}
