/**
 * Signals that end a program, held until what it has mounted is off again.
 *
 * @module
 */

import { ignoreSignal, O_RDONLY, open, readAll } from "../linux/mod.ts";

const numbers = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const; // asm-generic/signal.h

/** A signal that ends a program. */
export type EndingSignal = keyof typeof numbers;

const endingSignals = Object.keys(numbers) as EndingSignal[];

let before: readonly EndingSignal[] | undefined;

/** What was ignored when the program started, as nohup(1) has it with SIGHUP. */
function ignoredBefore(): readonly EndingSignal[] {
  if (before !== undefined) return before;
  using status = open("/proc/self/status", O_RDONLY);
  const [, mask = "0"] = /^SigIgn:\s*([0-9a-f]+)/m.exec(new TextDecoder().decode(readAll(status.fd))) ?? [];
  return before = endingSignals.filter((signal) => BigInt(`0x${mask}`) >> BigInt(numbers[signal] - 1) & 1n);
}

/** Holds the signals until the end of its scope. */
export class DeferredSignals implements Disposable {
  #status: number | undefined;
  readonly #handlers: [EndingSignal, () => void][];

  /**
   * Begins to hold them.
   *
   * @param onSignal called for each.
   */
  constructor(onSignal: (signal: EndingSignal) => void = () => {}) {
    const signals = endingSignals.filter((signal) => !ignoredBefore().includes(signal));
    this.#handlers = signals.map((signal) => [signal, () => {
      this.#status ??= 128 + numbers[signal];
      onSignal(signal);
    }]);
    for (const [signal, handler] of this.#handlers) Deno.addSignalListener(signal, handler);
    // With its first listener the runtime takes them all; ignored ones stay so, for the commands that are started too.
    for (const signal of ignoredBefore()) ignoreSignal(numbers[signal]);
  }

  /**
   * Whether one came.
   *
   * @returns the exit status that says so, as a shell has it; undefined where none came.
   */
  async status(): Promise<number | undefined> {
    await new Promise((resolve) => setTimeout(resolve)); // one that came during a call is delivered here
    return this.#status;
  }

  /** Gives them up. */
  [Symbol.dispose](): void {
    for (const [signal, handler] of this.#handlers) Deno.removeSignalListener(signal, handler);
  }
}
