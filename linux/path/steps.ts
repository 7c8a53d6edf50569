/**
 * Long work in steps, between which the event loop runs.
 *
 * @module
 */

const STEP = 1; // ms

/** The time of one step after the other. */
export class Steps {
  #end = performance.now() + STEP;

  /** Whether the step is over: then {@linkcode next} begins another one. */
  get isOver(): boolean {
    return performance.now() >= this.#end;
  }

  /** Lets the event loop run. A timer of 0 ms would take two milliseconds. */
  async next(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#end = performance.now() + STEP;
  }
}
