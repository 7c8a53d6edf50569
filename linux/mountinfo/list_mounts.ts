/**
 * The mount table of a process.
 *
 * @module
 */

import { O_RDONLY } from "../syscalls/constants.ts";
import { open, readAll } from "../syscalls/mod.ts";
import { type MountFilter, type MountInfo, parseMountInfo } from "./parse_mountinfo.ts";

/**
 * The mounts of this process's mount namespace, or of another's.
 *
 * Needs the permission `ffi`.
 *
 * @param options a filter, and the process (its pid) whose table is read.
 * @returns the mounts in the kernel's order.
 * @throws {SyscallError} ENOENT where there is no such process, EACCES where it may not be looked at.
 *
 * @example
 * ```ts
 * import { fsTypeFilter, listMounts } from "@denomount/mount";
 *
 * for (const mount of await listMounts({ filter: fsTypeFilter("proc") })) console.log(mount.mountpoint);
 * ```
 */
// deno-lint-ignore require-await
export async function listMounts(options: { filter?: MountFilter; pid?: number } = {}): Promise<MountInfo[]> {
  const { filter, pid } = options;
  if (pid !== undefined && (!Number.isSafeInteger(pid) || pid <= 0)) {
    throw new TypeError(`a pid is a positive whole number, not ${pid}`);
  }
  using table = open(`/proc/${pid ?? "self"}/mountinfo`, O_RDONLY);
  const bytes = readAll(table.fd, tableMemory);
  tableMemory = new Uint8Array(bytes.buffer);
  return parseMountInfo(bytes, filter);
}

// Kept, as large as the largest table so far: fresh memory costs as much as reading into it.
let tableMemory = new Uint8Array(64 * 1024);
