/**
 * Progress on the terminal for operations that take long.
 *
 * @module
 */

/**
 * Waits for an operation. If standard error is a terminal, prints the operation and its elapsed time after each second, and
 * erases the line at the end.
 *
 * @param what the operation, such as "mounting on /mnt".
 * @param work its promise.
 * @returns the result.
 */
export async function withProgress<T>(what: string, work: Promise<T>): Promise<T> {
  if (!Deno.stderr.isTerminal()) return await work;
  const start = Date.now();
  let shown = false;
  const write = (text: string) => Deno.stderr.writeSync(new TextEncoder().encode(text));
  const timer = setInterval(() => {
    shown = true;
    write(`\r\x1b[K${what}, ${Math.round((Date.now() - start) / 1000)} s`);
  }, 1000);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    if (shown) write("\r\x1b[K");
  }
}
