/**
 * The definition of the command: its subcommands, their arguments, options and help.
 *
 * @module
 */

import {
  bytes,
  COLUMN_NAMES,
  columnNames,
  directories,
  label,
  milliseconds,
  pid,
  shellName,
  texts,
  types,
} from "./arguments.ts";
import { addBwrap, addSandbox, addTry } from "./box_commands.ts";
import { addContainerdOptions, snapshotOf, withoutContainerd } from "./containerd_options.ts";
import type { Command } from "./deps.ts";
import { wrapped } from "./help_text.ts";
import { escapeControl, print } from "./print.ts";
import { type Definition, runLine } from "./reader.ts";

/** Receives the exit status of a subcommand. */
export type Done = (status: number) => void;

const JSON_FILE = `
FILE is JSON: a list of mounts in containerd's shape ("-" reads standard input):
  [{"type": "overlay", "source": "overlay",
    "options": ["lowerdir=/usr:/etc"]},
   {"type": "bind", "source": "/srv", "target": "/srv",
    "options": ["rbind", "ro"]}]`;

const EXIT_STATUS = `
Exit status:
  0    success
  1    a call failed, and standard error names it; "ls" has found no mount
  2    usage error
  32   "mount" or "umount" failed
  64   "umount" has failed for some targets
  130  ended by Ctrl-C, with nothing left mounted; 143 by SIGTERM, 129 by SIGHUP
"run" exits with the status of its command.`;

/** Each adds a subcommand, in the order of `--help`. */
const SUBCOMMANDS: readonly ((top: Command, done: Done) => void)[] = [
  addUp,
  addDown,
  addMount,
  addUmount,
  addRun,
  addRunIsolated,
  addSandbox,
  addTry,
  addBwrap,
  addActivate,
  addDeactivate,
  addActivations,
  addSync,
  addCleanup,
  addExplain,
  addIdmap,
  addLoop,
  addDoctor,
  addCompletions,
  addManual,
  addLs,
  addWatch,
  addLookup,
  addSnapshotter,
];

/** The subcommands whose lines are read without the argument parser. */
export const QUICK: ReadonlyMap<string, (top: Definition, done: Done) => void> = new Map([
  ["up", addUp],
  ["down", addDown],
  ["mount", addMount],
  ["umount", addUmount],
  ["ls", addLs],
  ["lookup", addLookup],
]);

/**
 * Carries out a line that needs no argument parser.
 *
 * @param args the arguments of the command.
 * @param done receives the exit status.
 * @returns false if the line needs the parser: nothing was done then.
 */
export async function runQuick([name = "", ...args]: readonly string[], done: Done): Promise<boolean> {
  const add = QUICK.get(name);
  return add !== undefined && await runLine((top) => add(top, done), args);
}

/**
 * Defines the command.
 *
 * @param top an empty command.
 * @param done receives the exit status of the subcommand that ran.
 * @returns the command, ready to parse arguments.
 */
export function defineCommand(top: Command, done: Done): Command {
  top
    .description("Mounts lists of mounts under a directory, and unmounts them.")
    .version("0.1.0")
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(oneLine(text, "denomount")) })
    .showSuggestionAfterError(true)
    .enablePositionalOptions()
    .addHelpText("after", wrapped(EXIT_STATUS))
    .addHelpText("after", wrapped("\nExample:\n  denomount run --chroot rootfs.json -- /bin/sh"));
  for (const add of SUBCOMMANDS) add(top, done);
  nameHelp(top, "denomount");
  return top;
}

/** A usage error of a subcommand names the subcommand's own help. */
function nameHelp(command: Command, path: string): void {
  for (const sub of command.commands) {
    const own = `${path} ${sub.name()}`;
    sub.configureOutput({ outputError: (text, write) => write(oneLine(text, own)) });
    nameHelp(sub, own);
  }
}

function oneLine(text: string, command: string): string {
  return `denomount: ${
    escapeControl(text.trim().replace(/^error: /, "").replace(/\s*\n\s*/g, " ")).replace(/\.$/, "")
  }; see ${command} --help\n`;
}

const MANAGED_LIST = `
A list with types such as "mkfs/ext4", "loop" and "format/overlay" is prepared by the mount manager: see
"denomount help activate".`;

// Each is typed once: a test counts the dynamic imports, whose literals are in the module graph.
const loadRun = () => import("./run.ts");
const loadActivations = () => import("./activations.ts");
const loadCommands = () => import("./commands.ts");
const loadLoop = () => import("./loop.ts");

/** With gRPC, which ls, up and down load only for --containerd. */
const loadContainerd = () => import("./containerd.ts");

const SNAPSHOT = `
With --containerd, FILE is SNAPSHOTTER/KEY: a snapshot of containerd that is not committed. "denomount ls --containerd"
prints them.`;

const OF_SNAPSHOT = "FILE is SNAPSHOTTER/KEY, a snapshot of containerd";
const ITS_NAMESPACE = "with --containerd, its namespace (default: $CONTAINERD_NAMESPACE, or default)";

function addUp(top: Definition, done: Done): void {
  const command = withManagerOptions(top.command("up")).description(
    "mount a list under TARGET: all of it or nothing",
  )
    .argument("<FILE>").argument("<TARGET>")
    .option(
      "--namespace <PID|NAME>",
      `look up TARGET in this process's mount namespace, the sources in the current one; ${ITS_NAMESPACE}`,
    )
    .option("--replace", "replace what is mounted there, with no moment without a mount (Linux 6.5)")
    .addHelpText(
      "after",
      wrapped(`${JSON_FILE}${MANAGED_LIST}
${SNAPSHOT}

With --replace, the new mounts are attached beneath those that are on their mountpoints, and these are unmounted. One
that is in use is detached: its users keep it. If the list fails, the old mounts stay. Once they are unmounted the new
ones stay in any case: a signal that arrives then changes nothing.

Prints each mountpoint. Examples:
  denomount up mounts.json /mnt
  denomount up --replace mounts.json /mnt
  denomount up --containerd overlayfs/KEY /mnt`),
    )
    .action(async (file, target, { containerd, ...flags }) => {
      if (!containerd) {
        const own = withoutContainerd(command, flags);
        const { up } = await import("./up.ts");
        return done(await up(file, target, own));
      }
      const snapshot = snapshotOf(command, file);
      done(await (await loadContainerd()).up(snapshot, target, flags));
    });
  addContainerdOptions(command, OF_SNAPSHOT, ["allowDir", "replace"]);
}

function addDown(top: Definition, done: Done): void {
  const command = withManagerOptions(withRetryOptions(top.command("down"))).description(
    "unmount a list from TARGET",
  )
    .argument("<FILE>").argument("<TARGET>")
    .option("--namespace <PID|NAME>", `unmount in this process's mount namespace; ${ITS_NAMESPACE}`)
    .addHelpText(
      "after",
      wrapped(`${JSON_FILE}
${SNAPSHOT}

Examples:
  denomount down mounts.json /mnt
  denomount down --containerd overlayfs/KEY /mnt`),
    )
    .action(async (file, target, { lazy, containerd, ...rest }) => {
      const flags = { ...rest, detach: Boolean(lazy) };
      if (!containerd) {
        const own = withoutContainerd(command, flags);
        const { down } = await import("./down.ts");
        return done(await down(file, target, own));
      }
      const snapshot = snapshotOf(command, file);
      done(await (await loadContainerd()).down(snapshot, target, flags));
    });
  addContainerdOptions(command, OF_SNAPSHOT, ["allowDir"]);
}

function addMount(top: Definition, done: Done): void {
  const command = top.command("mount").description(
    "mount SOURCE on TARGET, or change a mount, in the words of mount(8)",
  )
    .argument("<SOURCE>").argument("[TARGET]")
    .option("-t, --type <TYPE>", 'the type of the file system; found out if it is left out, or "auto"')
    .option("-o, --options <WORDS>", "options, separated by commas; may be repeated", texts)
    .option("-B, --bind", "mount a directory or file in another place too")
    .option("-R, --rbind", "the same, with the mounts below it")
    .option("-M, --move", "move a mount, with the mounts below it")
    .option("--beneath", "beneath what is mounted on TARGET, which stays on top (Linux 6.5)")
    .option("-r, --read-only", "the same as -o ro")
    .option("-w, --read-write", "fail if SOURCE is write-protected, instead of mounting it read-only")
    .option("-m, --mkdir", "make TARGET if it is missing (with a mode: -o X-mount.mkdir=0700)")
    .option("--namespace <PID>", "look up TARGET in this process's mount namespace", pid);
  for (const word of PROPAGATIONS) {
    command.option(`--make-${word}`, `change the propagation of the mount to ${word}`);
  }
  command.addHelpText(
    "after",
    wrapped(`
SOURCE is a device, an image file, a directory, a name, LABEL=, UUID=, PARTLABEL= or PARTUUID=. TARGET alone is for
"-o remount" and "--make-...". /etc/fstab is not read. The words of -o are those of mount(8), and carried out or refused:
https://jsr.io/@denomount/mount has the list. "-o partition=N" mounts a partition of an image.
An image gets a loop device. A write-protected source is mounted read-only, with a warning. A type that the kernel does
not know, nfs and cifs are mounted by the program mount.TYPE, from an absolute directory only.
Exit status 32: the mount failed.
Examples:
  denomount mount -t tmpfs -o size=64M,mode=0700 scratch /mnt
  denomount mount --rbind -r /srv /mnt
  denomount mount LABEL=data /mnt
  denomount mount disk.img /mnt
  denomount mount -o remount,ro /mnt`),
  )
    .action(async (first, second, flags) => {
      const { mountWords } = await import("./mount.ts");
      const words = PROPAGATIONS.filter((word) => flags[makeKey(word)]);
      const operands = second === undefined ? [first] : [first, second];
      done(await mountWords(operands, { ...flags, propagation: words }));
    });
}

/** Those of mount(8). */
const PROPAGATIONS = [
  "shared",
  "slave",
  "private",
  "unbindable",
  "rshared",
  "rslave",
  "rprivate",
  "runbindable",
];

/** The name of the value of an option such as `--make-rshared`. */
const makeKey = (word: string) => `make${word.charAt(0).toUpperCase()}${word.slice(1)}`;

function addUmount(top: Definition, done: Done): void {
  withUnmountOptions(top.command("umount")).description(
    "unmount each TARGET: a mountpoint, a device or an image file",
  )
    .argument("<TARGET...>")
    .option("-a, --all", "every mount that is stacked on TARGET")
    .option("-R, --recursive", "every mount at and below TARGET, the deepest first")
    .option("-q, --quiet", "print nothing about a TARGET that is not mounted")
    .option("--no-follow", "do not follow TARGET if it is a symbolic link")
    .addHelpText(
      "after",
      wrapped(`
Goes on after a failure. Of a device that is mounted more than once, the last mount is unmounted.
Exit status 32: no TARGET was unmounted, 64: some were.
Examples:
  denomount umount --recursive /mnt
  denomount umount disk.img`),
    )
    .action(async (targets, { follow, ...flags }) => {
      const { umount } = await import("./umount.ts");
      done(await umount(targets, { ...flags, noFollow: !follow }));
    });
}

function withUnmountOptions<T extends Definition>(command: T): T {
  return withRetryOptions(command)
    .option("--namespace <PID>", "unmount in this process's mount namespace", pid);
}

function withRetryOptions<T extends Definition>(command: T): T {
  return command
    .option("-l, --lazy", "detach now; the kernel cleans up when the last user is gone (MNT_DETACH)")
    .option("-f, --force", "abort the requests to a server that does not answer (MNT_FORCE)")
    .option("--timeout <MS>", "how long to retry while a mount is busy (default: 2500)", milliseconds);
}

const ROOT = [
  "--root <DIR>",
  "where the mount manager keeps its mounts (default: /var/lib/denomount; without root, ~/.local/state/denomount)",
] as const;

function withManagerOptions<T extends Definition>(command: T): T {
  return command
    .option(...ROOT)
    .option(
      "--allow-dir <DIR>",
      "where mkfs/ and mkdir/ may make files, apart from the directory of --root; may be repeated",
      directories,
    );
}

function addRun(top: Command, done: Done): void {
  withManagerOptions(top.command("run")).description(
    "run CMD in a temporary mount of a list, and unmount it when CMD exits",
  )
    .argument("<FILE>").argument("<CMD...>")
    .option("--chroot", "make the mount CMD's root directory")
    .option("--private", "mount in a new mount namespace, which other processes do not see")
    .passThroughOptions()
    .addHelpText(
      "after",
      wrapped(`${JSON_FILE}

CMD starts in the mount, whose path is in $DENOMOUNT_ROOT. Without root, CMD runs in a user namespace.
Example:
  denomount run --chroot rootfs.json -- /bin/sh -c 'ls /'`),
    )
    .action(async (file, command, flags) => {
      const { run } = await loadRun();
      done(await run(file, stripSeparator(command), flags));
    });
}

function stripSeparator(command: string[]): string[] {
  return command[0] === "--" ? command.slice(1) : command;
}

function addRunIsolated(top: Command, done: Done): void {
  withManagerOptions(top.command("run-isolated", { hidden: true }).option("--chroot"))
    .argument("<FILE>").argument("<CMD...>")
    .passThroughOptions()
    .action(async (file, command, flags) => {
      const { run } = await loadRun();
      done(await run(file, command, flags, true));
    });
}

function addActivate(top: Command, done: Done): void {
  withManagerOptions(top.command("activate")).description(
    "prepare a list under NAME, and print the list that remains to be mounted",
  )
    .argument("<NAME>").argument("<FILE>")
    .option("--temporary", "mount all of the list; one bind remains")
    .option("--label <KEY=VALUE>", "a label of the activation; may be repeated", label)
    .addHelpText(
      "after",
      wrapped(`${JSON_FILE}

Prints JSON, for "denomount up". The entries that others refer to are mounted below the directory of --root:
  format/TYPE  {{ mount 0 }} is the mountpoint of the first entry;
               also source, target, overlay 0 2
  mkfs/TYPE    makes the image unless it exists:
               X-containerd.mkfs.size=64MiB, .fs=ext4, .uuid=
  mkdir/TYPE   makes a directory unless it exists:
               X-containerd.mkdir.path=DIR[:MODE[:UID:GID]]
  loop, erofs  attaches or mounts an image file, of several devices too
An activation survives the process and is recorded; after a crash or a reboot, use "denomount sync".
Example:
  denomount activate box rootfs.json | denomount up - /mnt`),
    )
    .action(async (name, file, flags) => {
      const { activate } = await loadActivations();
      done(await activate(name, file, flags));
    });
}

function addDeactivate(top: Command, done: Done): void {
  withRetryOptions(top.command("deactivate")).description(
    "unmount what an activation has mounted, and forget it; its images stay",
  )
    .argument("<NAME>")
    .option(...ROOT)
    .addHelpText("after", wrapped("\nExample:\n  denomount deactivate box"))
    .action(async (name, flags) => {
      const { deactivate } = await loadActivations();
      done(await deactivate(name, flags));
    });
}

function addActivations(top: Command, done: Done): void {
  top.command("activations").description("print the activations")
    .option("--label <KEY=VALUE>", "only activations with this label; may be repeated", label)
    .option("--json", "as JSON, with their mounts")
    .option("--names", "only the names, one per line")
    .option(...ROOT)
    .addHelpText("after", wrapped("\nExample:\n  denomount activations --label app=web"))
    .action(async (flags) => {
      const { activations } = await loadActivations();
      done(await activations(flags));
    });
}

function addSync(top: Command, done: Done): void {
  withManagerOptions(top.command("sync")).description(
    "undo what a crash has left half activated, and find the activations whose mounts are gone",
  )
    .addHelpText(
      "after",
      wrapped(`
Prints "removed NAME" for an activation that was undone, and "lost NAME" for one whose mounts are gone, after a
reboot for example: activate it again, with the data in its images, or deactivate it.
Example:
  denomount sync`),
    )
    .action(async (flags) => {
      const { sync } = await loadActivations();
      done(await sync(flags));
    });
}

function addCleanup(top: Command, done: Done): void {
  withRetryOptions(top.command("cleanup")).description(
    "unmount the temporary mounts that killed processes have left",
  )
    .option("--dry-run", "print their directories, and leave them")
    .addHelpText(
      "after",
      wrapped(`
Prints "removed DIRECTORY". Those of running processes and of other users stay. "denomount sync" does the same for the
activations of the mount manager.
Example:
  denomount cleanup`),
    )
    .action(async (flags) => {
      const { cleanup } = await import("./cleanup.ts");
      done(await cleanup(flags));
    });
}

function addExplain(top: Command, done: Done): void {
  top.command("explain").description("print the system calls that mount a list, without making them")
    .argument("<FILE>").argument("<TARGET>")
    .option("--replace", 'those of "denomount up --replace"')
    .option("--json", "as JSON")
    .addHelpText(
      "after",
      wrapped(`${JSON_FILE}\n\nNothing is mounted. Example:\n  denomount explain mounts.json /mnt`),
    )
    .action(async (file, target, flags) => {
      const { explainList } = await loadCommands();
      done(await explainList(file, target, flags));
    });
}

function addIdmap(top: Command, done: Done): void {
  top.command("idmap").description("bind SOURCE on TARGET as an id-mapped mount")
    .argument("<SOURCE>").argument("<TARGET>")
    .option("--uid <MAP>", "the user ids: container:host:size, further ranges after commas")
    .option("--gid <MAP>", "the group ids (default: the same as --uid)")
    .option("--clear", "without the id map of SOURCE, in place of --uid (Linux 6.15)", false)
    .option("-r, --readonly", "read-only")
    .option("-R, --recursive", "include the mounts below SOURCE")
    .addHelpText("after", wrapped("\nExample:\n  denomount idmap --uid 0:100000:65536 /srv/rootfs /mnt"))
    .action(async (source, target, flags, command) => {
      const { uid, gid, clear } = flags;
      if (!clear && uid === undefined) command.error("error: idmap takes --uid, or --clear");
      if (clear && (uid ?? gid) !== undefined) command.error("error: --clear takes no map");
      const { idmap } = await loadCommands();
      done(await idmap(source, target, flags));
    });
}

function addLoop(top: Command, done: Done): void {
  const loop = top.command("loop").description("attach files as block devices");
  loop.command("attach").description("attach FILE to a free loop device, and print the device").argument(
    "<FILE>",
  )
    .option("-r, --readonly", "read-only")
    .option("--autoclear", "detach the device when its last user closes it")
    .option("--direct", "bypass the page cache (direct I/O)")
    .option("--offset <BYTES>", "where the data begins in FILE, as 1048576 or 1M", bytes)
    .option("--size-limit <BYTES>", "how much of FILE the device shows", bytes)
    .addHelpText("after", wrapped("\nExample:\n  denomount loop attach --readonly image.ext4"))
    .action(async (file, flags) => {
      const { loopAttach } = await loadLoop();
      done(await loopAttach(file, flags));
    });
  loop.command("detach").description("detach each DEVICE").argument("<DEVICE...>")
    .addHelpText("after", wrapped("\nExample:\n  denomount loop detach loop0"))
    .action(async (devices) => {
      const { loopDetach } = await loadLoop();
      done(await loopDetach(devices));
    });
  loop.command("ls").description("print the attached loop devices").option("--json", "as JSON")
    .addHelpText("after", wrapped("\nExample:\n  denomount loop ls"))
    .action(async (flags) => {
      const { loopList } = await loadLoop();
      done(await loopList(flags));
    });
}

function addDoctor(top: Command, done: Done): void {
  top.command("doctor").description(
    "print what this kernel, user and Deno support, and what to install",
  )
    .option("--json", "as JSON")
    .addHelpText("after", wrapped("\nExample:\n  denomount doctor"))
    .action(async (flags) => {
      const { doctor } = await import("./doctor.ts");
      done(await doctor(flags));
    });
}

function addCompletions(top: Command): void {
  top.command("completions").description("print completions for a shell").argument(
    "<SHELL>",
    "bash, zsh or fish",
    shellName,
  )
    .addHelpText(
      "after",
      wrapped("\nExample:\n  denomount completions bash > /etc/bash_completion.d/denomount"),
    )
    .action(async (shell) => {
      const { completions } = await import("./completions.ts");
      print(completions(top, shell));
    });
}

function addManual(top: Command): void {
  top.command("manual").description("print the manual page, for man(1)")
    .addHelpText("after", wrapped("\nExample:\n  denomount manual | man -l -"))
    .action(async () => {
      const { manual } = await import("./manual.ts");
      print(manual(top));
    });
}

function addLs(top: Definition, done: Done): void {
  const command = top.command("ls").description(
    "print the mount table, or the mounts at and below PATH; or what containerd has",
  )
    .argument("[PATH]")
    .option("--tree", "as a tree, with id maps, propagation, loop files and sizes")
    .option("--json", "as JSON")
    .option(
      "-t, --type <TYPE>",
      "only file systems of these types, separated by commas; notmpfs is all but tmpfs",
      types,
    )
    .option("--columns <NAMES>", "the columns, separated by commas", columnNames)
    .option(
      "--namespace <PID|NAME>",
      "read the table of this process's mount namespace; with --containerd, its namespace " +
        "(default: $CONTAINERD_NAMESPACE, or all)",
    )
    .addHelpText(
      "after",
      wrapped(`
Columns: ${COLUMN_NAMES.join(", ")}. A narrow terminal shows fewer of them; a pipe gets all.
Exit status 1: there is no such mount.
Prints with --containerd the snapshots of each snapshotter, with what they take without their parents, and what
containerd's mount manager has mounted. "denomount up --containerd" takes a snapshot by its name here.
Examples:
  denomount ls --tree /run
  denomount ls --containerd --namespace k8s.io`),
    )
    .action(async (path, { containerd, ...flags }) => {
      if (!containerd) {
        const own = withoutContainerd(command, flags);
        const { ls } = await import("./list.ts");
        return done(await ls(path, own));
      }
      if (path !== undefined) command.error("error: --containerd takes no PATH");
      done(await (await loadContainerd()).ls(flags));
    });
  addContainerdOptions(command, "the snapshots of containerd and its active mounts", ["type", "columns"]);
}

function addWatch(top: Command, done: Done): void {
  top.command("watch").description(
    "print mounts and unmounts as they happen, everywhere or at and below PATH",
  )
    .argument("[PATH]")
    .option("-t, --type <TYPE>", "only file systems of these types, separated by commas", types)
    .option("--changes", "also print changes of options")
    .option("--namespace <PID>", "watch this process's mount namespace until the process exits", pid)
    .option("--json", "as JSON, one object per line")
    .addHelpText(
      "after",
      wrapped(`
Prints + mounted, - unmounted, > moved, ~ changed, ± mounted and unmounted before it could be read.
Ends on Ctrl-C, when the reader of its output closes, and when the process of --namespace exits.
Example:
  denomount watch --type overlay /run`),
    )
    .action(async (path, flags) => {
      const { watch } = await import("./watch.ts");
      done(await watch(path, flags));
    });
}

function addLookup(top: Definition, done: Done): void {
  top.command("lookup").description("print the mount that contains PATH")
    .argument("<PATH>")
    .option("--json", "as JSON")
    .addHelpText("after", wrapped("\nExample:\n  denomount lookup ."))
    .action(async (path, flags) => {
      const { lookup } = await loadCommands();
      done(await lookup(path, flags));
    });
}

function addSnapshotter(top: Command, done: Done): void {
  top.command("snapshotter").description("serve a snapshotter to containerd, as a proxy plugin")
    .requiredOption("--root <DIR>", "the directory of the snapshots, which is made if it does not exist")
    .option("--socket <PATH>", "the socket for containerd (default: the one that systemd has passed)")
    .addOption(
      top.createOption("--prepare <MODE>", "which snapshots it mounts itself; auto: those with mapped ids")
        .choices(["auto", "always", "never"]).default("auto"),
    )
    .addHelpText(
      "after",
      wrapped(`
Ends on SIGTERM and Ctrl-C, when the calls that run are completed; what is mounted stays mounted.
Example:
  denomount snapshotter --root /var/lib/snapshotter --socket /run/snap.sock`),
    )
    // Only this subcommand loads gRPC.
    .action(async (flags) => done(await (await import("./snapshotter.ts")).snapshotter(flags)));
}
