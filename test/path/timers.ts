/**
 * What a wait leaves behind: Deno's tests don't fail for a timer or a listener that is left.
 *
 * @module
 */

/** Counts the timers that are set and neither cleared nor due, until the end of its scope. */
export class Timers implements Disposable {
  readonly #left = new Set<unknown>();
  readonly #own = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  /** The times of all timers, in milliseconds. */
  readonly times: (number | undefined)[] = [];

  /** Begins to count. */
  constructor() {
    const { setTimeout, clearTimeout } = this.#own;
    const [left, times] = [this.#left, this.times];
    Object.assign(globalThis, {
      setTimeout(handler: () => void, ms?: number) {
        times.push(ms);
        const timer = setTimeout(() => {
          left.delete(timer);
          handler();
        }, ms);
        left.add(timer);
        return timer;
      },
      clearTimeout(timer: number | undefined) {
        left.delete(timer);
        clearTimeout(timer);
      },
    });
  }

  /** How many are left. */
  get left(): number {
    return this.#left.size;
  }

  /** Ends those that are left, so that they keep no process alive. */
  [Symbol.dispose](): void {
    Object.assign(globalThis, this.#own);
    for (const timer of this.#left) this.#own.clearTimeout(timer as number);
  }
}

/** A signal that counts its listeners. */
export function countedSignal(): { controller: AbortController; signal: AbortSignal; listeners(): number } {
  const controller = new AbortController();
  const { signal } = controller;
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: unknown[]) => {
    listeners++;
    Reflect.apply(addEventListener, signal, args);
  };
  signal.removeEventListener = (...args: unknown[]) => {
    listeners--;
    Reflect.apply(removeEventListener, signal, args);
  };
  return { controller, signal, listeners: () => listeners };
}
