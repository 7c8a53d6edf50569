/**
 * The manual page, generated from the text of `--help`.
 *
 * @module
 */

import type { Command } from "./deps.ts";

/**
 * Returns the page as man(7) source.
 *
 * @param top the command.
 * @returns the text.
 */
export function manual(top: Command): string {
  return [
    `.TH DENOMOUNT 1 "" "denomount ${top.version()}" "User Commands"`,
    ".SH NAME",
    "denomount \\- mount and unmount lists of mounts",
    ".SH SYNOPSIS",
    ".B denomount",
    ".I COMMAND",
    "[ARGUMENT...]",
    ".SH DESCRIPTION",
    plain(top.description()),
    ".SH COMMANDS",
    ...commands(top).flatMap(section),
    ".SH NOTES",
    verbatim(helpAfter(top)),
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
    `.SS "${plain(help.commandUsage(command))}"`,
    plain(command.description()),
    ...options.flatMap((
      option,
    ) => [".TP", `.B ${plain(option.flags)}`, plain(help.optionDescription(option))]),
    verbatim(helpAfter(command)),
  ];
}

/** The part of a command's help that follows the options. */
function helpAfter(command: Command): string {
  let text = "";
  command.configureOutput({ ...command.configureOutput(), writeOut: (part) => text += part });
  command.outputHelp();
  return text.slice(text.search(/\n(FILE is|CMD |Nothing |Prints |Example|Exit status)/)).trim();
}

function plain(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^([.'])/gm, "\\&$1");
}

function verbatim(text: string): string {
  return `.PP\n.nf\n${plain(text)}\n.fi`;
}
