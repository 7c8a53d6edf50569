/**
 * The actions of the subcommands.
 *
 * @module
 */

import { createUserNamespace, explain, type IdMapAttributes, idMapMount, lookupMount } from "../mod.ts";
import { readMounts } from "./mounts_file.ts";
import { dim } from "./deps.ts";
import { needsManager } from "./needs_manager.ts";
import { escapeControl, mountLines, print } from "./print.ts";

/**
 * Prints the mount that contains a path.
 *
 * @param path the path.
 * @param flags whether to print JSON.
 * @returns the exit status.
 */
export async function lookup(path: string, flags: { json?: boolean }): Promise<number> {
  const info = await lookupMount(path);
  print(flags.json ? JSON.stringify(info, null, 2) : mountLines(info));
  return 0;
}

/**
 * Binds a directory or file as an id-mapped mount.
 *
 * @param source the directory or file.
 * @param target the mountpoint.
 * @param flags the maps and the attributes of the mount.
 * @returns the exit status.
 */
export async function idmap(
  source: string,
  target: string,
  { uid, gid, recursive = false, ...attributes }: IdMapAttributes & { uid: string; gid?: string },
): Promise<number> {
  using userns = await createUserNamespace(uid, gid ?? uid);
  await idMapMount(source, target, userns, { recursive, ...attributes });
  return 0;
}

/**
 * Prints the system calls that mount a list, without making them.
 *
 * @param file the list's file, or "-".
 * @param target the directory to mount under.
 * @param flags whether to print JSON, and whether the list replaces what is mounted.
 * @returns the exit status.
 */
export async function explainList(
  file: string,
  target: string,
  flags: { json?: true; replace?: true },
): Promise<number> {
  const mounts = await readMounts(file);
  if (needsManager(mounts)) {
    throw new Error(
      'this list is for the mount manager: "denomount activate NAME FILE" prints the list that "denomount explain" takes',
    );
  }
  const steps = explain(mounts, target, { replace: flags.replace });
  if (flags.json) print(JSON.stringify(steps, null, 2));
  else {for (const step of steps) {
      print(`${escapeControl(`${step.call}(${step.arguments})`)}  ${dim(`// ${step.purpose}`)}`);
    }}
  return 0;
}
