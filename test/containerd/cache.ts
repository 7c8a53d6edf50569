/**
 * Where these tests keep what they download and unpack.
 *
 * @module
 */

import { cachePath } from "../cache.ts";

/** The cache directory; it is made if it is missing. */
export async function cacheDirectory(): Promise<string> {
  const directory = cachePath("denomount-containerd");
  await Deno.mkdir(directory, { recursive: true });
  return directory;
}
