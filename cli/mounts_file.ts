/**
 * Lists of mounts from files.
 *
 * @module
 */

import { type Mount, parseMounts } from "../mod.ts";

/**
 * Reads a list of mounts from a file.
 *
 * @param file its path, or "-" for standard input.
 * @returns the mounts.
 */
export async function readMounts(file: string): Promise<Mount[]> {
  if (file === "-") return parseMounts(await new Response(Deno.stdin.readable).text(), "standard input");
  return parseMounts(await readFile(file), file);
}

async function readFile(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new Error(`${file} does not exist`, { cause: error });
    throw error;
  }
}
