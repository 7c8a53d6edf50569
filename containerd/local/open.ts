/**
 * Opening the directories of a snapshotter and its record, for one process at a time.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { shown } from "../../ffi/text.ts";
import { join } from "../../linux/path/path.ts";
import { getdents64, mkdir } from "../../linux/syscalls/mod.ts";
import { tryLock } from "../../linux/temp/locked_directory.ts";
import { FailedPreconditionError } from "../errors.ts";
import { SnapshotRecord } from "./record.ts";

/** The directory of the snapshots. */
export const SNAPSHOTS = "snapshots";
/** The directory of what is being deleted. */
export const TRASH = "trash";

/**
 * Makes the directories of a snapshotter, locks them and opens the record.
 *
 * @param root the canonical path of the root directory.
 * @param stack gets the lock and the record.
 * @returns both.
 * @throws {FailedPreconditionError} if another process has it open, or the record of existing snapshots is missing.
 */
export async function openDirectories(
  root: string,
  stack: AsyncDisposableStack,
): Promise<{ lock: OwnedFd; record: SnapshotRecord }> {
  for (const name of [SNAPSHOTS, TRASH]) makeDirectory(join(root, name));
  const lock = stack.use(lockSnapshots(join(root, SNAPSHOTS)));
  const record = stack.use(await SnapshotRecord.open(join(root, "snapshots.db")));
  await refuseLostRecord(record, lock, root);
  return { lock, record };
}

/**
 * Makes a directory for root alone, unless it exists.
 *
 * @param path its path.
 */
export function makeDirectory(path: string): void {
  try {
    mkdir(path, 0o700);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
}

function lockSnapshots(directory: string): OwnedFd {
  const lock = tryLock(directory);
  if (lock !== undefined) return lock;
  throw failed("open the snapshotter", `another process has the snapshots in ${shown(directory)} open`);
}

/** A new record would give the numbers of the directories again. */
async function refuseLostRecord(record: SnapshotRecord, snapshots: OwnedFd, root: string): Promise<void> {
  if (!await record.isNew() || getdents64(snapshots.fd).length === 0) return;
  throw failed(
    "open the snapshotter",
    `${
      shown(root)
    } has snapshots, but their record snapshots.db is gone: restore it, or move the snapshots away`,
  );
}

/**
 * The error of a call that the state of a snapshot or of its directory forbids.
 *
 * @param action what was to be done.
 * @param details why it can't be.
 */
export const failed = (action: string, details: string): FailedPreconditionError =>
  new FailedPreconditionError("FAILED_PRECONDITION", { action, details });
