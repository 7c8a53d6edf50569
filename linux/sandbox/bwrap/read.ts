/**
 * Bubblewrap's arguments as a list of options, in their order. What the words mean is not looked at here.
 *
 * @module
 */

import { quote } from "../../../ffi/text.ts";
import { formOf, isOption, type OptionForm, type OptionName, REFUSED } from "./options.ts";

/** An option with its operands, and with what the modifiers before it have set. */
export interface ReadOption {
  /** Its name. */
  readonly name: OptionName;
  /** Its operands. */
  readonly operands: readonly string[];
  /** The mode that `--perms` has set. */
  readonly mode?: number | undefined;
  /** The size in bytes that `--size` has set. */
  readonly size?: number | undefined;
  /** The lower layers that `--overlay-src` has named, the lowest first. */
  readonly layers: readonly string[];
}

/** The arguments, read. */
export interface ReadArguments {
  /** The options. */
  readonly options: readonly ReadOption[];
  /** The command. */
  readonly command: readonly string[];
}

/** Reads the arguments that a descriptor has, separated by NUL. */
export type ReadArgumentFile = (fd: number) => Promise<readonly string[]>;

/**
 * Reads the arguments.
 *
 * @param argv the arguments, without the program's name.
 * @param readFile reads the file of `--args`.
 * @returns the options and the command.
 * @throws {TypeError} for a word that is none, a missing operand, and a modifier without an option that it is for.
 */
export async function readArguments(
  argv: readonly string[],
  readFile: ReadArgumentFile,
): Promise<ReadArguments> {
  const reader = new Reader(readFile);
  const command = await reader.read(argv, false);
  reader.finish();
  return { options: reader.options, command };
}

class Reader {
  readonly options: ReadOption[] = [];
  readonly #readFile: ReadArgumentFile;
  #mode: number | undefined;
  #size: number | undefined;
  #layers: string[] = [];

  constructor(readFile: ReadArgumentFile) {
    this.#readFile = readFile;
  }

  /** Returns the words after the options. */
  async read(argv: readonly string[], isFile: boolean): Promise<readonly string[]> {
    let at = 0;
    while (at < argv.length) {
      const word = argv[at] ?? "";
      if (word === "--") return argv.slice(at + 1);
      if (!word.startsWith("-")) return argv.slice(at);
      const form = requireForm(word);
      const operands = argv.slice(at + 1, at + 1 + form.operands.length);
      if (!isOption(word) || operands.length < form.operands.length) {
        throw new TypeError(`${word} needs ${form.operands.join(" and ")}`);
      }
      at += 1 + operands.length;
      if (word !== "--args") this.#add(word, form, operands);
      else if (isFile) throw new TypeError("--args is not for the arguments that a descriptor has");
      else await this.#readArguments(parseFd("--args", operands[0] ?? ""));
    }
    return [];
  }

  async #readArguments(fd: number): Promise<void> {
    const rest = await this.read(await this.#readFile(fd), true);
    if (rest.length > 0) {
      throw new TypeError(
        `the arguments of descriptor ${fd} have ${quote(rest[0] ?? "")}, which is no option`,
      );
    }
  }

  #add(name: OptionName, form: OptionForm, operands: readonly string[]): void {
    const [operand = ""] = operands;
    if (name === "--perms") {
      this.#mode = once("--perms", this.#mode, parseMode(name, operand));
      return;
    }
    if (name === "--size") {
      this.#size = once("--size", this.#size, parseSize(operand));
      return;
    }
    if (name === "--overlay-src") {
      this.#layers.push(operand);
      return;
    }
    this.#checkModifiers(name, form);
    this.options.push({ name, operands, mode: this.#mode, size: this.#size, layers: this.#layers });
    this.#mode = this.#size = undefined;
    this.#layers = [];
  }

  #checkModifiers(name: OptionName, { takesMode, takesSize, layers = 0 }: OptionForm): void {
    if (this.#mode !== undefined && !takesMode) {
      throw new TypeError(`--perms is for the option after it, and ${name} makes no file`);
    }
    if (this.#size !== undefined && !takesSize) {
      throw new TypeError(`--size is for the option after it, and ${name} is not --tmpfs`);
    }
    if (this.#layers.length > 0 && layers === 0) {
      throw new TypeError(
        `--overlay-src is for --overlay, --tmp-overlay and --ro-overlay, and ${name} stands after it`,
      );
    }
    if (this.#layers.length < layers) {
      throw new TypeError(`${name} needs ${layers === 1 ? "an" : "two"} --overlay-src before it`);
    }
  }

  /** A modifier at the end is for nothing. */
  finish(): void {
    const left = this.#mode !== undefined
      ? "--perms"
      : this.#size !== undefined
      ? "--size"
      : this.#layers.length > 0
      ? "--overlay-src"
      : undefined;
    if (left !== undefined) throw new TypeError(`${left} is for the option after it, and none stands there`);
  }
}

function requireForm(word: string): OptionForm {
  const reason = REFUSED.get(word);
  if (reason !== undefined) throw new TypeError(`${word} is not supported: ${reason}`);
  const form = formOf(word);
  if (form === undefined) throw new TypeError(`${quote(word)} is no option`);
  return form;
}

function once(name: string, before: number | undefined, value: number): number {
  if (before !== undefined) throw new TypeError(`${name} stands twice before one option`);
  return value;
}

const MAX_MODE = 0o7777;

/**
 * Parses a mode.
 *
 * @param name the option, for the error.
 * @param text the operand.
 * @returns the mode.
 * @throws {TypeError} if it is none.
 */
export function parseMode(name: string, text: string): number {
  const mode = /^[0-7]+$/.test(text) ? parseInt(text, 8) : NaN;
  if (!(mode <= MAX_MODE)) {
    throw new TypeError(`${name} takes an octal mode of at most 7777, not ${quote(text)}`);
  }
  return mode;
}

/** The kernel has half of a size_t for the size of a tmpfs. */
const MAX_SIZE = 2n ** 63n - 1n;

function parseSize(text: string): number {
  const size = /^\d+$/.test(text) ? BigInt(text) : 0n;
  if (size === 0n || size > MAX_SIZE) {
    throw new TypeError(`--size takes a number of bytes from 1 to ${MAX_SIZE}, not ${quote(text)}`);
  }
  return Number(size);
}

/**
 * Parses the number of a descriptor.
 *
 * @param name the option, for the error.
 * @param text the operand.
 * @returns the number.
 * @throws {TypeError} if it is none.
 */
export function parseFd(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) {
    throw new TypeError(`${name} takes the number of a descriptor, not ${quote(text)}`);
  }
  return Number(text);
}
