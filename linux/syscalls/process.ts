/**
 * The system calls on processes, one to one.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { __WALL, P_PIDFD, WEXITED } from "./constants.ts";

const SYS_pidfd_send_signal = 424; // asm-generic/unistd.h
const SYS_pidfd_open = 434;

/**
 * geteuid(2): the user whose rights this process has.
 *
 * Needs the permission `ffi`.
 *
 * @returns the user's id, as this user namespace has it.
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
 * pidfd_open(2): a descriptor for a process, which can't become another's.
 *
 * Needs the permission `ffi` and Linux 5.3.
 *
 * @param pid the process.
 * @returns its descriptor.
 * @throws {SyscallError} ESRCH where there is no such process.
 *
 * @example
 * ```ts
 * import { pidfdOpen } from "@denomount/mount/linux";
 *
 * using self = pidfdOpen(Deno.pid);
 * ```
 */
export function pidfdOpen(pid: number): OwnedFd {
  return new OwnedFd(check(libc().pidfd_open(SYS_pidfd_open, pid, 0), "pidfd_open", `${pid}`));
}

/**
 * pidfd_send_signal(2): sends a signal to a process by its descriptor.
 *
 * Needs the permission `ffi` and Linux 5.1.
 *
 * @param pidfd the process.
 * @param signal the signal; 0 only asks whether the process is there.
 * @throws {SyscallError} ESRCH where it has ended.
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
  check(libc().pidfd_send_signal(SYS_pidfd_send_signal, pidfd, signal, null, 0), "pidfd_send_signal");
}

const siginfo = new Uint8Array(128); // sizeof(siginfo_t); what it tells is of no interest

/**
 * waitid(2) for the process of a pidfd to end, whatever its exit signal.
 *
 * Needs the permission `ffi` and Linux 5.4. It blocks.
 *
 * @param pidfd a child of this process.
 * @throws {SyscallError} ECHILD where it is none, or was waited for.
 *
 * @example
 * ```ts
 * import { isErrno, pidfdOpen, waitidPidfd } from "@denomount/mount/linux";
 *
 * using self = pidfdOpen(Deno.pid);
 * try {
 *   waitidPidfd(self.fd);
 * } catch (error) {
 *   if (!isErrno(error, "ECHILD")) throw error; // nobody is a child of its own
 * }
 * ```
 */
export function waitidPidfd(pidfd: number): void {
  check(libc().waitid(P_PIDFD, pidfd, siginfo, WEXITED | __WALL), "waitid");
}

/**
 * signal(2) with SIG_IGN: ignores a signal, here and in the programs that are started from now on.
 *
 * Needs the permission `ffi`. A listener that Deno has for the signal hears nothing more.
 *
 * @param signal its number, such as 1 for SIGHUP.
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
