/**
 * Small text files, such as those of /proc and /sys.
 *
 * @module
 */

import { O_RDONLY } from "../syscalls/constants.ts";
import { open, readAll } from "../syscalls/mod.ts";

/**
 * Reads a text file, on this thread.
 *
 * Needs the permission `ffi`.
 *
 * @param path the file, on no file system with a server.
 * @returns its text.
 * @throws {SyscallError} if the file can't be opened or read.
 */
export function readTextFile(path: string): string {
  using file = open(path, O_RDONLY);
  return decoder.decode(readAll(file.fd, new Uint8Array(SMALL)));
}

const decoder = new TextDecoder();
const SMALL = 4096; // bytes: to zero the 64 KiB of readAll() takes longer than to read the file
