/**
 * Where tests and the benchmark keep what they download and unpack.
 *
 * @module
 */

/** The path of a cache, which need not exist. */
export function cachePath(name: string): string {
  const home = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/root"}/.cache`;
  return `${home}/${name}`;
}
