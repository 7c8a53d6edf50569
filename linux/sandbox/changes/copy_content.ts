/**
 * Copies the content of a file, without its holes.
 *
 * @module
 */

import { SEEK_SET } from "../../syscalls/constants.ts";
import {
  copyFileRangeOffThread,
  lseek,
  read,
  readOffThread,
  write,
  writeOffThread,
} from "../../syscalls/mod.ts";
import { dataOf, type Extent } from "./extents.ts";
import { withPath } from "./upper.ts";

const SMALL = 256 * 1024; // bytes that are copied on this thread
const CHUNK = 1024 * 1024;
const RANGE = 64 << 20; // bytes of a copy_file_range(2), which may copy them one by one

/** What is copied. */
export interface ContentCopy {
  /** The size of the content, in bytes. */
  readonly size: number;
  /** The file's path, for errors. */
  readonly path: string;
  /** Ends the copy. */
  readonly signal: AbortSignal | undefined;
}

/**
 * Copies the content of a file into an empty one of the same size.
 *
 * @param from a descriptor to read.
 * @param to a descriptor to write.
 * @param copy the size, the path for errors, and the signal.
 * @throws {SyscallError} for a failed read or write.
 */
export async function copyContent(from: number, to: number, copy: ContentCopy): Promise<void> {
  for (const { offset, end } of dataOf(from, copy.size)) {
    let at = offset;
    while (end - at > SMALL) {
      copy.signal?.throwIfAborted();
      const copied = await copyFileRangeOffThread(from, to, at, Math.min(end - at, RANGE));
      if (copied <= 0) break; // other file systems, or the file was cut
      at += copied;
    }
    await copyByReading(from, to, { offset: at, end }, copy);
  }
}

async function copyByReading(
  from: number,
  to: number,
  { offset, end }: Extent,
  copy: ContentCopy,
): Promise<void> {
  if (offset >= end) return;
  lseek(from, offset, SEEK_SET);
  lseek(to, offset, SEEK_SET);
  const buffer = new Uint8Array(Math.min(end - offset, CHUNK));
  for (let at = offset; at < end;) {
    copy.signal?.throwIfAborted();
    const part = buffer.subarray(0, Math.min(end - at, CHUNK));
    const isSmall = part.length <= SMALL;
    const tried = isSmall ? -1 : await readOffThread(from, part);
    const length = tried < 0 ? withPath(copy.path, () => read(from, part)) : tried; // this thread has the errno
    if (length === 0) return; // another process has cut the file
    await writeWhole(to, part.subarray(0, length), isSmall, copy.path);
    at += length;
  }
}

async function writeWhole(fd: number, bytes: Uint8Array<ArrayBuffer>, isSmall: boolean, path: string) {
  for (let at = 0; at < bytes.length;) {
    const rest = bytes.subarray(at);
    const tried = isSmall ? -1 : await writeOffThread(fd, rest);
    at += tried < 0 ? withPath(path, () => write(fd, rest)) : tried;
  }
}
