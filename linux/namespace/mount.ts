/**
 * Calls in another mount namespace, made by a thread that has joined it.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { checkPid } from "../pidfd.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import { procFdPath } from "../path/mount_target.ts";
import type { WaitOptions } from "../path/wait.ts";
import { O_RDONLY } from "../syscalls/constants.ts";
import { kernelFeatures } from "../syscalls/features.ts";
import { ExplainedError } from "../spec/error.ts";
import { open } from "../syscalls/mod.ts";

/**
 * A mount namespace: the pid of a process in it, the path of a namespace file (/proc/PID/ns/mnt or a bind mount of it),
 * or an open descriptor of such a file. The descriptor stays open and belongs to the caller.
 */
export type MountNamespace = number | string | OwnedFd;

/**
 * Opens a mount namespace.
 *
 * @param namespace the namespace.
 * @param wait the timeout and the signal for a server on the path of a namespace file.
 * @returns a new descriptor; it keeps the namespace alive after its last process has exited.
 * @throws {SyscallError} ENOENT if the process or the file does not exist, EACCES without permission to open it.
 * @throws {TypeError} for a pid that is not a positive whole number.
 */
export async function openNamespace(namespace: MountNamespace, wait: WaitOptions = {}): Promise<OwnedFd> {
  if (namespace instanceof OwnedFd) return open(procFdPath(namespace), O_RDONLY);
  if (typeof namespace === "string") return await openNamespaceFile(namespace, wait);
  checkPid(namespace);
  return open(`/proc/${namespace}/ns/mnt`, O_RDONLY);
}

async function openNamespaceFile(path: string, wait: WaitOptions): Promise<OwnedFd> {
  try {
    return await openMayWait(path, O_RDONLY, wait);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new SyscallError({ syscall: "open", errno: error.errno, path });
  }
}

/**
 * Explains why a mount namespace can't be opened or joined.
 *
 * @param error the error of {@linkcode openNamespace} or {@linkcode enterNamespace}.
 * @param namespace the namespace.
 * @returns an error with a sentence, or any other error unchanged.
 */
export function explainNamespace(error: unknown, namespace: MountNamespace): unknown {
  if (!isErrno(error, "EPERM", "EACCES", "ENOENT", "EINVAL")) return error;
  if (error.syscall !== "setns" && error.syscall !== "open") return error;
  return new ExplainedError(error, [], reasons[error.code]?.(namespace));
}

function nameOf(namespace: MountNamespace): string {
  if (typeof namespace === "number") return `the mount namespace of process ${namespace}`;
  return typeof namespace === "string" ? namespace : "the mount namespace";
}

function notPermitted(namespace: MountNamespace): string {
  return `not permitted to join ${
    nameOf(namespace)
  }: it needs CAP_SYS_ADMIN in its user namespace and in this ` +
    "process's, CAP_SYS_CHROOT, and the permission to ptrace the process";
}

const reasons: Record<string, (namespace: MountNamespace) => string> = {
  EPERM: notPermitted,
  EACCES: notPermitted,
  ENOENT: (namespace) =>
    typeof namespace === "number"
      ? `there is no process ${namespace}`
      : `${nameOf(namespace)} does not exist`,
  EINVAL: (namespace) => `${nameOf(namespace)} is no mount namespace`,
};

/**
 * Starts a thread and has it join a mount namespace.
 *
 * @param namespace the open namespace.
 * @returns the thread, which the caller disposes of.
 * @throws {SyscallError} EPERM without permission to join, EINVAL if the descriptor is not that of a mount namespace.
 */
export async function enterNamespace(namespace: OwnedFd): Promise<NamespaceThread> {
  kernelFeatures(); // probe here: the other namespace may have another /proc, or none
  return await NamespaceThread.start(namespace);
}

/**
 * Runs a function whose calls look up every path in another mount namespace.
 *
 * @param namespace the namespace.
 * @param work the function.
 * @returns the result of the function.
 * @throws {SyscallError} EPERM without permission to join, EINVAL if it is not a mount namespace, ENOENT if the process or
 * the file does not exist.
 */
export async function runInNamespace<T>(namespace: MountNamespace, work: () => Promise<T>): Promise<T> {
  using opened = await openNamespace(namespace);
  await using thread = await enterNamespace(opened);
  return await thread.run(work);
}
