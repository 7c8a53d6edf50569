/**
 * Starting a Deno worker.
 *
 * @module
 */

import { check } from "./errno.ts";
import { OwnedFd, OwnedFds } from "./fd.ts";
import { errno, libc } from "./libc.ts";

const DESCRIPTORS = 10; // that Deno 2.9 opens for the event loop of a worker, and some more

/** `EFD_CLOEXEC` of sys/eventfd.h. */
const EFD_CLOEXEC = 0x80000;

/**
 * Starts a worker. Deno ends the whole process if it has no descriptors for the worker's event loop, so this function
 * looks first whether it can open as many.
 *
 * @param code the worker's code.
 * @returns the worker, which the caller terminates.
 * @throws {SyscallError} EMFILE or ENFILE if too few descriptors are left.
 */
export function startWorker(code: string): Worker {
  {
    using fds = new OwnedFds();
    for (let count = 0; count < DESCRIPTORS; count++) {
      fds.add(new OwnedFd(check(libc().eventfd(0, EFD_CLOEXEC), errno[0], "eventfd")));
    }
  }
  return new Worker("data:text/javascript," + encodeURIComponent(code), { type: "module" });
}
