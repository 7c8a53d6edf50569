/**
 * Terminating signals, deferred until the mounts of this process are unmounted.
 *
 * @module
 */

import { ignoreSignal, SyscallError } from "../linux/mod.ts";
import { readTextFile } from "../linux/path/text_file.ts";
import { openPidfd, signalPidfd } from "../linux/pidfd.ts";

const numbers = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const; // asm-generic/signal.h

/** A signal that terminates a process by default. */
export type TerminatingSignal = keyof typeof numbers;

const terminatingSignals = Object.keys(numbers) as TerminatingSignal[];

let ignoredAtStart: readonly TerminatingSignal[] | undefined;

/**
 * Remembers the signals that were ignored when the program started, as nohup(1) ignores SIGHUP. Deno handles SIGHUP, SIGINT
 * and SIGTERM itself as soon as anything listens for a signal, and Deno 2.9 listens for SIGUSR1 some milliseconds after the
 * program has started: so this is called first of all.
 */
export function rememberIgnoredSignals(): void {
  try {
    ignoredAtStart ??= ignoredIn(Deno.readTextFileSync("/proc/self/status"));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error; // then it is read later, by libc: Deno reads /proc with all permissions only
  }
}

function initiallyIgnored(): readonly TerminatingSignal[] {
  return ignoredAtStart ??= ignoredIn(readTextFile("/proc/self/status"));
}

function ignoredIn(status: string): TerminatingSignal[] {
  const [, mask = "0"] = /^SigIgn:\s*([0-9a-f]+)/m.exec(status) ?? [];
  return terminatingSignals.filter((signal) => BigInt(`0x${mask}`) >> BigInt(numbers[signal] - 1) & 1n);
}

/** Defers the terminating signals until it is disposed. */
export class DeferredSignals implements Disposable {
  #status: number | undefined;
  readonly #abort = new AbortController();
  readonly #handlers: [TerminatingSignal, () => void][];

  /**
   * Begins to defer the signals.
   *
   * @param onSignal called for each signal.
   */
  constructor(onSignal: (signal: TerminatingSignal) => void = () => {}) {
    const signals = terminatingSignals.filter((signal) => !initiallyIgnored().includes(signal));
    this.#handlers = signals.map((signal) => [signal, () => {
      this.#status ??= 128 + numbers[signal];
      this.#abort.abort();
      onSignal(signal);
    }]);
    for (const [signal, handler] of this.#handlers) Deno.addSignalListener(signal, handler);
    // Deno's first listener resets the ignored signals; they must stay ignored here and in the child processes.
    for (const signal of initiallyIgnored()) ignoreSignal(numbers[signal]);
  }

  /**
   * Returns the exit status of the first signal.
   *
   * @returns 128 plus the signal number, as in a shell; undefined if no signal arrived.
   */
  async status(): Promise<number | undefined> {
    await listenersCalled(); // also for a signal that arrived during a synchronous call
    return this.#status;
  }

  /**
   * Waits for work that the first signal ends.
   *
   * @param work the work; it undoes what it has done when its signal aborts, and throws the signal's reason.
   * @returns its result; undefined if a signal has ended it.
   */
  async abortable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    const { signal } = this.#abort;
    try {
      return await work(signal);
    } catch (error) {
      if (signal.aborted && error === signal.reason) return undefined;
      throw error;
    }
  }

  /** Stops deferring the signals. */
  [Symbol.dispose](): void {
    for (const [signal, handler] of this.#handlers) Deno.removeSignalListener(signal, handler);
  }
}

const SIGURG = 23; // asm-generic/signal.h
const LISTENERS_TIMEOUT = 1000; // ms

/**
 * Waits until the listeners of all signals that have arrived were called. Another thread of Deno reads the signals, in the
 * order of their numbers, and wakes up late on a busy machine. SIGURG has a higher number and is sent later: it is read last.
 * The listeners of one pass of the event loop are called in any order, so it is sent twice.
 */
async function listenersCalled(): Promise<void> {
  let called = Promise.withResolvers<void>();
  const listener = () => called.resolve();
  // The first timer of a process takes 4 ms, and so does clearTimeout() without one.
  const timer = isBlocked(SIGURG) ? setTimeout(listener, LISTENERS_TIMEOUT) : undefined;
  Deno.addSignalListener("SIGURG", listener);
  try {
    sendSigurg();
    await called.promise;
    if (timer !== undefined) return;
    called = Promise.withResolvers();
    sendSigurg();
    await called.promise;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error; // no descriptor is left, or a filter forbids the call
    await new Promise((resolve) => setTimeout(resolve, 10));
  } finally {
    if (timer !== undefined) clearTimeout(timer);
    Deno.removeSignalListener("SIGURG", listener);
  }
}

/** Whether the process does not get a signal. The threads of Deno have the mask that it was started with. */
function isBlocked(signal: number): boolean {
  const [, mask = "0"] = /^SigBlk:\s*([0-9a-f]+)/m.exec(readTextFile("/proc/self/status")) ?? [];
  return Boolean(BigInt(`0x${mask}`) >> BigInt(signal - 1) & 1n);
}

function sendSigurg(): void {
  using self = openPidfd(Deno.pid);
  signalPidfd(self, SIGURG);
}
