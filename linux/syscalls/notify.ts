/**
 * The system calls for events: fanotify_init(2), fanotify_mark(2), eventfd(2) and poll(2).
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { offThread } from "../../ffi/memory.ts";
import { struct } from "../../ffi/scratch.ts";

/**
 * fanotify_init(2): creates a queue of events.
 *
 * Needs the permission `ffi`.
 *
 * @param flags `FAN_…` flags, which should include `FAN_CLOEXEC`.
 * @returns its descriptor, from which the events are read.
 * @throws {SyscallError} EINVAL for flags that the kernel does not have, EMFILE at the user's limit.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * if (linux.hasFeature("mountEvents")) {
 *   using queue = linux.fanotifyInit(linux.FAN_REPORT_MNT | linux.FAN_NONBLOCK | linux.FAN_CLOEXEC);
 *   console.log(queue.fd);
 * }
 * ```
 */
export function fanotifyInit(flags: number): OwnedFd {
  return new OwnedFd(check(libc().fanotify_init(flags, 0), errno[0], "fanotify_init"));
}

/**
 * fanotify_mark(2): watches the object of a descriptor.
 *
 * Needs the permission `ffi`; for a mount namespace CAP_SYS_ADMIN in its user namespace, and Linux 6.15.
 *
 * @param queue the descriptor of {@linkcode fanotifyInit}.
 * @param flags `FAN_MARK_…` flags.
 * @param mask the events, such as `FAN_MNT_ATTACH`.
 * @param fd the object to watch, such as an open /proc/PID/ns/mnt.
 * @throws {SyscallError} EPERM without the right to watch it, ENOSPC at the user's limit.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * if (linux.hasFeature("mountEvents")) {
 *   using queue = linux.fanotifyInit(linux.FAN_REPORT_MNT | linux.FAN_NONBLOCK | linux.FAN_CLOEXEC);
 *   using namespace = linux.open("/proc/self/ns/mnt", linux.O_RDONLY);
 *   linux.fanotifyMark(
 *     queue.fd,
 *     linux.FAN_MARK_ADD | linux.FAN_MARK_MNTNS,
 *     linux.FAN_MNT_ATTACH | linux.FAN_MNT_DETACH,
 *     namespace.fd,
 *   );
 * }
 * ```
 */
export function fanotifyMark(queue: number, flags: number, mask: number, fd: number): void {
  check(libc().fanotify_mark(queue, flags, BigInt(mask), fd, null), errno[0], "fanotify_mark");
}

/**
 * eventfd(2): creates a descriptor that wakes a poll(2).
 *
 * Needs the permission `ffi`.
 *
 * @param flags `EFD_…` flags.
 * @returns the descriptor. It becomes readable when a 64-bit number other than 0 is written to it.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { EFD_CLOEXEC, eventfd, write } from "@denomount/mount/linux";
 *
 * using wake = eventfd(EFD_CLOEXEC);
 * write(wake.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
 * ```
 */
export function eventfd(flags: number): OwnedFd {
  return new OwnedFd(check(libc().eventfd(0, flags), errno[0], "eventfd"));
}

/** A descriptor for poll(2), and the events to wait for. */
export interface PollFd {
  /** The descriptor. */
  fd: number;
  /** The events, `POLL…` flags. */
  events: number;
}

/**
 * poll(2) on another thread, without a timeout: waits for an event on one of the descriptors. They must stay open until
 * the promise settles.
 *
 * Needs the permission `ffi`.
 *
 * @param fds the descriptors.
 * @returns the events of each descriptor, `POLL…` flags.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { EFD_CLOEXEC, eventfd, POLLIN, pollOffThread, write } from "@denomount/mount/linux";
 *
 * using wake = eventfd(EFD_CLOEXEC);
 * setTimeout(() => write(wake.fd, new Uint8Array(BigUint64Array.of(1n).buffer)), 10);
 * const [revents = 0] = await pollOffThread([{ fd: wake.fd, events: POLLIN }]);
 * if (!(revents & POLLIN)) throw new Error("the eventfd is not readable");
 * ```
 */
export async function pollOffThread(fds: readonly PollFd[]): Promise<number[]> {
  const table = struct(8 * fds.length); // struct pollfd
  for (const [index, { fd, events }] of fds.entries()) {
    table.setInt32(8 * index, fd, true); // fd
    table.setInt16(8 * index + 4, events, true); // events
  }
  const memory = new Uint8Array(table.buffer);
  const count = BigInt(fds.length);
  while (await offThread(() => libc().poll_nonblocking(memory, count, -1), memory) < 0) {
    // EINTR, if a signal handler ran on that thread: try again. Any other error also fails here, with its errno.
    check(libc().poll(memory, count, 0), errno[0], "poll");
  }
  return fds.map((_, index) => table.getInt16(8 * index + 6, true)); // revents
}
