/**
 * Lets the event loop run on during long work.
 *
 * @module
 */

const SLICE = 4; // ms of work until other callbacks run

/** Counts the time of a piece of work, and ends it when its signal is aborted. */
export class Turns {
  readonly #signal: AbortSignal | undefined;
  #since = performance.now();

  /**
   * Begins the first slice.
   *
   * @param signal ends the work.
   */
  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /**
   * Whether the slice is over.
   *
   * @returns true if the caller must await {@linkcode next}.
   */
  get isOver(): boolean {
    this.#signal?.throwIfAborted();
    return performance.now() - this.#since > SLICE;
  }

  /** Lets other callbacks run. */
  async next(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve));
    this.#signal?.throwIfAborted();
    this.#since = performance.now();
  }
}
