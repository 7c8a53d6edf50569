/**
 * Reading a mountinfo file.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { decodeName } from "../../ffi/text.ts";
import { O_RDONLY } from "../syscalls/constants.ts";
import { open, read } from "../syscalls/mod.ts";
import { type MountInfo, type MountinfoParser, PIECE } from "./parse_mountinfo.ts";

/**
 * Opens a mountinfo file. The descriptor keeps the mount namespace alive after the process has ended.
 *
 * Needs the permission `ffi`.
 *
 * @param process the process: "self" or a pid.
 * @returns its descriptor; poll(2) returns POLLPRI when the table has changed.
 * @throws {SyscallError} ENOENT if the process does not exist, EACCES without the right to trace it.
 */
export function openMountinfo(process: string): OwnedFd {
  return open(`/proc/${process}/mountinfo`, O_RDONLY);
}

/** The ids of the mounts that were read from mountinfo before statmount(2) took over. */
export type ReadIds = ReadonlySet<number>;

/**
 * Reads a mountinfo file, in steps. Where mounts are mounted or unmounted between two reads, the kernel goes on after the
 * last mount.
 *
 * Needs the permission `ffi`.
 *
 * @param table the open file.
 * @param parser takes the mounts.
 * @param options whether to stop if statmount(2) would be faster, and whether to keep `propagate_from`.
 * @returns the ids of the mounts so far, if it has stopped; undefined at the end of the file.
 */
export function* readMountinfo(
  table: OwnedFd,
  parser: MountinfoParser,
  { mayStop = false, propagation = false } = {},
): Generator<void, ReadIds | undefined> {
  const lines = new LineReader(table);
  const ids = new Set<number>();
  const before = (info: MountInfo) => {
    if (!propagation && info.optional.includes("propagate_from:")) info.optional = withoutFrom(info.optional);
    if (mayStop) ids.add(info.id);
  };
  for (let text = lines.next(); text !== ""; text = lines.next()) {
    if (parser.parse(text, before)) return undefined;
    if (mayStop && isSlow(parser, lines.time)) return ids;
    yield;
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
