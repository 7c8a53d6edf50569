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
import { decodeName } from "../../ffi/text.ts";
import { checkPid } from "../pidfd.ts";
import { Steps } from "../path/steps.ts";
import { LSMT_ROOT, O_RDONLY } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { open, read } from "../syscalls/mod.ts";
import { addIdMaps } from "./id_maps.ts";
import { oldIdOf, subtreeIds } from "./mount_ids.ts";
import { type MountFilter, type MountInfo, MountinfoParser, PIECE } from "./parse_mountinfo.ts";
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
  const { filter, pid, propagation = false } = options;
  if (pid !== undefined) checkPid(pid);
  using table = open(`/proc/${pid ?? "self"}/mountinfo`, O_RDONLY);
  const parser = new MountinfoParser(filter);
  // A thread in another namespace takes ten times as long for a call, and another process may have another root directory.
  const mayStop = !propagation && pid === undefined && !isRedirected() && hasFeature("statmount");
  const read = await readMountinfo(table, parser, { mayStop, propagation });
  if (read !== undefined) await listByStatmount(parser, read);
  await addIdMaps(parser.mapped, pid);
  return parser.mounts;
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

/** The ids of the mounts that were read from mountinfo before statmount(2) took over. */
type ReadIds = ReadonlySet<number>;

/**
 * Reads a mountinfo file.
 *
 * @param table the open file.
 * @param parser takes the mounts.
 * @param options whether to stop if statmount(2) would be faster, and whether to keep `propagate_from`.
 * @returns the ids of the mounts so far, if it has stopped; undefined at the end of the file.
 */
async function readMountinfo(
  table: OwnedFd,
  parser: MountinfoParser,
  { mayStop, propagation }: { mayStop: boolean; propagation: boolean },
): Promise<ReadIds | undefined> {
  const lines = new LineReader(table);
  const ids = new Set<number>();
  const steps = new Steps();
  const before = (info: MountInfo) => {
    if (!propagation && info.optional.includes("propagate_from:")) info.optional = withoutFrom(info.optional);
    if (mayStop) ids.add(info.id);
  };
  for (let text = lines.next(); text !== ""; text = lines.next()) {
    if (parser.parse(text, before)) return undefined;
    if (mayStop && isSlow(parser, lines.time)) return ids;
    if (steps.isOver) await steps.next();
  }
  return undefined;
}

function withoutFrom(optional: string): string {
  return optional.replace(/ ?propagate_from:\d+/, "");
}

const SLAVES = 16; // of fewer, the time says nothing
const SLOW = 0.005; // ms for a line: one of statmount(2) and its strings takes 0.003

/** Whether mountinfo takes longer than statmount(2) would, because of its slave mounts. */
function isSlow({ lines, slaves }: MountinfoParser, time: number): boolean {
  return slaves >= SLAVES && time > lines * SLOW;
}

/** Reads whole lines. */
class LineReader {
  /** How long the kernel took, in milliseconds. */
  time = 0;
  readonly #file: OwnedFd;
  #bytes = new Uint8Array(2 * PIECE);
  #start = 0; // of the bytes that are not returned yet
  #end = 0;
  #piece = READ; // small at first: in a slave namespace, even the first lines take long

  constructor(file: OwnedFd) {
    this.#file = file;
  }

  /** The next lines; "" at the end of the file. */
  next(): string {
    this.#bytes.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    const begin = performance.now();
    let isAtEnd = false;
    while (!isAtEnd && (this.#end < this.#piece || this.#lineEnd() === 0)) isAtEnd = this.#read() === 0;
    this.time += performance.now() - begin;
    this.#piece = Math.min(PIECE, this.#piece * 2);
    this.#start = isAtEnd ? this.#end : this.#lineEnd();
    return decodeName(this.#bytes.subarray(0, this.#start));
  }

  #read(): number {
    if (this.#bytes.length < this.#end + READ) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    const length = read(this.#file.fd, this.#bytes.subarray(this.#end, this.#end + READ));
    this.#end += length;
    return length;
  }

  #lineEnd(): number {
    return this.#bytes.lastIndexOf(NEWLINE, this.#end - 1) + 1;
  }
}

const NEWLINE = 10;

// bytes. The kernel writes the table into a page, and a line that does not fit there once more for the next read(2): with
// long lines, such as those of overlays, small reads are twice as fast, and with short ones as fast as large ones.
const READ = 2048;

/** Lists the mounts that mountinfo has after those that were read: both ways have the order of the unique ids. */
async function listByStatmount(parser: MountinfoParser, read: ReadIds): Promise<void> {
  const ids = await subtreeIds(LSMT_ROOT);
  let first = Math.min(ids.length, read.size + NEW);
  while (first > 0 && !read.has(oldIdOf(ids[first - 1] ?? 0) ?? -1)) first--;
  for await (const mounts of readMounts(ids.slice(first))) {
    for (const { mount } of mounts) if (mount.mountpoint !== "" && parser.select(mount)) return;
  }
}

const NEW = 64; // mounts that were mounted or unmounted meanwhile
