/**
 * Signals that end a program, held until what it has mounted is off again.
 *
 * @module
 */

const numbers = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const; // asm-generic/signal.h

/** A signal that ends a program. */
export type EndingSignal = keyof typeof numbers;

/** All of them. */
export const endingSignals = Object.keys(numbers) as EndingSignal[];

/** Holds the signals until the end of its scope. */
export class HeldSignals implements Disposable {
  #status: number | undefined;
  readonly #handlers: [EndingSignal, () => void][];

  /**
   * Begins to hold them.
   *
   * @param onSignal called for each.
   */
  constructor(onSignal: (signal: EndingSignal) => void = () => {}) {
    this.#handlers = endingSignals.map((signal) => [signal, () => {
      this.#status ??= 128 + numbers[signal];
      onSignal(signal);
    }]);
    for (const [signal, handler] of this.#handlers) Deno.addSignalListener(signal, handler);
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
