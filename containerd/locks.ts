/**
 * Locks by name.
 *
 * @module
 */

/** Lets calls on one name run one after the other, in the order in which they came. */
export class NameLocks {
  readonly #last = new Map<string, Promise<void>>();

  /**
   * Runs a function when no earlier one with one of its names runs.
   *
   * @param names the names.
   * @param work the function.
   * @returns the value of the function.
   */
  async run<T>(names: readonly string[], work: () => Promise<T>): Promise<T> {
    // All names at once, on one thread: no call waits for a later one, so none wait for each other.
    const distinct = [...new Set(names)];
    const earlier = distinct.map((name) => this.#last.get(name));
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const name of distinct) this.#last.set(name, promise);
    try {
      await Promise.all(earlier);
      return await work();
    } finally {
      for (const name of distinct) if (this.#last.get(name) === promise) this.#last.delete(name);
      resolve();
    }
  }

  /** Waits until no call runs. */
  async idle(): Promise<void> {
    while (this.#last.size > 0) await Promise.all(this.#last.values());
  }
}
