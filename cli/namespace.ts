/**
 * Another process's mount namespace, for those commands that take `--namespace`.
 *
 * @module
 */

import { isErrno } from "../linux/mod.ts";

/**
 * Does something in the mount namespace of a process; where that can't be looked at or joined, a sentence says so.
 *
 * @param pid the process; undefined for this one.
 * @param work what to do.
 * @returns what it returns.
 */
export async function ofProcess<T>(pid: number | undefined, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (pid === undefined || !(error instanceof Error)) throw error;
    const sentence = sentenceFor(error, pid);
    throw sentence === undefined ? error : new Error(`${sentence} (${error.message})`, { cause: error });
  }
}

function sentenceFor(error: Error, pid: number): string | undefined {
  const isOfNamespace = isErrno(error, "ENOENT", "ESRCH", "EPERM", "EACCES", "EINVAL") &&
    (error.syscall === "setns" || error.syscall === "pidfd_open" || error.path?.startsWith(`/proc/${pid}/`));
  if (!isOfNamespace) return undefined;
  return error.code === "EPERM" || error.code === "EACCES"
    ? `not permitted to look into the mount namespace of process ${pid}: run as root`
    : `there is no process ${pid}`;
}
