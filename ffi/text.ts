/**
 * Names as text. The kernel's are bytes, and mostly UTF-8; a byte that is not stands as a lone surrogate, U+DC80 to
 * U+DCFF, as Python's file names do it (PEP 383). So no two names have one text, and each text leads back to its name.
 *
 * @module
 */

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // else a name that begins with U+FEFF would lose it
const ESCAPES = 0xdc00; // what a byte is added to
const REPLACEMENT = "\ufffd"; // what TextDecoder puts where it finds no UTF-8

/**
 * The text of a name.
 *
 * @param bytes the name as the kernel has it.
 * @returns its text; well formed where the bytes are UTF-8.
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
  return text.includes(REPLACEMENT) ? decodeWithEscapes(bytes) : text; // it may be in the name itself
}

function decodeWithEscapes(bytes: Uint8Array): string {
  const units = new Uint16Array(bytes.length); // UTF-16 has never more units than UTF-8 has bytes
  let count = 0;
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at);
    const code = length === 0 ? ESCAPES + (bytes[at] ?? 0) : codePoint(bytes, at, length);
    if (code > 0xffff) units[count++] = 0xd7c0 + (code >> 10); // the first half of the pair
    units[count++] = code > 0xffff ? 0xdc00 | code & 0x3ff : code;
    at += length || 1;
  }
  let text = "";
  for (let at = 0; at < count; at += CHUNK) {
    text += String.fromCharCode(...units.subarray(at, Math.min(at + CHUNK, count)));
  }
  return text;
}

const CHUNK = 4096; // arguments of one call

function codePoint(bytes: Uint8Array, at: number, length: number): number {
  const first = bytes[at] ?? 0;
  let code = length === 1 ? first : first & (0x7f >> length);
  for (let next = 1; next < length; next++) code = code << 6 | (bytes[at + next] ?? 0) & 0x3f;
  return code;
}

/** How many bytes the character here has in UTF-8 (RFC 3629); 0 where there is none. */
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
 * The bytes behind a text.
 *
 * @param text the text, with what is no UTF-8 as {@linkcode decodeName} writes it.
 * @returns the name as the kernel has it.
 * @throws {TypeError} for any other half of a surrogate pair: no name has this text.
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
  // Escaped one by one, the bytes of a valid character would be a second text of the same name.
  if (bytes === undefined || decodeName(bytes) !== text) {
    throw new TypeError(`${quote(text)} holds half of a surrogate pair, which UTF-8 cannot express`);
  }
  return bytes;
}

function encodeWithEscapes(text: string): Uint8Array<ArrayBuffer> | undefined {
  const bytes = new Uint8Array(text.length * 3);
  let length = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.codePointAt(at) ?? 0;
    if (code > 0xffff) at++; // a whole pair
    if (code >= 0xd800 && code <= 0xdfff) {
      if (code < ESCAPES + 0x80 || code > ESCAPES + 0xff) return undefined;
      bytes[length++] = code - ESCAPES;
    } else length = putCharacter(bytes, length, code);
  }
  return bytes.slice(0, length);
}

const FIRST = [0, 0xc0, 0xe0, 0xf0]; // the first byte's upper bits, by how many bytes follow

function putCharacter(bytes: Uint8Array, at: number, code: number): number {
  const more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  bytes[at++] = (FIRST[more] ?? 0) | code >> 6 * more;
  for (let left = more - 1; left >= 0; left--) bytes[at++] = 0x80 | code >> 6 * left & 0x3f;
  return at;
}

/**
 * Takes the escapes out of a name as the mount table writes it: space, tab, newline, backslash and "#" as `\\040` and
 * so on, byte by byte.
 *
 * @param text the name with escapes.
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
    plain += text.slice(start, at) + String.fromCharCode(byte < 0x80 ? byte : ESCAPES + byte);
    start = at + 4;
  }
  plain += text.slice(start);
  const bytes = plain.isWellFormed() ? undefined : encodeWithEscapes(plain);
  return bytes ? decodeName(bytes) : plain; // bytes that were escaped one by one may be a character together
}

/** A byte in three octal digits; -1 where there is none. */
function octalAt(text: string, at: number): number {
  let byte = 0;
  for (let digit = at; digit < at + 3; digit++) {
    const value = text.charCodeAt(digit) - 48; // "0" in ASCII
    if (!(value >= 0 && value <= 7)) return -1;
    byte = byte * 8 + value;
  }
  return byte < 256 ? byte : -1;
}

const LONGEST_SHOWN = 200;

/**
 * A text for an error's sentence: in quotes, without control characters, and not longer than anybody reads.
 *
 * @param text the text.
 * @returns its beginning, if it is long.
 *
 * @example
 * ```ts ignore
 * import { shown } from "./text.ts";
 *
 * shown("a\nb"); // '"a\\nb"'
 * ```
 */
export function quote(text: string): string {
  return text.length <= LONGEST_SHOWN
    ? JSON.stringify(text)
    : `${JSON.stringify(text.slice(0, LONGEST_SHOWN))}… (${text.length} characters)`;
}
