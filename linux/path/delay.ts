/**
 * A timer as a promise.
 *
 * @module
 */

/**
 * Waits for a time.
 *
 * @param ms the time in milliseconds.
 * @param signal ends the wait early.
 * @throws the signal's reason, if it is aborted.
 */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
