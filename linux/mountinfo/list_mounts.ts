/**
 * The mount table of a process.
 *
 * The kernel writes `propagate_from` into mountinfo, and looks for it among all peers of each slave mount. In a slave
 * namespace, such as that of a systemd service with PrivateTmp=, that takes much longer than everything else:
 * statmount(2) leaves it out. Everywhere else mountinfo is the faster way, for a mount takes one line instead of one call.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { isRedirected } from "../../ffi/libc.ts";
import { checkPid } from "../pidfd.ts";
import { inSteps } from "../path/steps.ts";
import { LSMT_ROOT } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { addIdMaps } from "./id_maps.ts";
import { oldIdOf, subtreeIds } from "./mount_ids.ts";
import { type MountFilter, type MountInfo, MountinfoParser } from "./parse_mountinfo.ts";
import { openMountinfo, type ReadIds, readMountinfo } from "./read_mountinfo.ts";
import { readMounts } from "./read_mounts.ts";

/** What {@linkcode listMounts} lists. */
export interface ListMountsOptions {
  /** Selects mounts. */
  filter?: MountFilter;
  /** The process whose mount table is read; this process if left out. */
  pid?: number;
  /**
   * Whether `optional` has `propagate_from:N`, the nearest peer group that the mount gets mounts from. In a slave mount
   * namespace, the kernel looks for it among all peers, for each mount.
   */
  propagation?: boolean;
}

/**
 * Lists the mounts of a mount namespace: that of this process, or of another. The event loop runs meanwhile.
 *
 * Needs the permission `ffi`.
 *
 * @param options which mounts, and of which process.
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
export async function listMounts(options: ListMountsOptions = {}): Promise<MountInfo[]> {
  const { pid } = options;
  if (pid !== undefined) checkPid(pid);
  using table = openMountinfo(`${pid ?? "self"}`);
  return await inSteps(list(table, options));
}

/**
 * The mounts of this process's namespace, in steps.
 *
 * Needs the permission `ffi`.
 *
 * @returns the mounts, in the order of mountinfo.
 */
export function* listMountsInSteps(): Generator<void, MountInfo[]> {
  using table = openMountinfo("self");
  return yield* list(table, {});
}

function* list(
  table: OwnedFd,
  { filter, pid, propagation = false }: ListMountsOptions,
): Generator<void, MountInfo[]> {
  const parser = new MountinfoParser(filter);
  // A thread in another namespace takes ten times as long for a call, and another process may have another root directory.
  const mayStop = !propagation && pid === undefined && !isRedirected() && hasFeature("statmount");
  const read = yield* readMountinfo(table, parser, { mayStop, propagation });
  if (read !== undefined) yield* listByStatmount(parser, read);
  yield* addIdMaps(parser.mapped, pid);
  return parser.mounts;
}

/**
 * Finds a mount in the mount table of this process.
 *
 * Needs the permission `ffi`.
 *
 * @param id the mount's id in mountinfo, not the unique one.
 * @param propagation whether to look for `propagate_from`.
 * @returns the mount; undefined if there is none with this id.
 */
export async function findMountById(id: number, propagation = false): Promise<MountInfo | undefined> {
  const filter = (info: MountInfo) => info.id === id ? { stop: true } : { skip: true };
  const [mount] = await listMounts({ filter, propagation });
  return mount;
}

/** Lists the mounts that mountinfo has after those that were read: both ways have the order of the unique ids. */
function* listByStatmount(parser: MountinfoParser, read: ReadIds): Generator<void, void> {
  const ids = yield* subtreeIds(LSMT_ROOT);
  let first = Math.min(ids.length, read.size + NEW);
  while (first > 0 && !read.has(oldIdOf(ids[first - 1] ?? 0) ?? -1)) first--;
  const take = (mount: MountInfo | undefined) =>
    mount !== undefined && mount.mountpoint !== "" && parser.select(mount);
  yield* readMounts(ids.slice(first), take);
}

const NEW = 64; // mounts that were mounted or unmounted meanwhile
