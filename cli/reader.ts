/**
 * Reads the lines that are typed most without the argument parser: to load commander takes longer than to mount. It reads
 * only what has one meaning: whole names of options, and values of options that do not begin with a dash. Help, mistakes
 * and everything else are commander's. `test/cli/reader_test.ts` compares the two.
 *
 * @module
 */

/** Reads the value of an option; `previous` is the value of an earlier one with the same name. */
// deno-lint-ignore no-explicit-any
type ValueParser = (text: string, previous: any) => unknown;

/** What a subcommand does with its arguments, its options and its definition. */
// deno-lint-ignore no-explicit-any
type Action = (...args: any[]) => void | Promise<void>;

/** The part of commander's Command that the definition of a subcommand uses. */
export interface Definition {
  /** Begins a subcommand. */
  command(name: string): Definition;
  /** Says what it does, for the help. */
  description(text: string): this;
  /** Adds an argument, such as `<FILE>`, `[PATH]` or `<TARGET...>`. */
  argument(name: string): this;
  /** Adds an option, such as `-t, --type <TYPE>`. */
  option(flags: string, description: string, parse?: ValueParser): this;
  /** Makes an option for {@linkcode addOption}. */
  createOption(flags: string, description: string): OptionDefinition;
  /** Adds an option. */
  // deno-lint-ignore no-explicit-any
  addOption(option: any): this;
  /** Adds a part of the help. */
  addHelpText(position: "after", text: string): this;
  /** Sets what the subcommand does. */
  action(run: Action): this;
  /** Ends the command with a usage error. */
  error(message: string): never;
}

/** The part of commander's Option that the definition of a subcommand uses. */
export interface OptionDefinition {
  /** Names the options that it can't be used with, by the names of their values. */
  conflicts(names: string[]): this;
}

/** Thrown for a line that commander reads. */
class ForCommander extends Error {}

class ReadOption implements OptionDefinition {
  readonly names: string[];
  readonly takesValue: boolean;
  readonly negates: boolean;
  /** The name of its value, as commander makes it. */
  readonly key: string;
  excluded: string[] = [];

  constructor(flags: string, readonly parse: ValueParser = (text) => text) {
    this.names = flags.split(/[ ,]+/).filter((word) => word.startsWith("-"));
    this.takesValue = /[<[]/.test(flags);
    const long = this.names.at(-1)?.replace(/^-+/, "") ?? "";
    this.negates = long.startsWith("no-");
    this.key = long.replace(/^no-/, "").replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
  }

  conflicts(names: string[]): this {
    this.excluded = names;
    return this;
  }
}

class ReadDefinition implements Definition {
  readonly options: ReadOption[] = [];
  readonly operands: string[] = [];
  run: Action = () => {};

  command(): this {
    return this;
  }

  description(): this {
    return this;
  }

  addHelpText(): this {
    return this;
  }

  argument(name: string): this {
    this.operands.push(name);
    return this;
  }

  option(flags: string, _description: string, parse?: ValueParser): this {
    return this.addOption(new ReadOption(flags, parse));
  }

  createOption(flags: string): ReadOption {
    return new ReadOption(flags);
  }

  addOption(option: ReadOption): this {
    this.options.push(option);
    return this;
  }

  action(run: Action): this {
    this.run = run;
    return this;
  }

  error(message: string): never {
    throw new ForCommander(message);
  }
}

/**
 * Reads a line and carries it out.
 *
 * @param define defines the subcommand.
 * @param args the words after its name.
 * @returns false if the line is commander's: nothing was done then.
 */
export async function runLine(define: (top: Definition) => void, args: readonly string[]): Promise<boolean> {
  const definition = new ReadDefinition();
  define(definition);
  try {
    await definition.run(...readLine(definition, args), definition);
    return true;
  } catch (error) {
    if (error instanceof ForCommander) return false;
    throw error;
  }
}

function readLine({ options, operands }: ReadDefinition, args: readonly string[]): unknown[] {
  const flags: Record<string, unknown> = {};
  for (const { key, negates } of options) if (negates) flags[key] = true;
  const given = new Set<string>();
  const found: string[] = [];
  const words = args.values();
  for (const word of words) {
    if (word === "--") {
      found.push(...words);
    } else if (word.length < 2 || !word.startsWith("-")) {
      found.push(word);
    } else {
      const { option, text } = readOption(options, word);
      given.add(option.key);
      flags[option.key] = option.takesValue
        ? valueOf(option, text ?? words.next().value, flags[option.key])
        : !option.negates;
    }
  }
  const excluded = options.filter(({ key }) => given.has(key)).flatMap((option) => option.excluded);
  if (excluded.some((key) => given.has(key))) throw new ForCommander();
  return [...readOperands(operands, found), flags];
}

function readOption(options: readonly ReadOption[], word: string): { option: ReadOption; text?: string } {
  const [, name = word, text] = /^(--[^=]+)=(.*)$/s.exec(word) ?? [];
  const option = options.find(({ names }) => names.includes(name));
  if (option === undefined || (text !== undefined && !option.takesValue)) throw new ForCommander();
  return text === undefined ? { option } : { option, text };
}

function valueOf(option: ReadOption, text: string | undefined, previous: unknown): unknown {
  if (text === undefined || text.startsWith("-") || text === "") throw new ForCommander();
  try {
    return option.parse(text, previous);
  } catch (error) {
    throw new ForCommander("", { cause: error });
  }
}

function readOperands(names: readonly string[], found: readonly string[]): unknown[] {
  const least = names.filter((name) => name.startsWith("<")).length;
  const isVariadic = names.at(-1)?.includes("...") ?? false;
  if (found.length < least || (found.length > names.length && !isVariadic)) throw new ForCommander();
  return names.map((name, index) => name.includes("...") ? found.slice(index) : found[index]);
}
