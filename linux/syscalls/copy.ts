/**
 * copy_file_range(2) and write(2) on another thread, for amounts of data that would hold the event loop.
 *
 * @module
 */

import { libc } from "../../ffi/libc.ts";
import { offThread } from "../../ffi/memory.ts";

/**
 * copy_file_range(2) on another thread: copies a part of a file to the same offset of another one. The file system may
 * share the blocks. The errno is lost.
 *
 * Needs the permission `ffi`.
 *
 * @param from a descriptor that is open for reading.
 * @param to a descriptor that is open for writing.
 * @param offset the offset in both files, in bytes.
 * @param length how many bytes to copy.
 * @returns how many bytes were copied; 0 at the end of the file; -1 if the call failed.
 *
 * @example
 * ```ts
 * import { copyFileRangeOffThread, O_CREAT, O_RDONLY, O_WRONLY, open, unlink } from "@denomount/mount/linux";
 *
 * const path = `/tmp/example-${Deno.pid}`;
 * using from = open("/etc/hostname", O_RDONLY);
 * using to = open(path, O_WRONLY | O_CREAT, 0o600);
 * console.log(await copyFileRangeOffThread(from.fd, to.fd, 0, 4096));
 * unlink(path);
 * ```
 */
export async function copyFileRangeOffThread(
  from: number,
  to: number,
  offset: number,
  length: number,
): Promise<number> {
  const [input, output] = [offsetOf(offset), offsetOf(offset)];
  const call = () => libc().copy_file_range_nonblocking(from, input, to, output, BigInt(length), 0);
  return Number(await offThread(call, input, output));
}

/**
 * write(2) on another thread: writes once. The errno is lost.
 *
 * Needs the permission `ffi`.
 *
 * @param fd a descriptor that is open for writing.
 * @param bytes the bytes to write.
 * @returns how many bytes were written; -1 if the call failed.
 *
 * @example
 * ```ts
 * import { O_WRONLY, open, writeOffThread } from "@denomount/mount/linux";
 *
 * using nothing = open("/dev/null", O_WRONLY);
 * console.log(await writeOffThread(nothing.fd, new Uint8Array(1 << 20))); // 1048576
 * ```
 */
export async function writeOffThread(fd: number, bytes: Uint8Array<ArrayBuffer>): Promise<number> {
  return Number(await offThread(() => libc().write_nonblocking(fd, bytes, BigInt(bytes.length)), bytes));
}

function offsetOf(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new BigInt64Array([BigInt(bytes)]).buffer);
}
