/**
 * Where these tests keep what they download and unpack.
 *
 * @module
 */

/** The cache directory; it is made if it is missing. */
export async function cacheDirectory(): Promise<string> {
  const home = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/root"}/.cache`;
  const directory = `${home}/denomount-containerd`;
  await Deno.mkdir(directory, { recursive: true });
  return directory;
}
