/**
 * Overlay's options: parsing them into layers, and formatting the layers for mount(2).
 *
 * @module
 */

/** The layers of an overlay and its other options. Paths are without escapes. */
export interface OverlayOptions {
  /** Lower directories, the topmost first. */
  lower: string[];
  /** Data-only lower directories, which are below the others and hold only file content. */
  dataOnly: string[];
  /** The upper directory, to which changes are written. */
  upper?: string;
  /** The work directory, on the file system of the upper directory. */
  work?: string;
  /** All other options, such as "index=off". */
  rest: string[];
}

/**
 * Parses overlay's options.
 *
 * @param options the options, one to an entry.
 * @returns the layers, with the kernel's escapes (`\:`, `\,`, `\\`) removed, and the other options.
 * @throws {TypeError} if a layer's path is empty, or if an entry holds a second option after a comma.
 */
export function parseOverlayOptions(options: readonly string[]): OverlayOptions {
  const parsed: OverlayOptions = { lower: [], dataOnly: [], rest: [] };
  for (const option of options) {
    if (option.startsWith("lowerdir=")) parseLowerdir(singleValue("lowerdir=", option), parsed);
    else if (option.startsWith("lowerdir+=")) parsed.lower.push(notEmpty(option.slice("lowerdir+=".length)));
    else if (option.startsWith("datadir+=")) parsed.dataOnly.push(notEmpty(option.slice("datadir+=".length)));
    else if (option.startsWith("upperdir=")) {
      parsed.upper = notEmpty(unescapeLayer(singleValue("upperdir=", option)));
    } else if (option.startsWith("workdir=")) {
      parsed.work = notEmpty(unescapeLayer(singleValue("workdir=", option)));
    } else parsed.rest.push(option);
  }
  return parsed;
}

function notEmpty(path: string): string {
  if (path === "") throw new TypeError("an overlay's layer has no name");
  return path;
}

/** A path may contain a comma. But an option after it means that the caller passed a whole fstab field as one entry. */
function singleValue(key: string, option: string): string {
  const value = option.slice(key.length);
  if (!value.includes(",")) return value;
  const joined = /(?<!\\),((?:lowerdir|upperdir|workdir|datadir)\+?=)/.exec(value);
  if (joined === null) return value;
  throw new TypeError(
    `"${
      joined[1]
    }" stands inside of "${key}": pass it as a separate option, or write a comma in a path as "\\,"`,
  );
}

/**
 * Formats overlay's options for mount(2), with escaped paths.
 *
 * @param options the layers and the other options.
 * @returns the options, separated by commas.
 */
export function overlayData(options: OverlayOptions): string {
  const lower = options.lower.map(escapeLayer).join(":");
  const data = options.dataOnly.map((layer) => `::${escapeLayer(layer)}`).join("");
  const all = [`lowerdir=${lower}${data}`];
  if (options.upper !== undefined) all.push(`upperdir=${escapeDirectory(options.upper)}`);
  if (options.work !== undefined) all.push(`workdir=${escapeDirectory(options.work)}`);
  return [...all, ...options.rest].join(",");
}

/**
 * Splits an option at its first "=".
 *
 * @param option such as "size=1m" or "volatile".
 * @returns the key and the value; no value without "=".
 */
export function keyAndValue(option: string): { key: string; value?: string } {
  const at = option.indexOf("=");
  return at < 0 ? { key: option } : { key: option.slice(0, at), value: option.slice(at + 1) };
}

/**
 * Escapes a path for `lowerdir=`, a list: `\`, `:` and `,`.
 *
 * @param path the path.
 * @returns the escaped path.
 */
export function escapeLayer(path: string): string {
  return path.replace(/[\\:,]/g, "\\$&");
}

/**
 * Escapes a path for `upperdir=` or `workdir=`, which are single paths: `\` and `,`.
 *
 * @param path the path.
 * @returns the escaped path.
 */
export function escapeDirectory(path: string): string {
  return path.replace(/[\\,]/g, "\\$&");
}

/**
 * Removes the escapes from a path of `lowerdir=`, `upperdir=` or `workdir=`.
 *
 * @param text the escaped path.
 * @returns the path.
 */
export function unescapeLayer(text: string): string {
  if (!text.includes("\\")) return text;
  return text.replace(/\\(.)/gs, "$1");
}

/** In `a:b::c`, a and b are layers and c is data-only. A later `lowerdir=` replaces an earlier one. */
function parseLowerdir(value: string, parsed: OverlayOptions): void {
  const hasEscapes = value.includes("\\");
  parsed.dataOnly = [];
  if (!hasEscapes && value.length > SPLIT_LENGTH_MIN && !value.includes("::")) {
    parsed.lower = value.split(":").map(notEmpty);
    return;
  }
  let list: string[] = parsed.lower = [];
  for (let start = 0; start <= value.length;) {
    const end = hasEscapes ? unescapedColon(value, start) : anyColon(value, start);
    const name = notEmpty(value.slice(start, end));
    list.push(hasEscapes ? unescapeLayer(name) : name);
    const isDataNext = value.charCodeAt(end + 1) === COLON;
    if (isDataNext) list = parsed.dataOnly;
    start = end + (isDataNext ? 2 : 1);
  }
}

const SPLIT_LENGTH_MIN = 1024; // characters; from this length on, split() is faster than the loop
const COLON = 58; // ASCII
const BACKSLASH = 92;

function anyColon(text: string, from: number): number {
  const found = text.indexOf(":", from);
  return found < 0 ? text.length : found;
}

/** The index of the next colon without a backslash before it, or the length of the text. */
function unescapedColon(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === COLON) return at;
    if (code === BACKSLASH) at++;
  }
  return text.length;
}
