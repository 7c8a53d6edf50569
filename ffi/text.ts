/**
 * Names of the kernel as text. A name is bytes, usually UTF-8. A byte that is not UTF-8 is decoded to a lone surrogate,
 * U+DC80 to U+DCFF, as in Python's file names (PEP 383). So two names never have the same text, and the text of a name
 * encodes to the same bytes.
 *
 * @module
 */

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // keeps a U+FEFF at the beginning of a name
const ESCAPE_BASE = 0xdc00; // the surrogate of byte b is ESCAPE_BASE + b
const REPLACEMENT = "\ufffd"; // TextDecoder writes it for bytes that are not UTF-8

/**
 * Decodes a name.
 *
 * @param bytes the name in the kernel's bytes.
 * @returns its text; well formed if the bytes are UTF-8.
 *
 * @example
 * ```ts ignore
 * import { decodeName } from "./text.ts";
 *
 * decodeName(new Uint8Array([0x61, 0xff])); // "a\udcff"
 * ```
 */
export function decodeName(bytes: Uint8Array): string {
  const text = decoder.decode(bytes);
  return text.includes(REPLACEMENT) ? decodeWithEscapes(bytes) : text; // U+FFFD may also be in the name itself
}

function decodeWithEscapes(bytes: Uint8Array): string {
  const units = new Uint16Array(bytes.length); // UTF-16 never has more units than UTF-8 has bytes
  let count = 0;
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at);
    const code = length === 0 ? ESCAPE_BASE + (bytes[at] ?? 0) : codePoint(bytes, at, length);
    if (code > 0xffff) units[count++] = 0xd7c0 + (code >> 10); // the high surrogate
    units[count++] = code > 0xffff ? 0xdc00 | code & 0x3ff : code;
    at += length || 1;
  }
  let text = "";
  for (let at = 0; at < count; at += CHUNK) {
    text += String.fromCharCode(...units.subarray(at, Math.min(at + CHUNK, count)));
  }
  return text;
}

const CHUNK = 4096; // arguments of one String.fromCharCode()

function codePoint(bytes: Uint8Array, at: number, length: number): number {
  const first = bytes[at] ?? 0;
  let code = length === 1 ? first : first & (0x7f >> length);
  for (let next = 1; next < length; next++) code = code << 6 | (bytes[at + next] ?? 0) & 0x3f;
  return code;
}

/** The length in bytes of the UTF-8 character at an index (RFC 3629); 0 if the bytes are not UTF-8. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const length = first < 0xc2 || first > 0xf4 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  for (let next = 1; next < length; next++) {
    if (((bytes[at + next] ?? 0) & 0xc0) !== 0x80) return 0;
  }
  const second = bytes[at + 1] ?? 0;
  const overlong = (first === 0xe0 && second < 0xa0) || (first === 0xf0 && second < 0x90);
  const surrogate = first === 0xed && second > 0x9f;
  const beyond = first === 0xf4 && second > 0x8f;
  return overlong || surrogate || beyond ? 0 : length;
}

/**
 * Encodes the text of a name.
 *
 * @param text the text, in the form that {@linkcode decodeName} returns.
 * @returns the name in the kernel's bytes.
 * @throws {TypeError} for a lone surrogate that {@linkcode decodeName} does not return.
 *
 * @example
 * ```ts ignore
 * import { encodeName } from "./text.ts";
 *
 * encodeName("a\udcff"); // Uint8Array [0x61, 0xff]
 * ```
 */
export function encodeName(text: string): Uint8Array<ArrayBuffer> {
  if (text.isWellFormed()) return encoder.encode(text);
  const bytes = encodeWithEscapes(text);
  // The bytes of a valid character, each as a lone surrogate, would be a second text of the same name.
  if (bytes === undefined || decodeName(bytes) !== text) {
    throw new TypeError(`${quote(text)} contains a lone surrogate, which UTF-8 cannot encode`);
  }
  return bytes;
}

function encodeWithEscapes(text: string): Uint8Array<ArrayBuffer> | undefined {
  const bytes = new Uint8Array(text.length * 3);
  let length = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.codePointAt(at) ?? 0;
    if (code > 0xffff) at++; // a surrogate pair
    if (code >= 0xd800 && code <= 0xdfff) {
      if (code < ESCAPE_BASE + 0x80 || code > ESCAPE_BASE + 0xff) return undefined;
      bytes[length++] = code - ESCAPE_BASE;
    } else length = putCharacter(bytes, length, code);
  }
  return bytes.slice(0, length);
}

const LEADING = [0, 0xc0, 0xe0, 0xf0]; // upper bits of the first byte, by the number of bytes that follow

function putCharacter(bytes: Uint8Array, at: number, code: number): number {
  const more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  bytes[at++] = (LEADING[more] ?? 0) | code >> 6 * more;
  for (let left = more - 1; left >= 0; left--) bytes[at++] = 0x80 | code >> 6 * left & 0x3f;
  return at;
}

/**
 * Decodes the octal escapes of mountinfo: the kernel writes space, tab, newline, backslash and "#" in names as `\\040`
 * and so on, one escape for each byte.
 *
 * @param text the escaped name.
 * @returns the name.
 *
 * @example
 * ```ts ignore
 * import { unescapeOctal } from "./text.ts";
 *
 * unescapeOctal("a\\040b"); // "a b"
 * ```
 */
export function unescapeOctal(text: string): string {
  if (!text.includes("\\")) return text;
  let plain = "";
  let start = 0;
  for (let at = text.indexOf("\\"); at >= 0; at = text.indexOf("\\", at + 1)) {
    const byte = octalAt(text, at + 1);
    if (byte < 0) continue;
    plain += text.slice(start, at) + String.fromCharCode(byte < 0x80 ? byte : ESCAPE_BASE + byte);
    start = at + 4;
  }
  plain += text.slice(start);
  const bytes = plain.isWellFormed() ? undefined : encodeWithEscapes(plain);
  return bytes ? decodeName(bytes) : plain; // several escaped bytes may be one character
}

/** The byte that three octal digits stand for; -1 if there are no three. */
function octalAt(text: string, at: number): number {
  let byte = 0;
  for (let digit = at; digit < at + 3; digit++) {
    const value = text.charCodeAt(digit) - 48; // "0" in ASCII
    if (!(value >= 0 && value <= 7)) return -1;
    byte = byte * 8 + value;
  }
  return byte < 256 ? byte : -1;
}

const LONGEST_QUOTED = 200;
const LONGEST_SHOWN = 300;

/**
 * Quotes a text for an error message: control characters are escaped, a long text is cut.
 *
 * @param text the text.
 * @returns the text in double quotes; its first 200 characters if it is longer.
 *
 * @example
 * ```ts ignore
 * import { quote } from "./text.ts";
 *
 * quote("a\nb"); // '"a\\nb"'
 * ```
 */
export function quote(text: string): string {
  return cut(text, LONGEST_QUOTED, JSON.stringify);
}

/**
 * Prepares a text for an error message without quotes: control characters and lone surrogates are escaped, a long text is
 * cut.
 *
 * @param text the text.
 * @param longest how many characters of it are kept.
 * @returns the text; its first characters if it is longer.
 *
 * @example
 * ```ts ignore
 * import { shown } from "./text.ts";
 *
 * shown("/a\nb"); // "/a\\nb"
 * ```
 */
export function shown(text: string, longest = LONGEST_SHOWN): string {
  return cut(text, longest, escapeControl);
}

function cut(text: string, longest: number, escape: (text: string) => string): string {
  return text.length <= longest
    ? escape(text)
    : `${escape(text.slice(0, longest))}… (${text.length} characters)`;
}

// deno-lint-ignore no-control-regex
const CONTROL = /[\x00-\x1f\x7f-\x9f]|\p{Surrogate}/gu;

function escapeControl(text: string): string {
  return text.replace(CONTROL, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1);
    return escaped === character ? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}` : escaped;
  });
}
