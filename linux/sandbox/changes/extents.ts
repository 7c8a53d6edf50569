/**
 * The content of a file in parts: data and holes.
 *
 * @module
 */

import { isErrno } from "../../../ffi/errno.ts";
import { SEEK_DATA, SEEK_HOLE } from "../../syscalls/constants.ts";
import { lseek } from "../../syscalls/mod.ts";

/** A part of a file. */
export interface Extent {
  /** Its offset, in bytes. */
  readonly offset: number;
  /** Its end, in bytes. */
  readonly end: number;
}

/**
 * The parts of a file that have data. All between them is holes, which read as zeros.
 *
 * @param fd a descriptor to read.
 * @param size the file's size in bytes.
 * @returns the parts; the whole file if its file system does not know holes.
 */
export function* dataOf(fd: number, size: number): Generator<Extent> {
  for (let offset = 0; offset < size;) {
    const from = seek(fd, offset, SEEK_DATA) ?? size;
    if (from >= size) return;
    const end = Math.min(seek(fd, from, SEEK_HOLE) ?? size, size);
    if (end <= from) return; // another process has cut the file
    yield { offset: from, end };
    offset = end;
  }
}

/** Undefined at the end of the file. */
function seek(fd: number, offset: number, whence: number): number | undefined {
  try {
    return lseek(fd, offset, whence);
  } catch (error) {
    if (!isErrno(error, "ENXIO")) throw error;
    return undefined;
  }
}
