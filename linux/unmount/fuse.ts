/**
 * Unmounting FUSE file systems through fusermount3(1).
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { isRedirected } from "../../ffi/libc.ts";
import type { WaitOptions } from "../path/cached_lookup.ts";
import { findProgram, mayRun, runHelper } from "../path/program.ts";

/**
 * Has fusermount3 or fusermount take a FUSE mount off, so that its own records and rights count.
 *
 * @param target the mountpoint.
 * @param lazy with `-z`, as MNT_DETACH.
 * @param patience how long they may take together.
 * @returns whether one of them did; where none is there, may be run or succeeds, umount2(2) decides.
 */
export async function unmountFuse(target: string, lazy: boolean, patience: WaitOptions): Promise<boolean> {
  if (isRedirected()) return false; // they would look for the path in this process's mount namespace
  if (!target.isWellFormed()) return false; // Deno would tell a program another name
  for (const name of ["fusermount3", "fusermount"]) {
    const program = findProgram(name);
    if (program === undefined || !mayRun(program)) continue;
    try {
      const { code } = await runHelper(program, ["-u", ...(lazy ? ["-z"] : []), "--", target], patience);
      if (code === 0) return true;
    } catch (error) {
      if (isErrno(error, "ETIMEDOUT")) return false; // umount2(2) takes off what a helper hangs on
      throw error;
    }
  }
  return false;
}
