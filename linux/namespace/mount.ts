/**
 * Work in another mount namespace, done by a thread that has joined it.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { O_RDONLY } from "../syscalls/constants.ts";
import { kernelFeatures } from "../syscalls/features.ts";
import { ExplainedError } from "../spec/error.ts";
import { open } from "../syscalls/mod.ts";

/**
 * A mount namespace: that of a process, by its pid; by the path of a namespace file, such as /proc/PID/ns/mnt or what it
 * is bound to; or by such a file's descriptor, which is only looked at.
 */
export type MountNamespace = number | string | OwnedFd;

/**
 * Opens a mount namespace.
 *
 * @param namespace which one.
 * @returns a descriptor of its own, which holds the namespace whatever becomes of its processes.
 * @throws {SyscallError} ENOENT where there is no such process or file, EACCES where it may not be looked at.
 */
export function openNamespace(namespace: MountNamespace): OwnedFd {
  if (namespace instanceof OwnedFd) return open(`/proc/self/fd/${namespace.fd}`, O_RDONLY);
  if (typeof namespace === "string") return open(namespace, O_RDONLY);
  if (!Number.isSafeInteger(namespace) || namespace <= 0) {
    throw new TypeError(`a pid is a positive whole number, not ${namespace}`);
  }
  return open(`/proc/${namespace}/ns/mnt`, O_RDONLY);
}

/**
 * Finds out why a mount namespace can't be opened or joined.
 *
 * @param error what was thrown.
 * @param namespace the namespace.
 * @returns the error with a sentence, where there is one; else the error as it was.
 */
export function explainNamespace(error: unknown, namespace: MountNamespace): unknown {
  if (!isErrno(error, "EPERM", "EACCES", "ENOENT", "EINVAL")) return error;
  if (error.syscall !== "setns" && error.syscall !== "open") return error;
  return new ExplainedError(error, [], sentences[error.code]?.(namespace));
}

const name = (namespace: MountNamespace) =>
  typeof namespace === "number"
    ? `the mount namespace of process ${namespace}`
    : typeof namespace === "string"
    ? namespace
    : "the mount namespace";

const refused = (namespace: MountNamespace) =>
  `not permitted to join ${
    name(namespace)
  }: it needs CAP_SYS_ADMIN and CAP_SYS_CHROOT, there too, and the right to ` +
  "trace the process";

const sentences: Record<string, (namespace: MountNamespace) => string> = {
  EPERM: refused,
  EACCES: refused,
  ENOENT: (namespace) =>
    typeof namespace === "number" ? `there is no process ${namespace}` : `${name(namespace)} does not exist`,
  EINVAL: (namespace) => `${name(namespace)} is no mount namespace`,
};

/**
 * Starts a thread in a mount namespace.
 *
 * @param namespace the open namespace.
 * @returns the thread, to be disposed of.
 * @throws {SyscallError} why it can't be joined.
 */
export async function enterNamespace(namespace: OwnedFd): Promise<NamespaceThread> {
  kernelFeatures(); // tried here: there, /proc may be another or none
  return await NamespaceThread.start(namespace);
}

/**
 * Works in a mount namespace: every path in it is looked up there.
 *
 * @param namespace which one.
 * @param work what to do.
 * @returns what it returns.
 * @throws {SyscallError} EPERM where it may not be joined, EINVAL where it is no mount namespace.
 */
export async function runInNamespace<T>(namespace: MountNamespace, work: () => Promise<T>): Promise<T> {
  using opened = openNamespace(namespace);
  await using thread = await enterNamespace(opened);
  return await thread.run(work);
}
