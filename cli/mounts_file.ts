/**
 * Lists of mounts from files.
 *
 * @module
 */

import { ensureServerAnswers } from "../linux/mountinfo/served.ts";
import type { Mount } from "../linux/spec/mount.ts";
import { parseMounts } from "../linux/spec/read_mount.ts";

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
  await ensureServerAnswers(file, {}); // Deno.readTextFile() would wait for ever for a server that does not answer
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new Error(`${file} does not exist`, { cause: error });
    throw error;
  }
}
