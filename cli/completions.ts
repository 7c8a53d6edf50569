/**
 * Completions for shells, made from the command itself.
 *
 * @module
 */

import { type Command, InvalidArgumentError } from "./deps.ts";

interface Word {
  text: string;
  description: string;
}

/** Every command that can be typed, as its words, with what may come next. */
function commandsOf(command: Command, words: string[] = []): { words: string[]; next: Word[] }[] {
  const visible = command.createHelp().visibleCommands(command).filter((each) => each.name() !== "help");
  const options = command.createHelp().visibleOptions(command).map((option): Word => ({
    text: option.long ?? option.short ?? "",
    description: option.description,
  }));
  const commands = visible.map((each): Word => ({ text: each.name(), description: each.description() }));
  return [
    { words, next: [...commands, ...options] },
    ...visible.flatMap((each) => commandsOf(each, [...words, each.name()])),
  ];
}

/**
 * A completion script.
 *
 * @param top the command.
 * @param shell bash, zsh or fish.
 * @returns the script.
 */
export function completions(top: Command, shell: string): string {
  const all = commandsOf(top);
  const make: Record<string, (all: ReturnType<typeof commandsOf>) => string> = { bash, zsh, fish };
  const script = make[shell];
  if (script === undefined) {
    throw new InvalidArgumentError(`there are completions for bash, zsh and fish, not for "${shell}"`);
  }
  return script(all);
}

function bash(all: ReturnType<typeof commandsOf>): string {
  const cases = all.map(({ words, next }) =>
    `    "${words.join(" ")}") next="${next.map(({ text }) => text).join(" ")}" ;;`
  );
  return `# bash completion for denomount
_denomount() {
  local current="\${COMP_WORDS[COMP_CWORD]}" typed="" next="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || typed="\${typed:+$typed }$word"
  done
  while :; do
    case "$typed" in
${cases.join("\n").replace(/^ {4}/gm, "      ")}
      *) typed="\${typed% *}"; continue ;;
    esac
    break
  done
  COMPREPLY=($(compgen -W "$next" -- "$current"))
  [[ $current == -* ]] || COMPREPLY+=($(compgen -f -- "$current"))
  return 0
}
complete -o filenames -F _denomount denomount`;
}

function zsh(all: ReturnType<typeof commandsOf>): string {
  const quoted = ({ text, description }: Word) => `'${`${text}:${description}`.replaceAll("'", "'\\''")}'`;
  const cases = all.map(({ words, next }) =>
    `      '${words.join(" ")}') next=(${next.map(quoted).join(" ")}) ;;`
  );
  return `#compdef denomount
_denomount() {
  local -a next
  local typed="" word
  for word in "\${(@)words[2,CURRENT-1]}"; do
    [[ $word == -* ]] || typed="\${typed:+$typed }$word"
  done
  while true; do
    case "$typed" in
${cases.join("\n")}
      *) typed="\${typed% *}"; continue ;;
    esac
    break
  done
  _describe denomount next
  _files
}
_denomount "$@"`;
}

function fish(all: ReturnType<typeof commandsOf>): string {
  const lines = all.flatMap(({ words, next }) =>
    next.map(({ text, description }) => {
      const seen = words.map((word) => `__fish_seen_subcommand_from ${word}`);
      const condition = seen.length > 0 ? seen.join("; and ") : "__fish_use_subcommand";
      const what = text.startsWith("--")
        ? `-l ${text.slice(2)}`
        : text.startsWith("-")
        ? `-s ${text.slice(1)}`
        : `-a ${text}`;
      return `complete -c denomount -n '${condition}' ${what} -d '${description.replaceAll("'", "\\'")}'`;
    })
  );
  return ["# fish completion for denomount", ...lines].join("\n");
}
