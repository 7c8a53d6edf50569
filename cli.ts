/**
 * The `denomount` command.
 *
 * ```sh
 * deno install -gA --name denomount jsr:@denomount/mount/cli
 * denomount --help
 * ```
 *
 * Exit status: 0 success; 1 a call failed, and standard error names it; 2 usage error; 130 ended by Ctrl-C, 143 by
 * SIGTERM, 129 by SIGHUP, with nothing left mounted. `run` exits with the status of its command.
 *
 * The command is one exported function, {@link main}, so that another program can call it.
 *
 * @example
 * ```ts
 * import { main } from "@denomount/mount/cli";
 *
 * const status = await main(["ls", "--tree", "/proc"]);
 * if (status !== 0) throw new Error(`denomount ls exited with ${status}`);
 * ```
 *
 * @module
 */

import { escapeControl, printError } from "./cli/print.ts";
import { runQuick } from "./cli/program.ts";
import { rememberIgnoredSignals } from "./cli/signals.ts";

const FAILED = 1;
const USAGE_ERROR = 2;

/**
 * Runs the command.
 *
 * Needs the permission `ffi`, `read` for FILE, and `run` for FUSE and for `denomount run`; for `--containerd` those of
 * `./containerd`. The Linux capabilities depend on the subcommand; mounting and unmounting need CAP_SYS_ADMIN.
 *
 * @param args the arguments, without the program's name.
 * @returns the exit status.
 *
 * @example
 * ```ts
 * import { main } from "@denomount/mount/cli";
 *
 * if (await main(["lookup", "/proc"]) !== 0) throw new Error("no /proc");
 * ```
 */
export async function main(args: readonly string[]): Promise<number> {
  let status = 0;
  if (args[0] === "bwrap") return await (await import("./cli/bwrap.ts")).bwrap(args.slice(1)); // in its own order
  const done = (code: number) => status = code;
  try {
    return await runQuick(args, done) || await parse(args, done) ? status : USAGE_ERROR;
  } catch (error) {
    const { errorMessage, holderLines } = await import("./cli/errors.ts");
    printError([`denomount: ${escapeControl(errorMessage(error))}`, ...holderLines(error)].join("\n"));
    return FAILED;
  }
}

/** Returns false for a usage error. */
async function parse(args: readonly string[], done: (status: number) => void): Promise<boolean> {
  const { CommanderError, program } = await import("./cli/commander.ts");
  try {
    await program(done).parseAsync([...args], { from: "user" });
    return true;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0;
    throw error;
  }
}

if (import.meta.main) {
  rememberIgnoredSignals();
  // In a compiled program, the stage of a box is this program.
  if (Deno.args[0]?.startsWith("--denomount-")) {
    await (await import("./linux/sandbox/full_stage.ts")).sandboxStage();
  }
  Deno.exit(await main(Deno.args));
}
