/**
 * The definition of the command: its subcommands, their arguments, options and help.
 *
 * @module
 */

import { activate, activations, deactivate, sync } from "./activations.ts";
import { addBwrap, addSandbox, addTry } from "./box_commands.ts";
import { bytes, directories, label, milliseconds, pid, types } from "./arguments.ts";
import { explainList, idmap, lookup, umount } from "./commands.ts";
import { completions, shellName } from "./completions.ts";
import { addContainerdOptions, snapshotOf, withoutContainerd } from "./containerd_options.ts";
import { Command, Option } from "./deps.ts";
import { doctor } from "./doctor.ts";
import { ls } from "./list.ts";
import { loopAttach, loopDetach, loopList } from "./loop.ts";
import { manual } from "./manual.ts";
import { escapeControl, print } from "./print.ts";
import { run } from "./run.ts";
import { down, up } from "./up.ts";
import { watch } from "./watch.ts";

/** Receives the exit status of a subcommand. */
type Done = (status: number) => void;

const JSON_FILE = `
FILE is JSON: a list of mounts in containerd's shape ("-" reads standard input):
  [{"type": "overlay", "source": "overlay", "options": ["lowerdir=/usr:/etc"]},
   {"type": "bind", "source": "/srv", "target": "/srv", "options": ["rbind", "ro"]}]`;

const EXIT_STATUS = `
Exit status:
  0    success
  1    a call failed; standard error names it
  2    usage error
  130  ended by Ctrl-C, with nothing left mounted; 143 by SIGTERM, 129 by SIGHUP
"run" exits with the status of its command.`;

/** Each adds a subcommand, in the order of `--help`. */
const SUBCOMMANDS: readonly ((top: Command, done: Done) => void)[] = [
  addUp,
  addDown,
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

/**
 * Defines the command.
 *
 * @param done receives the exit status of the subcommand that ran.
 * @returns the command, ready to parse arguments.
 */
export function program(done: Done): Command {
  const top = new Command("denomount");
  top
    .description("Mounts lists of mounts under a directory, and unmounts them.")
    .version("0.1.0")
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(oneLine(text)) })
    .showSuggestionAfterError(false)
    .enablePositionalOptions()
    .addHelpText("after", EXIT_STATUS)
    .addHelpText("after", "\nExample:\n  denomount run --chroot rootfs.json -- /bin/sh");
  for (const add of SUBCOMMANDS) add(top, done);
  return top;
}

function oneLine(text: string): string {
  return `denomount: ${
    escapeControl(text.trim().replace(/^error: /, "").replace(/\s*\n\s*/g, " "))
  }; see denomount --help\n`;
}

const MANAGED_LIST = `
A list with types such as "mkfs/ext4", "loop" and "format/overlay" is prepared by the mount manager: see
"denomount help activate".`;

/** With gRPC, which ls, up and down load only for --containerd. */
const loadContainerd = () => import("./containerd.ts");

const SNAPSHOT = `
With --containerd, FILE is SNAPSHOTTER/KEY: a snapshot of containerd that is not committed. "denomount ls --containerd"
prints them.`;

const OF_SNAPSHOT = "FILE is SNAPSHOTTER/KEY, a snapshot of containerd";
const ITS_NAMESPACE = "with --containerd, its namespace (default: $CONTAINERD_NAMESPACE, or default)";

function addUp(top: Command, done: Done): void {
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
      `${JSON_FILE}${MANAGED_LIST}
${SNAPSHOT}

With --replace, the new mounts are attached beneath those that are on their mountpoints, and these are unmounted. One
that is in use is detached: its users keep it. If the list fails, the old mounts stay. Once they are unmounted the new
ones stay in any case: a signal that arrives then changes nothing.

Prints each mountpoint. Examples:
  denomount up mounts.json /mnt
  denomount up --replace mounts.json /mnt
  denomount up --containerd overlayfs/KEY /mnt`,
    )
    .action(async (file, target, { containerd, ...flags }) => {
      if (!containerd) return done(await up(file, target, withoutContainerd(command, flags)));
      const snapshot = snapshotOf(command, file);
      done(await (await loadContainerd()).up(snapshot, target, flags));
    });
  addContainerdOptions(command, OF_SNAPSHOT, ["allowDir", "replace"]);
}

function addDown(top: Command, done: Done): void {
  const command = withManagerOptions(withRetryOptions(top.command("down"))).description(
    "unmount a list from TARGET",
  )
    .argument("<FILE>").argument("<TARGET>")
    .option("--namespace <PID|NAME>", `unmount in this process's mount namespace; ${ITS_NAMESPACE}`)
    .addHelpText(
      "after",
      `${JSON_FILE}
${SNAPSHOT}

Examples:
  denomount down mounts.json /mnt
  denomount down --containerd overlayfs/KEY /mnt`,
    )
    .action(async (file, target, { lazy, containerd, ...rest }) => {
      const flags = { ...rest, detach: Boolean(lazy) };
      if (!containerd) return done(await down(file, target, withoutContainerd(command, flags)));
      const snapshot = snapshotOf(command, file);
      done(await (await loadContainerd()).down(snapshot, target, flags));
    });
  addContainerdOptions(command, OF_SNAPSHOT, ["allowDir"]);
}

function addUmount(top: Command, done: Done): void {
  withUnmountOptions(top.command("umount")).description(
    "unmount each TARGET; a TARGET that is not a mountpoint is no error",
  )
    .argument("<TARGET...>")
    .option("-a, --all", "every mount that is stacked on TARGET")
    .option("-R, --recursive", "every mount at and below TARGET, the deepest first")
    .option("--no-follow", "do not follow TARGET if it is a symbolic link")
    .addHelpText("after", "\nExample:\n  denomount umount --recursive /mnt")
    .action(async (targets, { follow, ...flags }) =>
      done(await umount(targets, { ...flags, noFollow: !follow }))
    );
}

function withUnmountOptions(command: Command): Command {
  return withRetryOptions(command)
    .option("--namespace <PID>", "unmount in this process's mount namespace", pid);
}

function withRetryOptions(command: Command): Command {
  return command
    .option("-l, --lazy", "detach now; the kernel cleans up when the last user is gone (MNT_DETACH)")
    .option("-f, --force", "abort the requests to a server that does not answer (MNT_FORCE)")
    .option("--timeout <MS>", "how long to retry while a mount is busy (default: 2500)", milliseconds);
}

const ROOT = [
  "--root <DIR>",
  "where the mount manager keeps its mounts (default: /var/lib/denomount; without root, ~/.local/state/denomount)",
] as const;

function withManagerOptions(command: Command): Command {
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
      `${JSON_FILE}

CMD starts in the mount, whose path is in $DENOMOUNT_ROOT. Without root, CMD runs in a user namespace.
Example:
  denomount run --chroot rootfs.json -- /bin/sh -c 'ls /'`,
    )
    .action(async (file, command, flags) => done(await run(file, stripSeparator(command), flags)));
}

function stripSeparator(command: string[]): string[] {
  return command[0] === "--" ? command.slice(1) : command;
}

function addRunIsolated(top: Command, done: Done): void {
  withManagerOptions(top.command("run-isolated", { hidden: true }).option("--chroot"))
    .argument("<FILE>").argument("<CMD...>")
    .passThroughOptions()
    .action(async (file, command, flags) => done(await run(file, command, flags, true)));
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
      `${JSON_FILE}

Prints JSON, for "denomount up". The entries that others refer to are mounted below the directory of --root:
  format/TYPE  {{ mount 0 }} stands for the mountpoint of the first entry; also source, target, overlay 0 2
  mkfs/TYPE    makes the image unless it exists: X-containerd.mkfs.size=64MiB, .fs=ext4, .uuid=
  mkdir/TYPE   makes a directory unless it exists: X-containerd.mkdir.path=DIR[:MODE[:UID:GID]]
  loop, erofs  attaches or mounts an image file, of several devices too
An activation survives the process and is recorded; after a crash or a reboot, use "denomount sync".
Example:
  denomount activate box rootfs.json | denomount up - /mnt`,
    )
    .action(async (name, file, flags) => done(await activate(name, file, flags)));
}

function addDeactivate(top: Command, done: Done): void {
  withRetryOptions(top.command("deactivate")).description(
    "unmount what an activation has mounted, and forget it; its images stay",
  )
    .argument("<NAME>")
    .option(...ROOT)
    .addHelpText("after", "\nExample:\n  denomount deactivate box")
    .action(async (name, flags) => done(await deactivate(name, flags)));
}

function addActivations(top: Command, done: Done): void {
  top.command("activations").description("print the activations")
    .option("--label <KEY=VALUE>", "only activations with this label; may be repeated", label)
    .option("--json", "as JSON, with their mounts")
    .option("--names", "only the names, one per line")
    .option(...ROOT)
    .addHelpText("after", "\nExample:\n  denomount activations --label app=web")
    .action(async (flags) => done(await activations(flags)));
}

function addSync(top: Command, done: Done): void {
  withManagerOptions(top.command("sync")).description(
    "undo what a crash has left half activated, and find the activations whose mounts are gone",
  )
    .addHelpText(
      "after",
      `
Prints "removed NAME" for an activation that was undone, and "lost NAME" for one whose mounts are gone, after a
reboot for example: activate it again, with the data in its images, or deactivate it.
Example:
  denomount sync`,
    )
    .action(async (flags) => done(await sync(flags)));
}

function addExplain(top: Command, done: Done): void {
  top.command("explain").description("print the system calls that mount a list, without making them")
    .argument("<FILE>").argument("<TARGET>")
    .option("--replace", 'those of "denomount up --replace"')
    .option("--json", "as JSON")
    .addHelpText(
      "after",
      `${JSON_FILE}\n\nNothing is mounted. Example:\n  denomount explain mounts.json /mnt`,
    )
    .action(async (file, target, flags) => done(await explainList(file, target, flags)));
}

function addIdmap(top: Command, done: Done): void {
  top.command("idmap").description("bind SOURCE on TARGET as an id-mapped mount")
    .argument("<SOURCE>").argument("<TARGET>")
    .requiredOption("--uid <MAP>", "the user ids: container:host:size, further ranges after commas")
    .option("--gid <MAP>", "the group ids (default: the same as --uid)")
    .option("-r, --readonly", "read-only")
    .option("-R, --recursive", "include the mounts below SOURCE")
    .addHelpText("after", "\nExample:\n  denomount idmap --uid 0:100000:65536 /srv/rootfs /mnt")
    .action(async (source, target, flags) => done(await idmap(source, target, flags)));
}

function addLoop(top: Command, done: Done): void {
  const loop = top.command("loop").description("attach files as block devices");
  loop.command("attach").description("attach FILE to a free loop device, and print the device").argument(
    "<FILE>",
  )
    .option("-r, --readonly", "read-only")
    .option("--autoclear", "detach the device when its last user closes it")
    .option("--direct", "bypass the page cache (direct I/O)")
    .option("--offset <BYTES>", "where the data begins in FILE", bytes)
    .option("--size-limit <BYTES>", "how much of FILE the device shows", bytes)
    .addHelpText("after", "\nExample:\n  denomount loop attach --readonly image.ext4")
    .action(async (file, flags) => done(await loopAttach(file, flags)));
  loop.command("detach").description("detach each DEVICE").argument("<DEVICE...>")
    .addHelpText("after", "\nExample:\n  denomount loop detach /dev/loop0")
    .action(async (devices) => done(await loopDetach(devices)));
  loop.command("ls").description("print the attached loop devices").option("--json", "as JSON")
    .addHelpText("after", "\nExample:\n  denomount loop ls")
    .action(async (flags) => done(await loopList(flags)));
}

function addDoctor(top: Command, done: Done): void {
  top.command("doctor").description(
    "print what this kernel, user and Deno support, and what to install",
  )
    .option("--json", "as JSON")
    .addHelpText("after", "\nExample:\n  denomount doctor")
    .action(async (flags) => done(await doctor(flags)));
}

function addCompletions(top: Command): void {
  top.command("completions").description("print completions for a shell").argument(
    "<SHELL>",
    "bash, zsh or fish",
    shellName,
  )
    .addHelpText("after", "\nExample:\n  denomount completions bash > /etc/bash_completion.d/denomount")
    .action((shell) => print(completions(top, shell)));
}

function addManual(top: Command): void {
  top.command("manual").description("print the manual page, for man(1)")
    .addHelpText("after", "\nExample:\n  denomount manual | man -l -")
    .action(() => print(manual(top)));
}

function addLs(top: Command, done: Done): void {
  const command = top.command("ls").description(
    "print the mount table, or the mounts at and below PATH; or what containerd has",
  )
    .argument("[PATH]")
    .option("--tree", "as a tree, with id maps, propagation, loop files and sizes")
    .option("--json", "as JSON")
    .option("-t, --type <TYPE>", "only file systems of these types, separated by commas", types)
    .option(
      "--namespace <PID|NAME>",
      "read the table of this process's mount namespace; with --containerd, its namespace " +
        "(default: $CONTAINERD_NAMESPACE, or all)",
    )
    .addHelpText(
      "after",
      `
Prints with --containerd the snapshots of each snapshotter, with what they take without their parents, and what
containerd's mount manager has mounted. "denomount up --containerd" takes a snapshot by its name here.
Examples:
  denomount ls --tree /run
  denomount ls --containerd --namespace k8s.io`,
    )
    .action(async (path, { containerd, ...flags }) => {
      if (!containerd) return done(await ls(path, withoutContainerd(command, flags)));
      if (path !== undefined) command.error("error: --containerd takes no PATH");
      done(await (await loadContainerd()).ls(flags));
    });
  addContainerdOptions(command, "the snapshots of containerd and its active mounts", ["type"]);
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
      `
Prints + mounted, - unmounted, > moved, ~ changed, ± mounted and unmounted before it could be read.
Ends on Ctrl-C, when the reader of its output closes, and when the process of --namespace exits.
Example:
  denomount watch --type overlay /run`,
    )
    .action(async (path, flags) => done(await watch(path, flags)));
}

function addLookup(top: Command, done: Done): void {
  top.command("lookup").description("print the mount that contains PATH")
    .argument("<PATH>")
    .option("--json", "as JSON")
    .addHelpText("after", "\nExample:\n  denomount lookup .")
    .action(async (path, flags) => done(await lookup(path, flags)));
}

function addSnapshotter(top: Command, done: Done): void {
  top.command("snapshotter").description("serve a snapshotter to containerd, as a proxy plugin")
    .requiredOption("--root <DIR>", "the directory of the snapshots, which is made if it does not exist")
    .option("--socket <PATH>", "the socket for containerd (default: the one that systemd has passed)")
    .addOption(
      new Option("--prepare <MODE>", "which snapshots it mounts itself; auto: those with mapped ids")
        .choices(["auto", "always", "never"]).default("auto"),
    )
    .addHelpText(
      "after",
      `
Ends on SIGTERM and Ctrl-C, when the calls that run are completed; what is mounted stays mounted.
Example:
  denomount snapshotter --root /var/lib/denomount/snapshotter --socket /run/denomount/snapshotter.sock`,
    )
    // Only this subcommand loads gRPC.
    .action(async (flags) => done(await (await import("./snapshotter.ts")).snapshotter(flags)));
}
