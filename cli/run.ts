/**
 * `denomount run`: a command inside a temporary mount.
 *
 * @module
 */

import type { ManagerFlags } from "./manager.ts";
import { readMounts } from "./mounts_file.ts";
import { isRoot, requireProgram, runCommand, runIsolated } from "./self.ts";
import { withTempMountOrSignal } from "./temporary.ts";

/** The options of `run`. */
export interface RunFlags extends ManagerFlags {
  /** The mount is the command's root directory. */
  chroot?: true;
  /** The mounts are in a new mount namespace, which other processes do not see. */
  private?: true;
}

/**
 * Mounts a list at a temporary directory, runs a command in it, and unmounts the list when the command exits.
 *
 * @param file the list's file, or "-".
 * @param command the program and its arguments.
 * @param flags how to run it.
 * @param isolated whether this process already runs in the new mount namespace.
 * @returns the command's exit status.
 */
export async function run(
  file: string,
  command: readonly string[],
  flags: RunFlags,
  isolated = false,
): Promise<number> {
  if (!isolated && (flags.private || !isRoot())) {
    return await runIsolated(["run-isolated", ...isolatedFlags(flags), file, ...command]);
  }
  const mounts = await readMounts(file);
  return await withTempMountOrSignal(mounts, isolated, flags, (root) => {
    const commandLine = flags.chroot ? [requireProgram("chroot"), root, ...command] : command;
    return runCommand(commandLine, flags.chroot ? {} : { cwd: root, env: { DENOMOUNT_ROOT: root } });
  });
}

function isolatedFlags({ chroot, root, allowDir = [] }: RunFlags): string[] {
  return [
    ...chroot ? ["--chroot"] : [],
    ...root === undefined ? [] : ["--root", root],
    ...allowDir.flatMap((directory) => ["--allow-dir", directory]),
  ];
}
