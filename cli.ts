/**
 * The `denomount` command.
 *
 * ```sh
 * deno install -gA --name denomount jsr:@denomount/mount/cli
 * denomount --help
 * ```
 *
 * Exit status: 0 done; 1 a call failed, with its sentence on standard error; 2 wrong use; 130 ended by Ctrl-C, with
 * nothing left mounted.
 *
 * @module
 */

import { down, lookup, ls, umount, up } from "./cli/commands.ts";
import { Command, CommanderError, InvalidArgumentError } from "./cli/deps.ts";
import { visible } from "./cli/print.ts";

const FAILED = 1;
const WRONG_USE = 2;

/**
 * Runs the command.
 *
 * @param args its arguments, without the program's name.
 * @returns the exit status.
 *
 * Needs the permission `ffi`, `read` for FILE, and `run` for FUSE.
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
  try {
    await program((code) => status = code).parseAsync([...args], { from: "user" });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE;
    console.error(`denomount: ${visible(error instanceof Error ? error.message : String(error))}`);
    return FAILED;
  }
}

const JSON_FILE = `
FILE is JSON, a list of mounts as containerd's snapshotters print it ("-" is standard input):
  [{"type": "overlay", "source": "overlay", "options": ["lowerdir=/usr:/etc"]},
   {"type": "bind", "source": "/srv", "target": "/srv", "options": ["rbind", "ro"]}]`;

function program(done: (status: number) => void): Command {
  const top = new Command("denomount");
  top
    .description("Mounts lists of mounts under a directory, and takes them off again.")
    .version("0.1.0")
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(oneLine(text)) })
    .showSuggestionAfterError(false)
    .addHelpText(
      "after",
      "\nExample:\n  denomount up mounts.json /mnt && ls /mnt && denomount down mounts.json /mnt",
    );

  top.command("up").description("mount a list under TARGET: all of it, or nothing")
    .argument("<FILE>").argument("<TARGET>")
    .addHelpText("after", `${JSON_FILE}\n\nPrints each mountpoint. Example:\n  denomount up mounts.json /mnt`)
    .action(async (file, target) => done(await up(file, target)));

  withUnmountOptions(top.command("down")).description("take a list off TARGET again")
    .argument("<FILE>").argument("<TARGET>")
    .addHelpText("after", `${JSON_FILE}\n\nExample:\n  denomount down mounts.json /mnt`)
    .action(async (file, target, { lazy, ...options }) =>
      done(await down(file, target, { ...options, detach: Boolean(lazy) }))
    );

  withUnmountOptions(top.command("umount")).description(
    "unmount each TARGET; one that is not mounted is fine",
  )
    .argument("<TARGET...>")
    .option("-a, --all", "every mount that is stacked on it")
    .option("-R, --recursive", "everything that is mounted below it too, the deepest first")
    .option("--no-follow", "do not follow a symbolic link at the end of TARGET")
    .addHelpText("after", "\nExample:\n  denomount umount --recursive /mnt")
    .action(async (targets, { follow, ...flags }) =>
      done(await umount(targets, { ...flags, noFollow: !follow }))
    );

  top.command("ls").description("print the mount table, or its part at and below PATH")
    .argument("[PATH]")
    .option("--json", "as JSON")
    .option("-t, --type <TYPE...>", "only file systems of these types")
    .addHelpText("after", "\nExample:\n  denomount ls --type overlay tmpfs")
    .action(async (path, flags) => done(await ls(path, flags)));

  top.command("lookup").description("print the mount that PATH is on")
    .argument("<PATH>")
    .option("--json", "as JSON")
    .addHelpText("after", "\nExample:\n  denomount lookup .")
    .action(async (path, flags) => done(await lookup(path, flags)));

  return top;
}

function withUnmountOptions(command: Command): Command {
  return command
    .option("-l, --lazy", "out of the tree now, cleaned up when it is no longer used")
    .option("-f, --force", "break off requests to a server that is gone")
    .option("--timeout <MS>", "how long to try again while it is busy (default: 2500)", milliseconds);
}

function milliseconds(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It is a whole number of milliseconds.");
  return Number(text);
}

function oneLine(text: string): string {
  return `denomount: ${
    text.trim().replace(/^error: /, "").replace(/\s*\n\s*/g, " ")
  }; see denomount --help\n`;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
