/**
 * Shell completions, generated from the definition of the command.
 *
 * Each script reads the words before the cursor in the same way. A word that names a subcommand of the command so far
 * selects it; another word without a dash is an argument, the value of an option, or unknown. What is completed depends on
 * which argument or value stands at the cursor; where a name or a number goes that no shell knows, nothing is. After an
 * unknown subcommand no words are completed. The names of activations come from the command itself.
 *
 * @module
 */

import { COLUMN_NAMES, type Shell, SHELLS } from "./arguments.ts";
import type { Command } from "./deps.ts";

interface Word {
  text: string;
  /** The letter of an option that has a long form too. */
  short?: string | undefined;
  description: string;
}

/**
 * What stands at a place of the line: a path, a program, a loop device, the name of an activation, a type of file systems,
 * one of some words (separated by "|"), or nothing that a shell knows.
 */
type Kind = "file" | "directory" | "command" | "loop" | "activation" | "type" | "none" | `one:${string}`;

/** A subcommand, and the words that may follow it. */
interface CommandWords {
  /** Its words, such as "loop attach"; "" for the command itself. */
  name: string;
  /** Its subcommands. */
  commands: Word[];
  /** Its options. */
  options: Word[];
  /** What its arguments are, in their order; the last one is for all that follow. */
  operands: Kind[];
  /** Whether the options end at the first argument, because the rest is another command's. */
  endsOptions: boolean;
  /** What the values of its options are, by the long and the short form. */
  values: Map<string, Kind>;
}

/** What is meant by the names in the help. */
const KINDS: Readonly<Record<string, Kind>> = {
  FILE: "file",
  TARGET: "file",
  SOURCE: "file",
  PATH: "file",
  SOCKET: "file",
  DIR: "directory",
  CMD: "command",
  DEVICE: "loop",
  TYPE: "type",
  SHELL: `one:${SHELLS.join("|")}`,
  MODE: "one:auto|always|never",
  NAMES: `one:${COLUMN_NAMES.join("|")}`,
};

function kindOf(placeholder: string, command: string): Kind {
  if (placeholder === "NAME" && command === "deactivate") return "activation";
  return KINDS[placeholder] ?? "none";
}

/** Each visible subcommand, in the order of `--help`. */
function wordsOf(command: Command, name = ""): CommandWords[] {
  const help = command.createHelp();
  const visible = help.visibleCommands(command).filter((each) => each.name() !== "help");
  const options = help.visibleOptions(command);
  const commands = visible.map((each): Word => ({ text: each.name(), description: each.description() }));
  const operands = command.registeredArguments;
  const endsOptions = operands.some((operand) => operand.name() === "CMD"); // the rest is its arguments
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
      operands: [
        ...operands.map((operand) => kindOf(operand.name(), name)),
        ...endsOptions ? ["file" as const] : operands.at(-1)?.variadic ? [] : ["none" as const],
      ],
      endsOptions,
      values: new Map(
        options.filter(({ required }) => required).flatMap(({ flags, long, short }) => {
          const [, placeholder = ""] = /<([^>]+)>/.exec(flags) ?? [];
          return [long, short].flatMap((each) =>
            each === undefined ? [] : [[each, kindOf(placeholder, name)]]
          );
        }),
      ),
    },
    ...visible.flatMap((each) => wordsOf(each, isTop ? each.name() : `${name} ${each.name()}`)),
    ...isTop ? [helpWords(commands)] : [],
  ];
}

function helpWords(commands: Word[]): CommandWords {
  return { name: "help", commands, options: [], operands: ["none"], endsOptions: false, values: new Map() };
}

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

function valueTexts({ values }: CommandWords): string {
  return [...values].map(([name, kind]) => `${name}=${kind}`).join(" ");
}

const NOTHING: CommandWords = helpWords([]);

/** The part that is the same in bash and zsh: finds the subcommand of the words before the cursor. */
function readWords(all: CommandWords[]): string {
  const cases = all.filter(({ name }) => name !== "").map((each) =>
    `      "${each.name}") ${assign(each)} ;;`
  );
  return `  for word in "\${before[@]}"; do
    [[ $word == "=" ]] && continue
    if [[ -n $value ]]; then
      [[ $value == --root ]] && at=(--root "$word")
      value=""
      continue
    fi
    if [[ -z $rest ]]; then
      case "$word" in
        --) rest=1; continue ;;
        --containerd) containerd=1; continue ;;
        --root=*) at=("$word"); continue ;;
        -?*) [[ " $values " == *" $word="* ]] && value="$word"; continue ;;
      esac
    elif [[ -n $ends && $word == -- && $count == 1 ]]; then
      ends=""
      continue
    fi
    if [[ -z $subcommands ]]; then
      (( count += 1 ))
      [[ -n $ends ]] && rest=1
      continue
    fi
    [[ -z $rest && " $subcommands " == *" $word "* ]] || { unknown=1; break; }
    name="\${name:+$name }$word"
    case "$name" in
${cases.join("\n")}
    esac
  done`;
}

/** The part that is the same in bash and zsh: finds what stands at the cursor, after {@linkcode readWords}. */
const FIND_KIND = `  if [[ -n $unknown ]]; then
    kind=none
  elif [[ -n $value ]]; then
    kind=" $values "
    kind="\${kind##* $value=}"
    kind="\${kind%% *}"
  elif [[ -n $containerd && $count == 0 ]]; then
    kind=none
  else
    for kind in "\${operands[@]}"; do
      (( count-- > 0 )) || break
    done
  fi`;

function assign(each: CommandWords): string {
  return `subcommands="${texts(each.commands)}" options="${texts(each.options)}" values="${
    valueTexts(each)
  }" ` +
    `operands=(${each.operands.map((kind) => `"${kind}"`).join(" ")}) ends=${each.endsOptions ? 1 : '""'}`;
}

/** The types of file systems that the kernel knows. */
const TYPES = "awk '{ print $NF }' /proc/filesystems";

function bash(all: CommandWords[]): string {
  return `# bash completion for denomount
_denomount() {
  local word
  local current="\${COMP_WORDS[COMP_CWORD]}" before=() joins=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do # bash divides words at their colons
    if [[ -n $joins || $word == : ]] && (( \${#before[@]} )); then
      before[-1]+="$word"
      [[ $word == : ]] && joins=1 || joins=""
    else
      before+=("$word")
    fi
  done
  [[ -n $joins || $current == : ]] && unset "before[-1]"
  local name="" value="" rest="" unknown="" containerd="" kind=none count=0 at=()
  local ${assign(all[0] ?? NOTHING)}
${readWords(all)}
${FIND_KIND}
  COMPREPLY=()
  [[ -n $unknown ]] && return 0
  [[ $current == "=" ]] && current=""
  if [[ -z $value && -z $rest && ( $current == -* || -n $subcommands ) ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$subcommands $options" -- "$current")
    return 0
  fi
  case "$kind" in
    activation)
      local line="\${COMP_LINE:0:COMP_POINT}" found
      local typed="\${line##* }"
      local cut="\${typed%"\${typed##*:}"}" # bash replaces what follows the last colon
      while IFS= read -r found; do
        [[ $found == "$typed"* ]] && COMPREPLY+=("$(printf %q "\${found#"$cut"}")")
      done < <("\${COMP_WORDS[0]}" activations --names "\${at[@]}" 2>/dev/null)
      ;;
    file)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
    directory)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      ;;
    command) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
    loop) mapfile -t COMPREPLY < <(compgen -G "/dev/loop[0-9]*" | grep -F -- "$current") ;;
    type) mapfile -t COMPREPLY < <(compgen -W "$(${TYPES})" -- "$current") ;;
    one:*)
      kind="\${kind#one:}"
      mapfile -t COMPREPLY < <(compgen -W "\${kind//|/ }" -- "$current")
      ;;
  esac
  return 0
}
complete -F _denomount denomount`;
}

function zsh(all: CommandWords[]): string {
  const quoted = ({ text, description }: Word) => `'${`${text}:${description}`.replaceAll("'", "'\\''")}'`;
  const descriptions = all.map(({ name, commands, options }) =>
    `      '${name}') next=(${[...commands, ...options].map(quoted).join(" ")}) ;;`
  );
  return `#compdef denomount
# zsh completion for denomount: source it after compinit, or put it as _denomount into a directory of $fpath
_denomount() {
  local -a before next at found operands
  before=("\${(@)words[2,CURRENT-1]}")
  local current="$words[CURRENT]" name="" value="" rest="" unknown="" containerd="" word kind=none count=0
  local subcommands options values ends
  ${assign(all[0] ?? NOTHING)}
${readWords(all)}
  if [[ -z $rest && -z $value && $current == --*=* && " $values " == *" \${current%%=*}="* ]]; then
    value="\${current%%=*}"
    compset -P 1 '*='
  fi
${FIND_KIND}
  [[ -n $unknown ]] && return 1
  if [[ -z $value && -z $rest && ( $current == -* || -n $subcommands ) ]]; then
    case "$name" in
${descriptions.join("\n")}
    esac
    _describe denomount next
    return
  fi
  case "$kind" in
    activation)
      found=("\${(@f)$("$words[1]" activations --names "\${at[@]}" 2>/dev/null)}")
      compadd -a found
      ;;
    file) _files ;;
    directory) _files -/ ;;
    command) _command_names -e ;;
    loop)
      found=(/dev/loop<->(N))
      compadd -a found
      ;;
    type)
      found=("\${(@f)$(${TYPES})}")
      compadd -a found
      ;;
    one:*)
      found=("\${(@s:|:)\${kind#one:}}")
      compadd -a found
      ;;
    *) return 1 ;;
  esac
}
if [[ "$funcstack[1]" == _denomount ]]; then
  _denomount "$@"
else
  compdef _denomount denomount
fi`;
}

/** What fish completes where a kind stands. */
function fishArguments(kind: Kind): string {
  if (kind.startsWith("one:")) return `-f -a ${fishQuoted(kind.slice("one:".length).replaceAll("|", " "))}`;
  return {
    file: "-F",
    directory: "-f -a '(__fish_complete_directories (commandline -ct))'",
    command: `-f -a '(complete --do-complete="$(commandline -ct)")'`,
    loop: "-f -a '(string match -r \"^/dev/loop\\\\d+\\$\" /dev/loop*)'",
    activation: "-f -a '(__denomount_activations)'",
    type: `-f -a ${fishQuoted(`(${TYPES})`)}`,
  }[kind as string] ?? "-f";
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

function fishOptions({ name, commands, options, values }: CommandWords): string[] {
  const complete = `complete -c denomount -n ${fishQuoted(`__denomount_at ${fishQuoted(name)}`)}`;
  return [
    ...commands.map(({ text, description }) => `${complete} -f -a ${text} -d ${fishQuoted(description)}`),
    ...options.map(({ text, short, description }) => {
      const letter = short ? ` -s ${short.slice(1)}` : "";
      const option = text.startsWith("--") ? `-l ${text.slice(2)}${letter}` : `-s ${text.slice(1)}`;
      const kind = values.get(text);
      return `${complete} ${kind === undefined ? "" : `-r ${fishArguments(kind)} `}${option} -d ${
        fishQuoted(description)
      }`;
    }),
  ];
}

function fish(all: CommandWords[]): string {
  const cases = all.map((each) =>
    `    case ${fishQuoted(each.name)}
      set commands ${texts(each.commands)}
      set values ${[...each.values.keys()].join(" ")}
      set operands ${each.operands.map(fishQuoted).join(" ")}
      set ends ${each.endsOptions ? 1 : ""}`
  );
  const kinds = [...new Set(all.flatMap(({ operands }) => operands))].filter((kind) => kind !== "none");
  return `# fish completion for denomount
function __denomount_words
  switch "$argv"
${cases.join("\n")}
  end
  printf '%s\\n' "$commands" "$values" "$operands" "$ends"
end

# Prints the subcommand of the words before the cursor, "?" after an unknown one; what stands at the cursor; and whether the
# options have ended.
function __denomount_state
  set -l name
  set -l value
  set -l rest
  set -l containerd
  set -l separated
  set -l count 0
  set -l before (commandline -opc)
  for word in $before[2..-1]
    set -l known (__denomount_words "$name")
    if test -n "$value"
      set value
    else if test -z "$rest"; and test "$word" = --
      set rest 1
    else if test -z "$rest"; and string match -q -- '-?*' "$word"
      test "$word" = --containerd; and set containerd 1
      contains -- "$word" (string split ' ' -- "$known[2]"); and set value 1
    else if test -n "$rest" -a -n "$known[4]" -a "$word" = -- -a $count = 1 -a -z "$separated"
      set separated 1
    else if test -n "$known[1]"
      if test -n "$rest"; or not contains -- "$word" (string split ' ' -- "$known[1]")
        printf '%s\\n' '?' none 1
        return
      end
      set name (string trim -- "$name $word")
    else
      set count (math $count + 1)
      test -n "$known[4]"; and set rest 1
    end
  end
  set -l known (__denomount_words "$name")
  set -l operands (string split ' ' -- "$known[3]")
  set -l kind $operands[-1]
  test $count -lt (count $operands); and set kind $operands[(math $count + 1)]
  test -n "$containerd" -a $count = 0; and set kind none
  printf '%s\\n' "$name" "$kind" "$rest"
end

function __denomount_at
  set -l state (__denomount_state)
  test "$state[1]" = "$argv[1]" -a -z "$state[3]"
end

function __denomount_kind
  set -l state (__denomount_state)
  test "$state[2]" = "$argv[1]"
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

complete -c denomount -f
${
    kinds.map((kind) =>
      `complete -c denomount -n ${fishQuoted(`__denomount_kind ${fishQuoted(kind)}`)} ${fishArguments(kind)}`
    ).join("\n")
  }
${all.flatMap(fishOptions).join("\n")}`;
}
