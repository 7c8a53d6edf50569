/**
 * A process by its descriptor (pidfd). A pid can be given to another process after the first has ended; a pidfd refers
 * to one process for as long as it is open.
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import { OwnedFd } from "../ffi/fd.ts";
import {
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_STATX_DONT_SYNC,
  O_RDONLY,
  PIDFD_GET_MNT_NAMESPACE,
  PIDFD_GET_USER_NAMESPACE,
  STATX_MNT_ID_UNIQUE,
} from "./syscalls/constants.ts";
import { hasFeature } from "./syscalls/features.ts";
import { ioctl, open, pidfdOpen, pidfdSendSignal, read, statx, waitidPidfd } from "./syscalls/mod.ts";

/** The descriptor of a process, closed at the end of its scope. */
export class Pidfd extends OwnedFd {
  /** The process's pid in this process's PID namespace. */
  readonly pid: number;

  /**
   * Takes ownership of a pidfd.
   *
   * @param fd an open pidfd that has no other owner.
   * @param pid the pid of its process.
   */
  constructor(fd: number, pid: number) {
    super(fd);
    this.pid = pid;
  }
}

/**
 * Refuses a number that can't be a pid.
 *
 * @param pid the number.
 * @throws {TypeError} if it is not a positive whole number.
 */
export function checkPid(pid: number): void {
  if (!Number.isSafeInteger(pid) || pid <= 0) {
    throw new TypeError(`a pid is a positive whole number, not ${pid}`);
  }
}

/**
 * Opens a process.
 *
 * Needs the permission `ffi` and Linux 5.3.
 *
 * @param pid the pid, in this process's PID namespace.
 * @returns its descriptor.
 * @throws {SyscallError} ESRCH if no process has this pid.
 */
export function openPidfd(pid: number): Pidfd {
  return new Pidfd(pidfdOpen(pid).release(), pid);
}

/**
 * Sends a signal to a process.
 *
 * Needs the permission `ffi` and Linux 5.1.
 *
 * @param process the process.
 * @param signal the signal's number; 0 only checks that the process exists.
 * @throws {SyscallError} ESRCH if it has been waited for, EPERM if this process may not signal it.
 */
export function signalPidfd(process: Pidfd, signal: number): void {
  pidfdSendSignal(process.fd, signal);
}

/**
 * Waits for a child to end, and reaps it. It blocks the event loop, so the child must be about to end.
 *
 * Needs the permission `ffi` and Linux 5.4.
 *
 * @param child a child of this process.
 */
export function waitPidfd(child: Pidfd): void {
  for (;;) {
    try {
      return waitidPidfd(child.fd);
    } catch (error) {
      if (isErrno(error, "ECHILD")) return; // already reaped, by a wait for any child with __WALL
      if (!isErrno(error, "EINTR")) throw error;
    }
  }
}

/** A kind of namespace, as its file in /proc/PID/ns is named. */
export type NamespaceKind = "mnt" | "user";

const requests: Readonly<Record<NamespaceKind, number>> = {
  mnt: PIDFD_GET_MNT_NAMESPACE,
  user: PIDFD_GET_USER_NAMESPACE,
};

/**
 * Opens a namespace of a process.
 *
 * Needs the permission `ffi` and the right to trace the process (ptrace(2), PTRACE_MODE_READ_FSCREDS).
 *
 * @param process the process.
 * @param kind the kind of namespace.
 * @returns the namespace's descriptor.
 * @throws {SyscallError} ESRCH if the process has ended, EPERM or EACCES without the right to trace it.
 */
export function namespaceOfPidfd(process: Pidfd, kind: NamespaceKind): OwnedFd {
  return hasFeature("pidfdNamespaces") ? namespaceByIoctl(process, kind) : namespaceInProc(process, kind);
}

/** Linux 6.11. */
function namespaceByIoctl(process: Pidfd, kind: NamespaceKind): OwnedFd {
  return new OwnedFd(ioctl(process.fd, requests[kind], 0, `pid ${process.pid}`));
}

/** The fallback. Signal 0 after the open proves that the pid still belonged to this process when its file was opened. */
function namespaceInProc(process: Pidfd, kind: NamespaceKind): OwnedFd {
  using opened = new DisposableStack();
  const namespace = opened.use(open(`/proc/${pidInProc(process)}/ns/${kind}`, O_RDONLY));
  signalPidfd(process, 0);
  opened.move();
  return namespace;
}

const fdinfo = new Uint8Array(512); // lines such as "Pid:\t123" and "NSpid:\t123\t1"
const decoder = new TextDecoder();

/** The unique id of a mounted /proc that belongs to this process's PID namespace. */
let ownProc: bigint | undefined;

/**
 * The pid of a process in the PID namespace that /proc belongs to, for a path such as /proc/PID/uid_map. It differs from
 * the pid in this process if /proc was mounted in another PID namespace. The fdinfo file of the pidfd has both pids. The PID
 * namespace of a proc mount never changes, so a mount that belongs to this one is remembered by its unique id.
 *
 * Needs the permission `ffi`.
 *
 * @param process the process.
 * @returns the pid; 0 or -1 if /proc does not show the process.
 */
export function pidInProc(process: Pidfd): number {
  const proc = statx(AT_FDCWD, "/proc", AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_MNT_ID_UNIQUE);
  const isUnique = (proc.mask & STATX_MNT_ID_UNIQUE) !== 0; // Linux 6.8
  if (isUnique && proc.mountId === ownProc) return process.pid;
  using info = open(`/proc/self/fdinfo/${process.fd}`, O_RDONLY);
  const text = decoder.decode(fdinfo.subarray(0, read(info.fd, fdinfo)));
  // /proc/self exists, so /proc belongs to this PID namespace or to one above it. One pid: to this one.
  const isOwn = /^NSpid:\t\d+$/m.test(text);
  if (isOwn && isUnique) ownProc = proc.mountId;
  return Number(/^Pid:\t(-?\d+)$/m.exec(text)?.[1]);
}
