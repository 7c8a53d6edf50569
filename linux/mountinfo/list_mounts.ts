/**
 * The mount table of a process.
 *
 * @module
 */

import { checkPid } from "../pidfd.ts";
import { O_RDONLY } from "../syscalls/constants.ts";
import { open, readAll } from "../syscalls/mod.ts";
import { type MountFilter, type MountInfo, parseMountInfo } from "./parse_mountinfo.ts";

/**
 * Lists the mounts of a mount namespace: that of this process, or of another.
 *
 * Needs the permission `ffi`.
 *
 * @param options `filter` selects mounts; `pid` is the process whose mount table is read, this process if left out.
 * @returns the mounts, in the order of mountinfo.
 * @throws {SyscallError} ENOENT if the process does not exist, EACCES without the right to trace it.
 * @throws {TypeError} if the pid is not a positive whole number.
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
  if (pid !== undefined) checkPid(pid);
  return readMountTable(filter, pid);
}

/**
 * Reads the mount table of a process: {@linkcode listMounts} without a promise.
 *
 * Needs the permission `ffi`.
 *
 * @param filter selects mounts.
 * @param pid the process, this one if left out.
 * @returns the mounts, in the order of mountinfo.
 */
export function readMountTable(filter?: MountFilter, pid?: number): MountInfo[] {
  using table = open(`/proc/${pid ?? "self"}/mountinfo`, O_RDONLY);
  const bytes = readAll(table.fd, tableMemory, READ);
  tableMemory = new Uint8Array(bytes.buffer);
  return parseMountInfo(bytes, filter);
}

/**
 * Finds a mount in the mount table of this process.
 *
 * Needs the permission `ffi`.
 *
 * @param id the mount's id in mountinfo, not the unique one.
 * @returns the mount; undefined if there is none with this id.
 */
export async function findMountById(id: number): Promise<MountInfo | undefined> {
  const [mount] = await listMounts({ filter: (info) => info.id === id ? { stop: true } : { skip: true } });
  return mount;
}

// bytes. The kernel writes the table into a page, and a line that does not fit there once more for the next read(2): with
// long lines, such as those of overlays, small reads are twice as fast, and with short ones as fast as large ones.
const READ = 2048;

// Reused, as large as the largest table so far: allocating it takes as long as the read into it.
let tableMemory = new Uint8Array(64 * 1024);
