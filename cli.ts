/**
 * The `denomount` command.
 *
 * ```sh
 * deno install -gA --name denomount jsr:@denomount/mount/cli
 * denomount --help
 * ```
 *
 * Exit status: 0 done; 1 a call failed, with its sentence on standard error; 2 wrong use; 130 ended by Ctrl-C, with
 * nothing left mounted, 143 by SIGTERM, 129 by SIGHUP. `run` ends with the status of its command.
 *
 * The command is one function, so that a program of its own can have it as a part.
 *
 * @example
 * ```ts
 * import { main } from "@denomount/mount/cli";
 *
 * const status = await main(["ls", "--tree", "/proc"]);
 * if (status !== 0) throw new Error(`denomount ls ended with ${status}`);
 * ```
 *
 * @module
 */

import { down, explainList, idmap, lookup, umount, up } from "./cli/commands.ts";
import { completions } from "./cli/completions.ts";
import { Command, CommanderError, InvalidArgumentError, setColorEnabled } from "./cli/deps.ts";
import { doctor } from "./cli/doctor.ts";
import { ls } from "./cli/list.ts";
import { loopAttach, loopDetach, loopList } from "./cli/loop.ts";
import { manual } from "./cli/manual.ts";
import { errorMessage } from "./cli/errors.ts";
import { escapeControl, print, printError } from "./cli/print.ts";
import { run } from "./cli/run.ts";
import { watch } from "./cli/watch.ts";

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
  setColorEnabled(Deno.stdout.isTerminal() && !Deno.noColor);
  try {
    await program((code) => status = code).parseAsync([...args], { from: "user" });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE;
    printError(`denomount: ${escapeControl(errorMessage(error))}`);
    return FAILED;
  }
}

const JSON_FILE = `
FILE is JSON, a list of mounts as containerd's snapshotters print it ("-" is standard input):
  [{"type": "overlay", "source": "overlay", "options": ["lowerdir=/usr:/etc"]},
   {"type": "bind", "source": "/srv", "target": "/srv", "options": ["rbind", "ro"]}]`;

const EXIT_STATUS = `
Exit status:
  0    done
  1    a call failed; its sentence is on standard error
  2    wrong use
  130  ended by Ctrl-C, with nothing left mounted; 143 by SIGTERM, 129 by SIGHUP
"run" ends with the status of its command.`;

function program(done: (status: number) => void): Command {
  const top = new Command("denomount");
  top
    .description("Mounts lists of mounts under a directory, and takes them off again.")
    .version("0.1.0")
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(oneLine(text)) })
    .showSuggestionAfterError(false)
    .enablePositionalOptions()
    .addHelpText("after", EXIT_STATUS)
    .addHelpText("after", "\nExample:\n  denomount run --chroot rootfs.json -- /bin/sh");

  top.command("up").description("mount a list under TARGET: all of it, or nothing")
    .argument("<FILE>").argument("<TARGET>")
    .option(
      "--namespace <PID>",
      "TARGET is in the mount namespace of this process, the sources are here",
      pid,
    )
    .addHelpText("after", `${JSON_FILE}\n\nPrints each mountpoint. Example:\n  denomount up mounts.json /mnt`)
    .action(async (file, target, flags) => done(await up(file, target, flags)));

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

  top.command("run").description("run CMD in a temporary mount of a list; everything is gone afterwards")
    .argument("<FILE>").argument("<CMD...>")
    .option("--chroot", "with the mount as its root directory")
    .option("--private", "in a mount namespace of its own, where nobody else sees the mounts")
    .passThroughOptions()
    .addHelpText(
      "after",
      `${JSON_FILE}

CMD starts in the mount, whose path is in $DENOMOUNT_ROOT. Without root, it runs in a user namespace.
Example:
  denomount run --chroot rootfs.json -- /bin/sh -c 'ls /'`,
    )
    .action(async (file, command, flags) => done(await run(file, withoutDashes(command), flags)));

  top.command("run-isolated", { hidden: true }).argument("<FILE>").argument("<CMD...>").option("--chroot")
    .passThroughOptions()
    .action(async (file, command, flags) => done(await run(file, command, flags, true)));

  top.command("explain").description("print what mounting a list would do, system call by system call")
    .argument("<FILE>").argument("<TARGET>")
    .option("--json", "as JSON")
    .addHelpText("after", `${JSON_FILE}\n\nNothing is done. Example:\n  denomount explain mounts.json /mnt`)
    .action(async (file, target, flags) => done(await explainList(file, target, flags)));

  top.command("idmap").description("mount SOURCE on TARGET with its owners mapped")
    .argument("<SOURCE>").argument("<TARGET>")
    .requiredOption("--uid <MAP>", "the user ids, as container:host:size and more after a comma")
    .option("--gid <MAP>", "the group ids (default: as the user ids)")
    .option("-r, --readonly", "not writable")
    .option("-R, --recursive", "with everything that is mounted below SOURCE")
    .addHelpText("after", "\nExample:\n  denomount idmap --uid 0:100000:65536 /srv/rootfs /mnt")
    .action(async (source, target, flags) => done(await idmap(source, target, flags)));

  const loop = top.command("loop").description("files as block devices");
  loop.command("attach").description("attach FILE to a free device, and print it").argument("<FILE>")
    .option("-r, --readonly", "not writable")
    .option("--autoclear", "free it when its last user closes it")
    .option("--direct", "past the page cache")
    .option("--offset <BYTES>", "where the data begins", bytes)
    .option("--size-limit <BYTES>", "how much of the file is used", bytes)
    .addHelpText("after", "\nExample:\n  denomount loop attach --readonly image.ext4")
    .action(async (file, flags) => done(await loopAttach(file, flags)));
  loop.command("detach").description("detach each DEVICE").argument("<DEVICE...>")
    .addHelpText("after", "\nExample:\n  denomount loop detach /dev/loop0")
    .action(async (devices) => done(await loopDetach(devices)));
  loop.command("ls").description("print the attached devices").option("--json", "as JSON")
    .addHelpText("after", "\nExample:\n  denomount loop ls")
    .action(async (flags) => done(await loopList(flags)));

  top.command("doctor").description(
    "print what this kernel, this user and this Deno can do, and what to install",
  )
    .option("--json", "as JSON")
    .addHelpText("after", "\nExample:\n  denomount doctor")
    .action(async (flags) => done(await doctor(flags)));

  top.command("completions").description("print completions for a shell").argument(
    "<SHELL>",
    "bash, zsh or fish",
  )
    .addHelpText("after", "\nExample:\n  denomount completions bash > /etc/bash_completion.d/denomount")
    .action((shell) => print(completions(top, shell)));

  top.command("manual").description("print the manual page, for man(1)")
    .addHelpText("after", "\nExample:\n  denomount manual | man -l -")
    .action(() => print(manual(top)));

  top.command("ls").description("print the mount table, or its part at and below PATH")
    .argument("[PATH]")
    .option("--tree", "as a tree, with id maps, propagation, loop files and sizes")
    .option("--json", "as JSON")
    .option("-t, --type <TYPE>", "only file systems of this type, or these, with commas between", types)
    .option("--namespace <PID>", "of the mount namespace of this process", pid)
    .addHelpText("after", "\nExample:\n  denomount ls --tree /run")
    .action(async (path, flags) => done(await ls(path, flags)));

  top.command("watch").description(
    "print mounts and unmounts as they happen, at and below PATH or everywhere",
  )
    .argument("[PATH]")
    .option("-t, --type <TYPE>", "only file systems of this type, or these, with commas between", types)
    .option("--changes", "changed options too")
    .option("--namespace <PID>", "in the mount namespace of this process, for as long as it lives", pid)
    .option("--json", "as JSON, a line each")
    .addHelpText(
      "after",
      `
Prints + for what was mounted, - unmounted, > moved, ~ changed, ± for what came and went before it could be looked at.
Ends with Ctrl-C, when nobody reads it any more, and with the process of --namespace.
Example:
  denomount watch --type overlay /run`,
    )
    .action(async (path, flags) => done(await watch(path, flags)));

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
    .option("--namespace <PID>", "in the mount namespace of this process", pid)
    .option("--timeout <MS>", "how long to try again while it is busy (default: 2500)", milliseconds);
}

/** The "--" that parts a command from what is said about it. */
function withoutDashes(command: string[]): string[] {
  return command[0] === "--" ? command.slice(1) : command;
}

function bytes(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It is a whole number of bytes.");
  return Number(text);
}

function milliseconds(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It is a whole number of milliseconds.");
  return Number(text);
}

function types(text: string, before: string[] = []): string[] {
  return [...before, ...text.split(",")];
}

function pid(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new InvalidArgumentError("It is a process's number.");
  return Number(text);
}

function oneLine(text: string): string {
  return `denomount: ${
    text.trim().replace(/^error: /, "").replace(/\s*\n\s*/g, " ")
  }; see denomount --help\n`;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
