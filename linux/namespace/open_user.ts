/**
 * The user namespace of a call, whose maps every new mount of the call gets.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { shown } from "../../ffi/text.ts";
import { checkPid } from "../pidfd.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import type { WaitOptions } from "../path/wait.ts";
import { ExplainedError } from "../spec/error.ts";
import { CLONE_NEWUSER, NS_GET_NSTYPE, O_RDONLY } from "../syscalls/constants.ts";
import { requireIdMapping } from "../syscalls/features.ts";
import { ioctl } from "../syscalls/mod.ts";
import { userNamespaceOf } from "./user.ts";

/**
 * A user namespace: the pid of a process in it, the path of a namespace file (/proc/PID/ns/user or a bind mount of it),
 * or an open descriptor of such a file, as `createUserNamespace` and `userNamespaceOf` return it. The descriptor stays
 * open and belongs to the caller.
 */
export type UserNamespace = number | string | OwnedFd;

/** A user namespace for the length of a call. */
export interface OpenedUserNamespace extends Disposable {
  /** Its descriptor. */
  readonly fd: OwnedFd;
}

/**
 * Opens a user namespace for the length of a call.
 *
 * @param namespace the namespace.
 * @param wait the timeout and the signal for a server on the path of a namespace file.
 * @returns its descriptor, closed at the end of the scope unless it is the caller's own.
 * @throws {TypeError} before Linux 5.12, for a pid that is not a positive whole number, and for what is no user namespace.
 * @throws {SyscallError} ENOENT if the file does not exist, ESRCH if the process does not, EPERM or EACCES without
 * permission to open it, ETIMEDOUT if a server on the path does not answer.
 */
export async function openUserNamespace(
  namespace: UserNamespace,
  wait: WaitOptions = {},
): Promise<OpenedUserNamespace> {
  requireIdMapping();
  if (typeof namespace === "number") checkPid(namespace);
  const isOwn = namespace instanceof OwnedFd;
  const fd = isOwn
    ? namespace
    : typeof namespace === "number"
    ? await userNamespaceOf(namespace)
    : await openMayWait(namespace, O_RDONLY, wait);
  const opened = { fd, [Symbol.dispose]: () => isOwn ? undefined : fd.close() };
  if (isUserNamespace(fd)) return opened;
  opened[Symbol.dispose]();
  throw new TypeError(`${nameOf(namespace)} is no user namespace`);
}

/** mount_setattr(2) fails with EINVAL for another descriptor, as it does for a file system that can't be mapped. */
function isUserNamespace({ fd }: OwnedFd): boolean {
  try {
    return ioctl(fd, NS_GET_NSTYPE, 0) === CLONE_NEWUSER;
  } catch (error) {
    // EBADF: a descriptor with O_PATH.
    if (isErrno(error, "ENOTTY", "EBADF", "EINVAL", "EACCES", "EPERM")) return false;
    throw error;
  }
}

/**
 * Explains why a user namespace can't be opened.
 *
 * @param error the error of {@linkcode openUserNamespace}.
 * @param namespace the namespace.
 * @returns an error with a sentence, or any other error unchanged.
 */
export function explainUserNamespace(error: unknown, namespace: UserNamespace): unknown {
  if (isErrno(error, "ESRCH") || (typeof namespace === "number" && isErrno(error, "ENOENT"))) {
    return new ExplainedError(error, [], `there is no process ${namespace}`);
  }
  if (isErrno(error, "ENOENT")) return new ExplainedError(error, [], `${nameOf(namespace)} does not exist`);
  if (!isErrno(error, "EPERM", "EACCES")) return error;
  const needed = typeof namespace === "number" ? ": it needs the permission to ptrace the process" : "";
  return new ExplainedError(error, [], `not permitted to open ${nameOf(namespace)}${needed}`);
}

function nameOf(namespace: UserNamespace): string {
  if (typeof namespace === "number") return `the user namespace of process ${namespace}`;
  return typeof namespace === "string" ? shown(namespace) : "the descriptor of userNamespace";
}
