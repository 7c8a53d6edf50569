/**
 * The stage with the whole library, for a box that has other mounts than binds, overlays and tmpfs; and for a program that is
 * started itself as the stage.
 *
 * @module
 */

import { runStage } from "./stage.ts";

/**
 * Runs the stage of a box, if this process was started to be one. In a compiled program, `sandbox()` starts the program
 * itself again as the stage: call this before anything else there. It is not needed in a program that `deno run` runs.
 *
 * Needs the permissions `ffi` and `run` in the stage; a process that is no stage needs none.
 *
 * @returns at once in a process that is no stage; in a stage, never.
 *
 * @example
 * ```ts
 * import { sandboxStage } from "@denomount/mount/sandbox";
 *
 * await sandboxStage();
 * // the program begins here
 * ```
 */
export async function sandboxStage(): Promise<void> {
  // Its specifier is literal, so that the module is in a binary and in a package.
  await runStage(async () => (await import("../mount/mount.ts")).mountAll);
}

// The file itself is what `deno run` starts.
if (import.meta.main) {
  await sandboxStage();
}
