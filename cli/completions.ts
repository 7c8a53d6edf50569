/**
 * Shell completions, generated from the definition of the command.
 *
 * @module
 */

import { type Command, InvalidArgumentError } from "./deps.ts";

interface Word {
  text: string;
  description: string;
}

/** Each visible subcommand as its words, with the words that may follow. */
function completionsOf(command: Command, words: string[] = []): { words: string[]; next: Word[] }[] {
  const visible = command.createHelp().visibleCommands(command).filter((each) => each.name() !== "help");
  const options = command.createHelp().visibleOptions(command).map((option): Word => ({
    text: option.long ?? option.short ?? "",
    description: option.description,
  }));
  const commands = visible.map((each): Word => ({ text: each.name(), description: each.description() }));
  return [
    { words, next: [...commands, ...options] },
    ...visible.flatMap((each) => completionsOf(each, [...words, each.name()])),
  ];
}

/**
 * Returns a completion script.
 *
 * @param top the command.
 * @param shell bash, zsh or fish.
 * @returns the script.
 */
export function completions(top: Command, shell: string): string {
  const all = completionsOf(top);
  const generators: Record<string, (all: ReturnType<typeof completionsOf>) => string> = { bash, zsh, fish };
  const generate = generators[shell];
  if (generate === undefined) {
    throw new InvalidArgumentError(`completions exist for bash, zsh and fish, not for "${shell}"`);
  }
  return generate(all);
}

function bash(all: ReturnType<typeof completionsOf>): string {
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

function zsh(all: ReturnType<typeof completionsOf>): string {
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

function fish(all: ReturnType<typeof completionsOf>): string {
  const lines = all.flatMap(({ words, next }) =>
    next.map(({ text, description }) => {
      const seen = words.map((word) => `__fish_seen_subcommand_from ${word}`);
      const condition = seen.length > 0 ? seen.join("; and ") : "__fish_use_subcommand";
      const argument = text.startsWith("--")
        ? `-l ${text.slice(2)}`
        : text.startsWith("-")
        ? `-s ${text.slice(1)}`
        : `-a ${text}`;
      return `complete -c denomount -n '${condition}' ${argument} -d '${description.replaceAll("'", "\\'")}'`;
    })
  );
  return ["# fish completion for denomount", ...lines].join("\n");
}
