/**
 * Long work in steps, between which the event loop runs.
 *
 * @module
 */

const STEP = 1; // ms

/**
 * A timer of 0 ms takes two milliseconds. Deno before 2.4 has setImmediate() in node:timers only; later ones load that, which
 * takes four milliseconds, where setImmediate is first read.
 */
const soon = (call: () => void): unknown =>
  "setImmediate" in globalThis ? setImmediate(call) : setTimeout(call);

/**
 * Does work in steps of a millisecond. The first step is done at once.
 *
 * @param work the work; it yields wherever the event loop may run.
 * @returns the result; a promise of it if one step is not enough.
 */
export function inSteps<T>(work: Generator<void, T>): T | Promise<T> {
  const result = step(work);
  return result.done ? result.value : remainingSteps(work);
}

/**
 * Does work in one go.
 *
 * @param work the work.
 * @returns the result.
 */
export function atOnce<T>(work: Generator<void, T>): T {
  for (;;) {
    const result = work.next();
    if (result.done) return result.value;
  }
}

const AT_ONCE = 500; // items between two looks at the clock

/**
 * The items of a list, with a step over each few hundred.
 *
 * @param list the list.
 * @param use gets each item.
 */
export function* each<T>(list: Iterable<T>, use: (item: T) => void): Generator<void, void> {
  let count = 0;
  for (const item of list) {
    use(item);
    if (++count % AT_ONCE === 0) yield;
  }
}

/**
 * The items of a list that are wanted, in steps.
 *
 * @param list the list.
 * @param isWanted whether an item is one.
 * @returns them.
 */
export function* filtered<T>(list: readonly T[], isWanted: (item: T) => boolean): Generator<void, T[]> {
  const found: T[] = [];
  yield* each(list, (item) => {
    if (isWanted(item)) found.push(item);
  });
  return found;
}

/** The steps of asynchronous work. */
export class Steps {
  #end = performance.now() + STEP;

  /** Whether the step is over: then the caller awaits {@linkcode next}. */
  get isOver(): boolean {
    return performance.now() >= this.#end;
  }

  /** Lets the event loop run, and begins another step. */
  async next(): Promise<void> {
    await new Promise<void>(soon);
    this.#end = performance.now() + STEP;
  }
}

async function remainingSteps<T>(work: Generator<void, T>): Promise<T> {
  const steps = new Steps();
  for (;;) {
    await steps.next();
    const result = step(work);
    if (result.done) return result.value;
  }
}

function step<T>(work: Generator<void, T>): IteratorResult<void, T> {
  const end = performance.now() + STEP;
  for (;;) {
    const result = work.next();
    if (result.done || performance.now() >= end) return result;
  }
}
