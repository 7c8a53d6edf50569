/**
 * Filters in containerd's syntax.
 *
 *     filter   = selector *( "," selector )       all of them match
 *     selector = path [ operator value ]          without an operator: the field is present
 *     path     = field *( "." field )             name, parent, kind, labels.KEY
 *     operator = "==" / "!=" / "~="               equal, not equal, matches a regular expression
 *     field    = name / quoted
 *     value    = quoted / what is no space and no comma
 *
 * A quoted text is "…" with Go's backslashes; after ~= also /…/ and |…|, which keep backslashes.
 *
 * @module
 */

import { InvalidArgumentError } from "./errors.ts";
import type { SnapshotInfo } from "./snapshotter.ts";
import { quote } from "../ffi/text.ts";

/** Whether a snapshot is wanted. */
export type SnapshotFilter = (info: SnapshotInfo) => boolean;

/** A condition on one field. */
interface Selector {
  path: string[];
  operator: "present" | "==" | "!=" | "~=";
  value: string;
}

/**
 * Parses filters.
 *
 * @param filters the filters, one of which must match; none match everything.
 * @returns a function that says whether a snapshot matches.
 * @throws {InvalidArgumentError} for one that is malformed.
 */
export function parseFilters(filters: readonly string[]): SnapshotFilter {
  if (filters.length === 0) return () => true;
  const parsed = filters.map((filter) => toTests(parse(filter)));
  return (info) => parsed.some((tests) => tests.every((test) => test(info)));
}

/**
 * The filter that finds the children of a snapshot.
 *
 * @param parent the name of the parent.
 * @returns the filter.
 */
export function childrenFilter(parent: string): string {
  return `parent==${JSON.stringify(parent)}`;
}

/**
 * The parent whose children filters ask for, which a snapshotter can look up faster than it can try all snapshots.
 *
 * @param filters the filters.
 * @returns the parent's name; undefined for other filters.
 */
export function parentOfFilters(filters: readonly string[]): string | undefined {
  if (filters.length !== 1) return undefined;
  const [selector, ...others] = parse(filters[0] ?? "");
  if (selector === undefined || others.length > 0) return undefined;
  return selector.path.join() === "parent" && selector.operator === "==" ? selector.value : undefined;
}

function parse(filter: string): Selector[] {
  if (filter === "") return [];
  const reader = new Reader(filter);
  const selectors = [reader.selector()];
  while (reader.take(",")) selectors.push(reader.selector());
  if (!reader.isAtEnd) throw reader.error("unexpected input");
  return selectors;
}

const FIELD = /[A-Za-z0-9_]+/y;
const OPERATOR = /[=!~<>]+/y;
const VALUE = /[^\s,"/|][^\s,]*/y;
const QUOTED = /"((?:[^"\\\n]|\\.)*)"/y;
const PATTERN = /\/((?:[^/\\]|\\.)*)\/|\|((?:[^|\\]|\\.)*)\|/y;

/** Reads a filter from its beginning to its end. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#text.length;
  }

  take(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  #match(expression: RegExp): RegExpExecArray | undefined {
    expression.lastIndex = this.#at;
    const found = expression.exec(this.#text) ?? undefined;
    if (found !== undefined) this.#at += found[0].length;
    return found;
  }

  selector(): Selector {
    const path = [this.#field()];
    while (this.take(".")) path.push(this.#field());
    if (this.isAtEnd || this.#text[this.#at] === ",") return { path, operator: "present", value: "" };
    const word = this.#match(OPERATOR)?.[0];
    const operator = (["==", "!=", "~="] as const).find((known) => known === word);
    if (operator === undefined) throw this.error("expected ==, != or ~=");
    return { path, operator, value: this.#value(operator === "~=") };
  }

  #field(): string {
    const field = this.#quoted() ?? this.#match(FIELD)?.[0];
    if (field === undefined) throw this.error("expected a field");
    return field;
  }

  #value(isPattern: boolean): string {
    if (isPattern) {
      const found = this.#match(PATTERN);
      if (found !== undefined) return (found[1] ?? found[2] ?? "").replaceAll(/\\([/|])/g, "$1");
    }
    const value = this.#quoted() ?? this.#match(VALUE)?.[0];
    if (value === undefined) throw this.error("expected a value");
    return value;
  }

  #quoted(): string | undefined {
    const found = this.#match(QUOTED);
    return found &&
      unescape(found[1] ?? "", (sequence) => this.error(`unknown escape ${sequence}`));
  }

  error(message: string): InvalidArgumentError {
    const [before, after] = [this.#text.slice(0, this.#at), this.#text.slice(this.#at)];
    return new InvalidArgumentError("INVALID_ARGUMENT", {
      action: "read a filter",
      details: `the filter ${quote(`${before}>|${after}`)}: ${message}`,
    });
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  '"': '"',
  "'": "'",
};

function unescape(text: string, refuse: (sequence: string) => Error): string {
  const sequences = /\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([0-7]{3})|(.))/gi;
  return text.replaceAll(sequences, (sequence, x, u, long, octal, letter) => {
    const hex = x ?? u ?? long;
    const plain = letter === undefined ? undefined : ESCAPES[letter];
    const code = hex !== undefined ? parseInt(hex, 16) : octal !== undefined ? parseInt(octal, 8) : undefined;
    if (code !== undefined && code <= 0x10ffff) return String.fromCodePoint(code);
    if (plain === undefined) throw refuse(sequence);
    return plain;
  });
}

function toTests(selectors: readonly Selector[]): SnapshotFilter[] {
  return selectors.map(({ path, operator, value }) => {
    if (operator === "~=") {
      const expression = regularExpression(value);
      return (info) => expression.test(fieldOf(info, path) ?? "");
    }
    if (operator === "present") return (info) => fieldOf(info, path) !== undefined;
    if (operator === "==") return (info) => fieldOf(info, path) === value;
    return (info) => (fieldOf(info, path) ?? "") !== value;
  });
}

function regularExpression(source: string): RegExp {
  const [flagged = "", flags = ""] = /^\(\?([ims]+)\)/.exec(source) ?? []; // Go's way to write flags
  try {
    return new RegExp(source.slice(flagged.length), `u${flags}`);
  } catch (error) {
    throw new InvalidArgumentError("INVALID_ARGUMENT", {
      action: "read a filter",
      details: `${quote(source)} is no regular expression`,
      cause: error,
    });
  }
}

function fieldOf(
  { kind, name, parent, labels }: SnapshotInfo,
  [first, ...rest]: string[],
): string | undefined {
  if (first === "labels") return Object.hasOwn(labels, rest.join(".")) ? labels[rest.join(".")] : undefined;
  const fields: Record<string, string> = { kind, name, parent };
  return first !== undefined && Object.hasOwn(fields, first) ? fields[first] : undefined;
}
