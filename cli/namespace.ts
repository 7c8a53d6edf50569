/**
 * Errors about another process's mount namespace, for the subcommands that take `--namespace`.
 *
 * @module
 */

import { isErrno } from "../linux/mod.ts";

/**
 * Calls a function. If it fails because the process's mount namespace can't be read or joined, the error says so.
 *
 * @param pid the process; undefined for this process.
 * @param work the function.
 * @returns the result of the function.
 */
export async function withNamespaceErrors<T>(
  pid: number | undefined,
  work: () => T | Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (pid === undefined || !(error instanceof Error)) throw error;
    const sentence = sentenceFor(error, pid);
    throw sentence === undefined ? error : new Error(`${sentence} (${error.message})`, { cause: error });
  }
}

function sentenceFor(error: Error, pid: number): string | undefined {
  const isAboutNamespace = isErrno(error, "ENOENT", "ESRCH", "EPERM", "EACCES", "EINVAL") &&
    (error.syscall === "setns" || error.syscall === "pidfd_open" || error.path?.startsWith(`/proc/${pid}/`));
  if (!isAboutNamespace) return undefined;
  return error.code === "EPERM" || error.code === "EACCES"
    ? `no permission to access the mount namespace of process ${pid}: run as root`
    : `there is no process ${pid}`;
}
