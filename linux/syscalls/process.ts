/**
 * The system calls on processes.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { __WALL, P_PIDFD, SIGKILL, WEXITED } from "./constants.ts";

const SYS_pidfd_send_signal = 424; // asm-generic/unistd.h
const SYS_pidfd_open = 434;

/**
 * geteuid(2): the effective user id of this process.
 *
 * Needs the permission `ffi`.
 *
 * @returns the id, in this process's user namespace.
 *
 * @example
 * ```ts
 * import { geteuid } from "@denomount/mount/linux";
 *
 * console.log(geteuid() === 0 ? "root" : "an ordinary user");
 * ```
 */
export function geteuid(): number {
  return libc().geteuid();
}

/**
 * pidfd_open(2): opens a process. The descriptor refers to this process also after its pid is reused.
 *
 * Needs the permission `ffi` and Linux 5.3.
 *
 * @param pid the process's pid.
 * @returns its descriptor.
 * @throws {SyscallError} ESRCH if the process does not exist.
 *
 * @example
 * ```ts
 * import { pidfdOpen } from "@denomount/mount/linux";
 *
 * using self = pidfdOpen(Deno.pid);
 * ```
 */
export function pidfdOpen(pid: number): OwnedFd {
  return new OwnedFd(check(libc().pidfd_open(SYS_pidfd_open, pid, 0), errno[0], "pidfd_open", `${pid}`));
}

/**
 * pidfd_send_signal(2): sends a signal to a process.
 *
 * Needs the permission `ffi` and Linux 5.1.
 *
 * @param pidfd the process's descriptor.
 * @param signal the signal's number; 0 only checks that the process exists.
 * @throws {SyscallError} ESRCH if the process has been waited for.
 *
 * @example
 * ```ts
 * import { pidfdOpen, pidfdSendSignal } from "@denomount/mount/linux";
 *
 * using self = pidfdOpen(Deno.pid);
 * pidfdSendSignal(self.fd, 0);
 * ```
 */
export function pidfdSendSignal(pidfd: number, signal: number): void {
  check(
    libc().pidfd_send_signal(SYS_pidfd_send_signal, pidfd, signal, null, 0),
    errno[0],
    "pidfd_send_signal",
  );
}

const siginfo = new Uint8Array(128); // sizeof(siginfo_t); its content is not used

/**
 * waitid(2) with P_PIDFD: waits for a child to end, whatever its exit signal. It blocks the event loop.
 *
 * Needs the permission `ffi` and Linux 5.4.
 *
 * @param pidfd the descriptor of a child of this process.
 * @throws {SyscallError} ECHILD if it is not a child, or has been waited for.
 *
 * @example
 * ```ts
 * import { isErrno, pidfdOpen, waitidPidfd } from "@denomount/mount/linux";
 *
 * using self = pidfdOpen(Deno.pid);
 * try {
 *   waitidPidfd(self.fd);
 * } catch (error) {
 *   if (!isErrno(error, "ECHILD")) throw error; // a process is not its own child
 * }
 * ```
 */
export function waitidPidfd(pidfd: number): void {
  check(libc().waitid(P_PIDFD, pidfd, siginfo, WEXITED | __WALL), errno[0], "waitid");
}

const P_ALL = 0; // linux/wait.h
const WNOHANG = 1;
const CLD_EXITED = 1; // asm-generic/siginfo.h

/** How a child has ended. */
export interface EndedChild {
  /** Its pid. */
  readonly pid: number;
  /** Its exit status; undefined if a signal has ended it. */
  readonly code?: number;
  /** The number of the signal that has ended it. */
  readonly signal?: number;
}

/**
 * waitid(2) with P_ALL and WNOHANG: waits for any child that has ended. Deno would wait in vain for one that it has
 * started itself.
 *
 * Needs the permission `ffi`.
 *
 * @returns the child; undefined if none has ended.
 * @throws {SyscallError} with the call's errno, but for ECHILD.
 *
 * @example
 * ```ts
 * import { waitidAny } from "@denomount/mount/linux";
 *
 * console.log(waitidAny()); // undefined
 * ```
 */
export function waitidAny(): EndedChild | undefined {
  const info = new Uint8Array(new ArrayBuffer(128));
  const result = libc().waitid(P_ALL, 0, info, WEXITED | WNOHANG);
  const own = errno[0];
  if (result < 0 && own === ECHILD) return undefined;
  check(result, own, "waitid");
  const fields = new Int32Array(info.buffer);
  const pid = fields[SI_PID] ?? 0;
  if (pid === 0) return undefined;
  const status = fields[SI_STATUS] ?? 0;
  return fields[SI_CODE] === CLD_EXITED ? { pid, code: status } : { pid, signal: status };
}

// siginfo_t of a 64-bit machine, asm-generic/siginfo.h: the index of each int.
const SI_CODE = 2;
const SI_PID = 4;
const SI_STATUS = 6;

const ECHILD = 10; // asm-generic/errno-base.h

/**
 * kill(2): sends a signal to a process group.
 *
 * Needs the permission `ffi`.
 *
 * @param group the id of the group: the pid of its leader, which must not have been waited for.
 * @param signal the signal's number.
 * @throws {SyscallError} ESRCH if the group has no process, EINVAL for a number that is no signal.
 *
 * @example
 * ```ts
 * import { signalGroup } from "@denomount/mount/linux";
 *
 * const child = new Deno.Command("sleep", { args: ["60"], detached: true }).spawn();
 * signalGroup(child.pid, 15);
 * console.log((await child.status).signal); // SIGTERM
 * ```
 */
export function signalGroup(group: number, signal: number): void {
  if (!Number.isSafeInteger(group) || group <= 1) throw new TypeError(`${group} is not a process group`);
  check(libc().kill(-group, signal), errno[0], "kill", `${-group}`);
}

/**
 * signal(2) with SIG_IGN: ignores a signal in this process and in the programs that it starts. Deno's own listeners for
 * the signal are not called any more.
 *
 * Needs the permission `ffi`.
 *
 * @param signal the signal's number, such as 1 for SIGHUP.
 *
 * @example
 * ```ts
 * import { ignoreSignal } from "@denomount/mount/linux";
 *
 * ignoreSignal(1); // as nohup(1) does
 * ```
 */
export function ignoreSignal(signal: number): void {
  libc().signal(signal, Deno.UnsafePointer.create(1n)); // SIG_IGN, asm-generic/signal-defs.h
}

/**
 * kill(2): kills a process group with SIGKILL. Does nothing if it has no process.
 *
 * Needs the permission `ffi`.
 *
 * @param group the id of the group: the pid of its leader, which must not have been waited for.
 *
 * @example
 * ```ts
 * import { killGroup } from "@denomount/mount/linux";
 *
 * const child = new Deno.Command("sleep", { args: ["60"], detached: true }).spawn();
 * killGroup(child.pid);
 * await child.status;
 * ```
 */
export function killGroup(group: number): void {
  if (!Number.isSafeInteger(group) || group <= 1) throw new TypeError(`${group} is not a process group`);
  libc().kill(-group, SIGKILL);
}
