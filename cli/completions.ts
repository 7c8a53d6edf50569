/**
 * Shell completions, generated from the definition of the command.
 *
 * Each script reads the words before the cursor in the same way. A word that names a subcommand of the command so far
 * selects it; another word without a dash is an argument, the value of an option, or unknown. After an unknown subcommand
 * no words are completed, after "--" only file names. The names of activations come from the command itself.
 *
 * @module
 */

import type { Shell } from "./arguments.ts";
import type { Command } from "./deps.ts";

interface Word {
  text: string;
  /** The letter of an option that has a long form too. */
  short?: string | undefined;
  description: string;
}

/** A subcommand, and the words that may follow it. */
interface CommandWords {
  /** Its words, such as "loop attach"; "" for the command itself. */
  name: string;
  /** Its subcommands. */
  commands: Word[];
  /** Its options. */
  options: Word[];
  /** Those of its options that take a value, in the long and the short form. */
  valued: string[];
}

/** Each visible subcommand, in the order of `--help`. */
function wordsOf(command: Command, name = ""): CommandWords[] {
  const help = command.createHelp();
  const visible = help.visibleCommands(command).filter((each) => each.name() !== "help");
  const options = help.visibleOptions(command);
  const commands = visible.map((each): Word => ({ text: each.name(), description: each.description() }));
  const isTop = name === "";
  return [
    {
      name,
      commands: isTop
        ? [...commands, { text: "help", description: "print the help of a command" }]
        : commands,
      options: options.map(({ long, short, description }): Word => ({
        text: long ?? short ?? "",
        short: long && short,
        description,
      })),
      valued: options.filter(({ required }) => required).flatMap(({ long, short }) =>
        [long, short].filter((each) => each !== undefined)
      ),
    },
    ...visible.flatMap((each) => wordsOf(each, isTop ? each.name() : `${name} ${each.name()}`)),
    ...isTop ? [{ name: "help", commands, options: [], valued: [] }] : [],
  ];
}

/** The subcommand whose argument is the name of an activation. */
const OF_ACTIVATION = "deactivate";

const generators: Record<Shell, (all: CommandWords[]) => string> = { bash, zsh, fish };

/**
 * Returns a completion script.
 *
 * @param top the command.
 * @param shell the shell.
 * @returns the script.
 */
export function completions(top: Command, shell: Shell): string {
  return generators[shell](wordsOf(top));
}

function texts(words: readonly Word[]): string {
  return words.map(({ text }) => text).join(" ");
}

/** The part that is the same in bash and zsh: finds the subcommand of the words before the cursor. */
function selectCommand(all: CommandWords[], assign: (words: CommandWords) => string): string {
  return `  for word in "\${before[@]}"; do
    [[ $word == "=" ]] && continue
    if [[ -n $value ]]; then
      [[ $value == --root ]] && at=(--root "$word")
      value=""
      continue
    fi
    case "$word" in
      --) rest=1; break ;;
      --root=*) at=("$word"); continue ;;
      -*) [[ " $valued " == *" $word "* ]] && value="$word"; continue ;;
    esac
    [[ -z $commands ]] && continue
    [[ " $commands " == *" $word "* ]] || { unknown=1; break; }
    name="\${name:+$name }$word"
    case "$name" in
${all.filter(({ name }) => name !== "").map((each) => `      "${each.name}") ${assign(each)} ;;`).join("\n")}
    esac
  done`;
}

function assignTexts({ commands, options, valued }: CommandWords): string {
  return `commands="${texts(commands)}" options="${texts(options)}" valued="${valued.join(" ")}"`;
}

const top = (all: CommandWords[]): CommandWords =>
  all[0] ?? { name: "", commands: [], options: [], valued: [] };

function bash(all: CommandWords[]): string {
  return `# bash completion for denomount
_denomount() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before=("\${COMP_WORDS[@]:1:COMP_CWORD-1}")
  local name="" value="" rest="" unknown="" word at=()
  local ${assignTexts(top(all))}
${selectCommand(all, assignTexts)}
  COMPREPLY=()
  [[ -n $unknown ]] && return 0
  if [[ $name == ${OF_ACTIVATION} && -z $value && $current != -* ]]; then
    local line="\${COMP_LINE:0:COMP_POINT}" found
    local typed="\${line##* }"
    local cut="\${typed%"\${typed##*:}"}" # bash replaces what follows the last colon
    while IFS= read -r found; do
      [[ $found == "$typed"* ]] && COMPREPLY+=("$(printf %q "\${found#"$cut"}")")
    done < <("\${COMP_WORDS[0]}" activations --names "\${at[@]}" 2>/dev/null)
  elif [[ -n $rest || ( -z $commands && -z $value && $current != -* ) ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  elif [[ -z $value ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands $options" -- "$current")
  fi
  return 0
}
complete -F _denomount denomount`;
}

function zsh(all: CommandWords[]): string {
  const quoted = ({ text, description }: Word) => `'${`${text}:${description}`.replaceAll("'", "'\\''")}'`;
  const descriptions = all.map(({ name, commands, options }) =>
    `    '${name}') next=(${[...commands, ...options].map(quoted).join(" ")}) ;;`
  );
  return `#compdef denomount
# zsh completion for denomount: source it after compinit, or put it as _denomount into a directory of $fpath
_denomount() {
  local -a before next at found
  before=("\${(@)words[2,CURRENT-1]}")
  local current="$words[CURRENT]" name="" value="" rest="" unknown="" word
  local ${assignTexts(top(all))}
${selectCommand(all, assignTexts)}
  [[ -n $unknown ]] && return 1
  if [[ $name == ${OF_ACTIVATION} && -z $value && $current != -* ]]; then
    found=("\${(@f)$("$words[1]" activations --names "\${at[@]}" 2>/dev/null)}")
    compadd -a found
    return
  fi
  if [[ -n $rest || ( -z $commands && -z $value && $current != -* ) ]]; then
    _files
    return
  fi
  [[ -n $value ]] && return 1
  case "$name" in
${descriptions.join("\n")}
  esac
  _describe denomount next
}
if [[ "$funcstack[1]" == _denomount ]]; then
  _denomount "$@"
else
  compdef _denomount denomount
fi`;
}

function fish(all: CommandWords[]): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const cases = all.map(({ name, commands, valued }) =>
    `    case ${quoted(name)}\n      set commands ${texts(commands)}\n      set valued ${valued.join(" ")}`
  );
  const lines = all.flatMap(({ name, commands, options, valued }) => {
    const complete = `complete -c denomount -n ${quoted(`__denomount_at ${quoted(name)}`)}`;
    return [
      ...commands.length > 0
        ? commands.map(({ text, description }) => `${complete} -f -a ${text} -d ${quoted(description)}`)
        : [],
      ...options.map(({ text, short, description }) => {
        const letter = short ? ` -s ${short.slice(1)}` : "";
        const option = text.startsWith("--") ? `-l ${text.slice(2)}${letter}` : `-s ${text.slice(1)}`;
        return `${complete} ${valued.includes(text) ? "-x " : ""}${option} -d ${quoted(description)}`;
      }),
    ];
  });
  return `# fish completion for denomount
function __denomount_words
  switch "$argv"
${cases.join("\n").replace(/^ {4}/gm, "    ")}
  end
  printf '%s\\n' "$commands" "$valued"
end

# Prints the subcommand of the words before the cursor, or "?" after an unknown one and "!" after "--".
function __denomount_name
  set -l name
  set -l value
  set -l before (commandline -opc)
  for word in $before[2..-1]
    set -l known (__denomount_words "$name")
    if test -n "$value"
      set value
    else if test "$word" = --
      echo '!'
      return
    else if string match -q -- '-*' "$word"
      contains -- "$word" (string split ' ' -- "$known[2]"); and set value 1
    else if test -n "$known[1]"
      if not contains -- "$word" (string split ' ' -- "$known[1]")
        echo '?'
        return
      end
      set name (string trim -- "$name $word")
    end
  end
  echo "$name"
end

function __denomount_at
  set -l name (__denomount_name)
  test "$name" = "$argv[1]"
end

function __denomount_activations
  set -l before (commandline -opc)
  set -l at
  for index in (seq (count $before))
    if test "$before[$index]" = --root
      set at --root $before[(math $index + 1)]
    else if string match -q -- '--root=*' "$before[$index]"
      set at $before[$index]
    end
  end
  $before[1] activations --names $at 2>/dev/null
end

complete -c denomount -n "__denomount_at '?'" -f
complete -c denomount -n "__denomount_at ${OF_ACTIVATION}" -f -a '(__denomount_activations)'
${lines.join("\n")}`;
}
