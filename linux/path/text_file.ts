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
  return new TextDecoder().decode(readAll(file.fd));
}
