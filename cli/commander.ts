/**
 * The argument parser, which takes as long to load as the library: only for a line that {@linkcode readLine} does not read.
 *
 * @module
 */

// deno-lint-ignore no-import-prefix
import { Command, CommanderError, Option } from "npm:commander@14.0.2";
import { defineCommand, type Done } from "./program.ts";

export { Command, CommanderError, Option };

/**
 * Defines the command.
 *
 * @param done receives the exit status of the subcommand that ran.
 * @returns the command, ready to parse arguments.
 */
export function program(done: Done): Command {
  return defineCommand(new Command("denomount"), done);
}
