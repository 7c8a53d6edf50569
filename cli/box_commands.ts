/**
 * The definitions of `sandbox`, `try` and `bwrap`. The sandbox is loaded when one of them runs.
 *
 * @module
 */

import { milliseconds } from "./arguments.ts";
import type { Command } from "./deps.ts";
import { wrapped } from "./help_text.ts";
import type { BoxFlags } from "./sandbox.ts";
import type { TryFlags } from "./try.ts";

/** Receives the exit status of a subcommand. */
type Done = (status: number) => void;

const DENIED = `
Whatever no option names is denied: this machine's files are read-only, /tmp and
/run are empty, and other processes, the network, the environment and all
capabilities are out of reach. Of two paths the more specific one counts.`;

const list = (text: string, previous: string[] = []) => [...previous, text];

/** The options that have the names of the library's. */
function withBoxOptions(command: Command): Command {
  return command
    .option("--readonly <PATH>", "can be read only; may be repeated, as all options with paths", list)
    .option("--writable <PATH>", "can be written: on this machine, at once", list)
    .option("--overlay <DIR>", "can be written, and the writes are held back", list)
    .option("--state <DIR>", "keep the writes of the one --overlay here; a later box continues with them")
    .option("--hidden <PATH>", "is empty, and can't be made", list)
    .option("--tmpfs <DIR>", "is empty and in memory", list)
    .option("--mounts <FILE>", "more mounts, a JSON list")
    .option("--root <FILE>", "the root directory, a JSON list of mounts (default: this machine's, read-only)")
    .option("--no-proc", "without /proc")
    .option("--dev <KIND>", "minimal, or host: the devices of this machine (default: minimal)")
    .option("--network", "with this machine's network")
    .option("--hostname <NAME>", "the name of the host inside")
    .option("--cwd <DIR>", "the working directory (default: this one)")
    .option(
      "--env <NAME[=VALUE]>",
      "a variable; without a value, that of this process; may be repeated",
      list,
    )
    .option("--clear-env", "only the variables of --env; otherwise also PATH, HOME, TERM and the locale")
    .option("--uid <ID>", "the user id inside (default: the own one)", id)
    .option("--gid <ID>", "the group id inside", id)
    .option("--uid-map <MAP>", "ranges of user ids: container:host:size,...; goes with --gid-map")
    .option("--gid-map <MAP>", "ranges of group ids")
    .option("--missing <WHAT>", "paths that don't exist: error or skip (default: error)")
    .option("--timeout <MS>", "how long the start may take (default: 30000)", milliseconds)
    .passThroughOptions();
}

function id(text: string): number {
  return /^\d{1,10}$/.test(text) ? Number(text) : NaN; // the library refuses it by its name
}

/**
 * Adds `sandbox`.
 *
 * @param top the command.
 * @param done receives the exit status.
 */
export function addSandbox(top: Command, done: Done): void {
  withBoxOptions(top.command("sandbox")).description(
    "run CMD in a box: a root directory made of mounts, with nothing else in reach",
  )
    .argument("<CMD...>")
    .addHelpText(
      "after",
      wrapped(`${DENIED}

CMD ends with this command, and exits with its status. Works without root.
Examples:
  denomount sandbox -- ls /
  denomount sandbox --writable . --hidden .git/hooks -- touch made`),
    )
    .action(async (command: string[], flags: BoxFlags) =>
      done(await (await import("./sandbox.ts")).sandboxCommand(stripSeparator(command), flags))
    );
}

/**
 * Adds `try`.
 *
 * @param top the command.
 * @param done receives the exit status.
 */
export function addTry(top: Command, done: Done): void {
  withBoxOptions(
    top.command("try")
      .option("--json", "print the changes as JSON")
      .option("--diff", "print the differences of text files")
      .option("--all", "print each file of an added directory")
      .option("--keep <DIR>", "copy the changes into DIR, a new or empty directory")
      .option("--layer <FILE>", "write the changes into FILE, as a layer of an OCI image"),
  ).description(
    "run CMD with the writes to a directory held back, and print what it would have changed",
  )
    .argument("<CMD...>")
    .addHelpText(
      "after",
      wrapped(`${DENIED}

CMD sees its writes to each --overlay, the working directory by default, and
this machine's files stay as they are. Nothing is ever applied to them.

Prints a tree: + added, ~ modified, - removed, ! replaced by another type. With
--json and --diff, what CMD prints goes to standard error. Exits with the status
of CMD. Works without root.
Examples:
  denomount try -- sh -c 'date > now'
  denomount try --diff -- sh -c 'echo line > file'
  denomount try --layer change.tar -- touch made`),
    )
    .action(async (command: string[], flags: TryFlags) =>
      done(await (await import("./try.ts")).tryCommand(stripSeparator(command), flags))
    );
}

function stripSeparator(command: string[]): string[] {
  return command[0] === "--" ? command.slice(1) : command;
}

/** The text of `denomount help bwrap` after the usage. */
export const BWRAP_HELP = `
Files, in the order of the arguments:
  --ro-bind, --bind SRC DEST            mount SRC on DEST
  --dev-bind SRC DEST                   the same, and its devices work
  --bind-try, --ro-bind-try ...         the same, unless SRC is missing
  --bind-fd, --ro-bind-fd FD DEST       mount what is open as FD
  --tmpfs DEST                          mount an empty tmpfs
  --proc, --dev, --mqueue DEST          mount a new one
  --overlay-src SRC                     a layer of the next overlay
  --overlay RWSRC WORKDIR DEST          an overlay, written to RWSRC
  --tmp-overlay, --ro-overlay DEST      written to memory, read-only
  --dir DEST, --symlink TEXT DEST       make a directory, a link
  --file FD DEST                        make a file of what FD has
  --bind-data, --ro-bind-data FD DEST   mount a file of what FD has
  --perms OCTAL, --size BYTES           for the option that follows
  --chmod OCTAL PATH, --remount-ro DEST

Namespaces, users and environment:
  --unshare-all, --unshare-user, --unshare-ipc, --unshare-net,
  --unshare-uts, --unshare-cgroup, --share-net, --unshare-user-try,
  --unshare-cgroup-try, --unshare-pid (always so)
  --disable-userns, --assert-userns-disabled
  --uid UID, --gid GID, --hostname NAME, --chdir DIR
  --setenv VAR VALUE, --unsetenv VAR, --clearenv, --argv0 VALUE
  --cap-drop CAP (always so, for all), --new-session (always so)

Life:
  --die-with-parent, --lock-file DEST, --sync-fd FD, --block-fd FD
  --info-fd FD, --json-status-fd FD, --args FD, --level-prefix

Refused by name: --seccomp, --add-seccomp-fd, --exec-label, --file-label, --cap-add,
--as-pid-1, --userns, --userns2, --userns-block-fd, --pidns.

Exits with the status of CMD; with 1 if it could not be started.
Example:
  denomount bwrap --ro-bind / / --dev /dev --unshare-all -- ls /dev`;

/**
 * Adds `bwrap`, whose arguments are read by {@linkcode main} in cli.ts: this is its help.
 *
 * @param top the command.
 */
export function addBwrap(top: Command): void {
  top.command("bwrap").description("run CMD in a box that the arguments of bubblewrap describe")
    .usage("[OPTION...] [--] CMD...")
    .argument("[ARGUMENT...]")
    .helpOption(false)
    .addHelpText("after", wrapped(BWRAP_HELP))
    .action(() => {});
}
