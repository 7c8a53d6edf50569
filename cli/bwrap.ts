/**
 * `denomount bwrap`: a command in a box, by the arguments of bubblewrap.
 *
 * @module
 */

import { type BwrapPlan, fromBwrapArgs } from "../linux/sandbox/mod.ts";
import { setParentDeathSignal } from "../linux/syscalls/mod.ts";
import { BWRAP_HELP } from "./box_commands.ts";
import { errorMessage } from "./errors.ts";
import { wrapped } from "./help_text.ts";
import { runInBox } from "./in_box.ts";
import { escapeControl, print, printError } from "./print.ts";

const FAILED = 1;
const SIGKILL = 9; // asm-generic/signal.h
const LEVELS = { error: 3, warning: 4 }; // sd-daemon(3)

const VERSION = "denomount 0.1.0, with the arguments of bubblewrap 0.11";
const HELP = `Usage: denomount bwrap [OPTION...] [--] CMD...\n${wrapped(BWRAP_HELP)}`;

/**
 * Runs a command in a box that bubblewrap's arguments describe. Errors begin with "bwrap:", as programs that start
 * bubblewrap expect.
 *
 * @param argv the arguments.
 * @returns the exit status of the command; 1 if it could not be started.
 */
export async function bwrap(argv: readonly string[]): Promise<number> {
  const isPrefixed = argv.includes("--level-prefix");
  const say = (level: keyof typeof LEVELS, text: string) =>
    printError(`${isPrefixed ? `<${LEVELS[level]}>` : ""}bwrap: ${escapeControl(text)}`);
  try {
    const plan = await fromBwrapArgs(argv, { inheritedFds: true });
    if (plan.asksFor !== undefined) {
      print(plan.asksFor === "help" ? HELP : VERSION);
      return 0;
    }
    for (const warning of plan.warnings) say("warning", warning);
    if (plan.diesWithParent) setParentDeathSignal(SIGKILL);
    return await run(plan);
  } catch (error) {
    say("error", errorMessage(error));
    return FAILED;
  }
}

async function run(plan: BwrapPlan): Promise<number> {
  const { status } = await runInBox({
    start: (signal) => plan.start({ signal }),
    spawn: (box, streams) => plan.spawn(box, streams),
    hasTerminals: plan.hasTerminals,
  });
  return status;
}
