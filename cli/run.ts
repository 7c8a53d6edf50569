/**
 * `denomount run`: a command inside a temporary mount.
 *
 * @module
 */

import { readMounts } from "./mounts_file.ts";
import { isRoot, runCommand, runIsolated } from "./self.ts";
import { withTempMountOrSignal } from "./temporary.ts";

/** How to run it. */
export interface RunFlags {
  /** With the mount as its root directory. */
  chroot?: true;
  /** In a mount namespace of its own, where nobody else sees the mounts. */
  private?: true;
}

/**
 * Mounts a list at a temporary directory and runs a command in it; everything is gone afterwards.
 *
 * @param file the list's file, or "-".
 * @param command the program and its arguments.
 * @param flags how.
 * @param isolated whether this is the namespace of its own already.
 * @returns the command's exit status.
 */
export async function run(
  file: string,
  command: readonly string[],
  flags: RunFlags,
  isolated = false,
): Promise<number> {
  if (!isolated && (flags.private || !isRoot())) {
    return await runIsolated(["run-isolated", ...flags.chroot ? ["--chroot"] : [], file, ...command]);
  }
  const mounts = await readMounts(file);
  return await withTempMountOrSignal(mounts, isolated, (root) => {
    const inside = flags.chroot ? ["chroot", root, ...command] : command;
    return runCommand(inside, flags.chroot ? {} : { cwd: root, env: { DENOMOUNT_ROOT: root } });
  });
}
