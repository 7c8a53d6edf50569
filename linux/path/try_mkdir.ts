/**
 * Making a directory that may exist.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { mkdir } from "../syscalls/mod.ts";

/**
 * Makes a directory, unless its path exists.
 *
 * @param path its path.
 * @param mode its mode.
 * @returns false if the path exists.
 * @throws {SyscallError} with another errno than EEXIST.
 */
export function tryMkdir(path: string, mode: number): boolean {
  try {
    mkdir(path, mode);
    return true;
  } catch (error) {
    if (isErrno(error, "EEXIST")) return false;
    throw error;
  }
}
