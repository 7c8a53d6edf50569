/**
 * What overlay's options say: its layers by their plain paths, and the text for the kernel made from them.
 *
 * @module
 */

/** The layers of an overlay, and its other options. */
export interface OverlayOptions {
  /** Lower directories, the topmost first. */
  lower: string[];
  /** Data-only lower directories, which stand below the others and hold content alone. */
  dataOnly: string[];
  /** The upper directory, which takes what is written. */
  upper?: string;
  /** The work directory, on the upper one's file system. */
  work?: string;
  /** Everything else, such as "index=off". */
  rest: string[];
}

/**
 * Reads overlay's options.
 *
 * @param options the options, one to an entry.
 * @returns the layers, with the kernel's escapes (`\:`, `\,`, `\\`) taken out.
 * @throws {TypeError} where a layer has no name, or seems to hold an option after a comma.
 */
export function parseOverlayOptions(options: readonly string[]): OverlayOptions {
  const parsed: OverlayOptions = { lower: [], dataOnly: [], rest: [] };
  for (const option of options) {
    if (option.startsWith("lowerdir=")) readLowerdir(escaped("lowerdir=", option), parsed);
    else if (option.startsWith("lowerdir+=")) parsed.lower.push(named(option.slice("lowerdir+=".length)));
    else if (option.startsWith("datadir+=")) parsed.dataOnly.push(named(option.slice("datadir+=".length)));
    else if (option.startsWith("upperdir=")) {
      parsed.upper = named(unescapeLayer(escaped("upperdir=", option)));
    } else if (option.startsWith("workdir=")) parsed.work = named(unescapeLayer(escaped("workdir=", option)));
    else parsed.rest.push(option);
  }
  return parsed;
}

function named(path: string): string {
  if (path === "") throw new TypeError("an overlay's layer has no name");
  return path;
}

/** A comma in a path is a comma, and can be written as "\,"; but somebody may have pasted a line of fstab. */
function escaped(key: string, option: string): string {
  const value = option.slice(key.length);
  if (!value.includes(",")) return value;
  const joined = /(?<!\\),((?:lowerdir|upperdir|workdir|datadir)\+?=)/.exec(value);
  if (joined === null) return value;
  throw new TypeError(
    `"${
      joined[1]
    }" stands inside of "${key}": make it an option of its own, or write "\\," for a comma of a path`,
  );
}

/**
 * The options again, with the layers' paths escaped as mount(2) reads them.
 *
 * @param options the layers and the rest.
 * @returns one comma-separated text.
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
 * Parts an option into its key and its value.
 *
 * @param option such as "size=1m" or "volatile".
 * @returns both; no value where there is no "=".
 */
export function keyAndValue(option: string): { key: string; value?: string } {
  const at = option.indexOf("=");
  return at < 0 ? { key: option } : { key: option.slice(0, at), value: option.slice(at + 1) };
}

/**
 * A layer's path among others: `\`, `:` and `,` escaped.
 *
 * @param path the plain path.
 * @returns the path as `lowerdir=` takes it.
 */
export function escapeLayer(path: string): string {
  return path.replace(/[\\:,]/g, "\\$&");
}

/**
 * A path alone, as `upperdir=` and `workdir=` take it: `\` and `,` escaped.
 *
 * @param path the plain path.
 * @returns the escaped path.
 */
export function escapeDirectory(path: string): string {
  return path.replace(/[\\,]/g, "\\$&");
}

/**
 * A path as it stands in `lowerdir=`, `upperdir=` and `workdir=`, without its escapes.
 *
 * @param text the escaped path.
 * @returns the plain path.
 */
export function unescapeLayer(text: string): string {
  if (!text.includes("\\")) return text;
  return text.replace(/\\(.)/gs, "$1");
}

/** `a:b` are two layers, and everything after `::` is data-only. A new `lowerdir=` replaces what was before. */
function readLowerdir(value: string, into: OverlayOptions): void {
  const hasEscapes = value.includes("\\");
  into.dataOnly = [];
  if (!hasEscapes && value.length > MANY && !value.includes("::")) {
    into.lower = value.split(":").map(named);
    return;
  }
  let list: string[] = into.lower = [];
  for (let start = 0; start <= value.length;) {
    const end = hasEscapes ? plainColon(value, start) : anyColon(value, start);
    const name = named(value.slice(start, end));
    list.push(hasEscapes ? unescapeLayer(name) : name);
    const isData = value.charCodeAt(end + 1) === COLON;
    if (isData) list = into.dataOnly;
    start = end + (isData ? 2 : 1);
  }
}

const MANY = 1024; // characters, from which on splitting them all at once is quicker
const COLON = 58; // ASCII
const BACKSLASH = 92;

function anyColon(text: string, from: number): number {
  const found = text.indexOf(":", from);
  return found < 0 ? text.length : found;
}

/** The next colon that no backslash makes a part of a name; where there is none, the end. */
function plainColon(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === COLON) return at;
    if (code === BACKSLASH) at++;
  }
  return text.length;
}
