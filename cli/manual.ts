/**
 * The manual page, generated from the definition of the command and the text of `--help`.
 *
 * @module
 */

import type { Command } from "./deps.ts";
import { helpParts, wrapLine } from "./help_text.ts";

/** Variables of the environment, and what they are for. */
const ENVIRONMENT: readonly (readonly [name: string, what: string])[] = [
  ["CONTAINERD_ADDRESS", "The socket of containerd, for --containerd."],
  ["CONTAINERD_NAMESPACE", "The namespace of containerd, for --containerd."],
  ["DENOMOUNT_ROOT", 'Set by "denomount run" for its command: the directory of the mount.'],
  ["LC_ALL, LC_CTYPE, LANG", "If the first one that is set names no UTF-8, tables and trees are in ASCII."],
  ["NO_COLOR", "If set, nothing is colored. Colors are for terminals only."],
  ["PATH", "Where programs are looked for, in its absolute entries; then in the directories of the system."],
  ["TMPDIR", "Where temporary mounts are made, if it is absolute; else in /tmp."],
  ["XDG_STATE_HOME, HOME", "Where the mount manager of a user other than root keeps its record."],
];

const FILES: readonly (readonly [path: string, what: string])[] = [
  ["/var/lib/denomount", "The mounts and the record of root's mount manager."],
  ["~/.local/state/denomount", "Those of another user."],
  ["/tmp/denomount-XXXXXX", 'A temporary mount; "denomount cleanup" removes those of killed processes.'],
  ["/dev/disk/by-label, by-uuid, by-partlabel, by-partuuid", "Udev's links, for LABEL= and UUID=."],
  ["/run/containerd/containerd.sock", "The socket of containerd."],
];

const SEE_ALSO = [
  ...["mount(8)", "umount(8)", "findmnt(8)", "losetup(8)", "blkid(8)", "unshare(1)", "mount.fuse3(8)"],
  ...["mount(2)", "mount_namespaces(7)", "user_namespaces(7)"],
];

/**
 * Returns the page as man(7) source.
 *
 * @param top the command.
 * @returns the text.
 */
export function manual(top: Command): string {
  const all = commands(top);
  return [
    `.TH DENOMOUNT 1 "" "denomount ${top.version()}" "User Commands"`,
    ".nh", // no hyphens in names
    ".SH NAME",
    "denomount \\- mount and unmount lists of mounts",
    ".SH SYNOPSIS",
    ".B denomount",
    ".I COMMAND",
    "[ARGUMENT...]",
    ".SH DESCRIPTION",
    plain(top.description()),
    ".SH COMMANDS",
    ...all.flatMap(section),
    ".SH EXIT STATUS",
    ...exitStatus(top),
    ".SH ENVIRONMENT",
    ...list(ENVIRONMENT),
    ".SH FILES",
    ...list(FILES),
    ".SH EXAMPLES",
    ...[...all, top].flatMap(examples),
    ".SH SEE ALSO",
    plain(SEE_ALSO.join(", ")),
  ].join("\n");
}

/** The subcommands without subcommands. */
function commands(command: Command): Command[] {
  const visible = command.createHelp().visibleCommands(command).filter((each) => each.name() !== "help");
  return visible.flatMap((each) => each.commands.length > 0 ? commands(each) : [each]);
}

function section(command: Command): string[] {
  const help = command.createHelp();
  const options = help.visibleOptions(command).filter(({ long }) => long !== "--help");
  return [
    `.SS "${plain(help.commandUsage(command)).replaceAll('"', "\\(dq")}"`,
    plain(command.description()),
    ...options.flatMap((
      option,
    ) => [".TP", `.B ${plain(option.flags)}`, plain(help.optionDescription(option))]),
    ...parts(helpAfter(command).replace(EXAMPLES, (_, before: string) => before.trim()).trim()),
  ];
}

/** The last part of a help. */
const EXAMPLES = /(^|\n|\. )Examples?:\n[\s\S]*$/;

function examples(command: Command): string[] {
  const [found = ""] = EXAMPLES.exec(helpAfter(command)) ?? [];
  const lines = found.split("\n").filter((line) => line.startsWith("  ")).map((line) => line.trim());
  return lines.flatMap((line) => [".PP", ".nf", plain(broken(line)), ".fi"]);
}

const WIDTH = 70; // columns: a page is 80 wide, and indents its text by 7

/** A line of a shell that is too long goes on in the next. */
function broken(line: string): string {
  return wrapLine(line, WIDTH - 4).join(" \\\n    ");
}

/** The table in the help of the command itself. */
function exitStatus(top: Command): string[] {
  const [, table = ""] = /Exit status:\n((?: .*\n)+)/.exec(helpAfter(top)) ?? [];
  return table.trimEnd().split("\n").flatMap((line) => {
    const [, status = "", what = ""] = /^ +(\d+) +(.*)$/.exec(line) ?? [];
    return [".TP", `.B ${status}`, plain(what)];
  });
}

function list(entries: readonly (readonly [name: string, what: string])[]): string[] {
  return entries.flatMap(([name, what]) => [".TP", `.B ${plain(name)}`, plain(what)]);
}

/** The part of a command's help that follows the options. */
function helpAfter(command: Command): string {
  let text = "";
  command.configureOutput({ ...command.configureOutput(), writeOut: (part) => text += part });
  command.outputHelp();
  return text.slice(command.helpInformation().length).trim();
}

function parts(text: string): string[] {
  return helpParts(text).flatMap((part) =>
    "lines" in part ? [".PP", ".nf", plain(part.lines.join("\n")), ".fi"] : [".PP", plain(part.paragraph)]
  );
}

function plain(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("±", "\\(+-").replace(
    /^([.'])/gm,
    "\\&$1",
  );
}
