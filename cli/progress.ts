/**
 * A line on the terminal for what takes long.
 *
 * @module
 */

/**
 * Waits for something. On a terminal, a line says what is waited for once it has taken a second, and goes when it is
 * done.
 *
 * @param what such as "mounting on /mnt".
 * @param work what is waited for.
 * @returns its result.
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
