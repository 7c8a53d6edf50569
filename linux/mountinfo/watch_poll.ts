/**
 * One poll(2) for the descriptors of all watches. Each poll(2) holds one of Deno's 32 threads for as long as it waits.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { EFD_CLOEXEC, EFD_NONBLOCK, POLLIN } from "../syscalls/constants.ts";
import { eventfd, type PollFd, pollOffThread, read, write } from "../syscalls/mod.ts";

/** The descriptors of one watch. */
interface Waiter {
  readonly fds: readonly PollFd[];
  readonly resolve: (revents: number[] | undefined) => void;
  readonly reject: (error: unknown) => void;
  isCancelled: boolean;
}

/** A wait that {@linkcode pollTogether} has begun. */
export interface PollWait {
  /** The events of each descriptor; undefined after `cancel()`. The descriptors must stay open until it settles. */
  readonly revents: Promise<number[] | undefined>;
  /** Ends the wait. */
  cancel(): void;
}

let waiters: Waiter[] = [];
let wake: OwnedFd | undefined; // open while poll(2) runs

/**
 * Waits for an event on descriptors, together with all other waits of this process.
 *
 * Needs the permission `ffi`.
 *
 * @param fds the descriptors, and the events to wait for.
 * @returns the wait.
 */
export function pollTogether(fds: readonly PollFd[]): PollWait {
  const { promise: revents, resolve, reject } = Promise.withResolvers<number[] | undefined>();
  const waiter: Waiter = { fds, resolve, reject, isCancelled: false };
  waiters.push(waiter);
  if (wake) interrupt(wake);
  else poll();
  return {
    revents,
    cancel() {
      waiter.isCancelled = true;
      if (wake) interrupt(wake);
    },
  };
}

/** Runs until no watch waits. */
async function poll(): Promise<void> {
  try {
    using interruption = wake = eventfd(EFD_CLOEXEC | EFD_NONBLOCK);
    while (waiters.length > 0) await pollOnce(interruption);
  } catch (error) {
    for (const { reject } of waiters.splice(0)) reject(error);
  } finally {
    wake = undefined;
    if (waiters.length > 0) poll(); // a watch began while the last ones ended
  }
}

async function pollOnce(interruption: OwnedFd): Promise<void> {
  const polled = waiters;
  const fds = polled.flatMap((waiter) => waiter.fds);
  waiters = [];
  try {
    const [woken = 0, ...revents] = await pollOffThread([{ fd: interruption.fd, events: POLLIN }, ...fds]);
    if (woken) drain(interruption);
    for (const waiter of polled) {
      const own = revents.splice(0, waiter.fds.length);
      if (waiter.isCancelled) waiter.resolve(undefined);
      else if (own.some((events) => events !== 0)) waiter.resolve(own);
      else waiters.push(waiter);
    }
  } catch (error) {
    for (const { reject } of polled) reject(error);
  }
}

function interrupt(wake: OwnedFd): void {
  write(wake.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
}

function drain(wake: OwnedFd): void {
  try {
    read(wake.fd, new Uint8Array(8));
  } catch (error) {
    if (!isErrno(error, "EAGAIN")) throw error;
  }
}
