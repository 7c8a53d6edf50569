/**
 * Unmounting FUSE file systems through fusermount3(1).
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { isRedirected } from "../../ffi/libc.ts";
import type { WaitOptions } from "../path/wait.ts";
import { findProgram, mayRun, runHelper } from "../path/program.ts";

/**
 * Unmounts a FUSE mount through fusermount3 or fusermount: they are set-user-ID root, and keep /etc/mtab up to date.
 *
 * @param target the mountpoint.
 * @param lazy passes `-z`, which is MNT_DETACH.
 * @param wait how long the helpers may run together.
 * @returns whether a helper unmounted it. False if no helper is installed, permitted or succeeds: the caller falls back
 * to umount2(2).
 */
export async function unmountFuse(
  target: string,
  lazy: boolean,
  { timeout, signal }: WaitOptions & { readonly timeout: number },
): Promise<boolean> {
  if (isRedirected()) return false; // a helper runs in the mount namespace of this process, not in that of the target
  if (!target.isWellFormed()) return false; // Deno.Command encodes arguments as UTF-8, which would change this path
  const end = performance.now() + timeout;
  for (const name of ["fusermount3", "fusermount"]) {
    const program = findProgram(name);
    if (program === undefined || !mayRun(program)) continue;
    try {
      const wait = { timeout: Math.max(0, end - performance.now()), signal };
      const { code } = await runHelper(program, ["-u", ...(lazy ? ["-z"] : []), "--", target], wait);
      if (code === 0) return true;
    } catch (error) {
      if (isErrno(error, "EMFILE", "ENFILE", "ENOMEM", "EAGAIN")) return false; // umount2(2) needs no descriptor
      if (isErrno(error, "ETIMEDOUT")) return false; // umount2(2) can succeed where a helper hangs
      throw error;
    }
  }
  return false;
}
