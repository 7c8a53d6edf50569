/**
 * Strings as C wants them.
 *
 * @module
 */

import { libc } from "./libc.ts";
import { Scratch } from "./scratch.ts";
import { decodeName, encodeName, quote } from "./text.ts";

const encoder = new TextEncoder();

/** Bytes that the garbage collector cannot take away from under a call that runs on another thread. */
const inFlight = new Set<readonly unknown[]>();

/**
 * A NUL-terminated C string.
 *
 * @param text what to encode, as UTF-8; names that are none as {@linkcode decodeName} writes them.
 * @returns its bytes with the NUL.
 * @throws {TypeError} if the text holds a NUL character, which would cut it short, or any other half of a surrogate
 * pair, which UTF-8 cannot say and which would silently become another name.
 *
 * @example
 * ```ts ignore
 * import { cString } from "./memory.ts";
 *
 * cString("/mnt"); // Uint8Array [47, 109, 110, 116, 0]
 * ```
 */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  refuseBadText(text);
  return text.isWellFormed() ? encoder.encode(text + "\0") : encodeName(text + "\0");
}

/**
 * Refuses what no C string can hold.
 *
 * @param text any text.
 * @throws {TypeError} as {@linkcode cString} does.
 *
 * @example
 * ```ts ignore
 * import { refuseBadText } from "./memory.ts";
 *
 * refuseBadText("/mnt");
 * ```
 */
export function refuseBadText(text: string): void {
  if (text.includes("\0")) {
    throw new TypeError(`${quote(text)} holds a NUL byte, which no path and no option can`);
  }
  if (!text.isWellFormed()) encodeName(text);
}

// Each holds a path of PATH_MAX and a page of options. A call has four texts at the most, so a slot that is among the
// last eight written still holds its text when the call is made.
const SLOTS = 16;
const REMEMBERED = 8;
const LONGEST = 4097;
const slots = Array.from({ length: SLOTS }, () => ({ text: "", mark: 0, room: new Scratch(LONGEST) }));
const nothing = new Scratch(1); // the empty string, which calls on a descriptor take as their path
const unusual: Scratch[] = []; // texts that no slot holds, kept as long as the others
let last = 0;

/** What tells texts apart: comparing two paths of one directory to their ends takes as long as encoding one. */
function markOf(text: string): number {
  const { length } = text;
  return length * 2 ** 16 ^ text.charCodeAt(length - 1) << 8 ^ text.charCodeAt(length - 4);
}

/**
 * A C string for a call on this thread, which is done with it when it returns: allocating memory takes longer than
 * most system calls, and encoding the same path again for the next call as long as some.
 *
 * Needs the permission `ffi`.
 *
 * @param text what to encode, as UTF-8.
 * @returns its address, in memory that the calls after it use again.
 * @throws {TypeError} as {@linkcode cString} does.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { borrowedString } from "./memory.ts";
 *
 * libc().rmdir(borrowedString("/mnt/old"));
 * ```
 */
export function scratchCString(text: string): Deno.PointerValue {
  if (text === "") return nothing.address;
  const mark = markOf(text);
  for (let back = 0; back < REMEMBERED; back++) {
    const slot = slots[(last - back + SLOTS) % SLOTS];
    if (slot?.mark === mark && slot.text === text) return slot.room.address;
  }
  last = (last + 1) % SLOTS;
  const slot = slots[last];
  if (slot === undefined) return unusualString(text);
  slot.text = ""; // it may be written in part
  if (!writeText(text, slot.room.bytes)) return unusualString(text);
  slot.text = text;
  slot.mark = mark;
  return slot.room.address;
}

function unusualString(text: string): Deno.PointerValue {
  const kept = allocCString(text);
  unusual[last] = kept;
  return kept.address;
}

/**
 * A C string in memory of its own, for as long as it is kept.
 *
 * @param text what to encode, as UTF-8.
 * @returns the memory, with the NUL.
 * @throws {TypeError} as {@linkcode cString} does.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { keptString } from "./memory.ts";
 *
 * const path = keptString("/mnt/old");
 * libc().rmdir(path.address);
 * ```
 */
export function allocCString(text: string): Scratch {
  const bytes = cString(text);
  const kept = new Scratch(bytes.length);
  kept.bytes.set(bytes);
  return kept;
}

function writeText(text: string, bytes: Uint8Array<ArrayBuffer>): boolean {
  return text.length < LONGEST && (writeAscii(text, bytes) || writeUtf8(text, bytes));
}

const SHORT = 40; // from here on, a call of the runtime's encoder is quicker than a loop

function writeAscii(text: string, bytes: Uint8Array): boolean {
  if (text.length > SHORT) return false;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit === 0 || unit > 127) return false;
    bytes[index] = unit;
  }
  bytes[text.length] = 0;
  return true;
}

function writeUtf8(text: string, bytes: Uint8Array<ArrayBuffer>): boolean {
  refuseBadText(text);
  if (!text.isWellFormed()) return false;
  const { read, written } = encoder.encodeInto(text, bytes);
  if (read < text.length || written === bytes.length) return false;
  bytes[written] = 0;
  return true;
}

const together = new Scratch(64 * 1024);
const alone = new Scratch(LONGEST);

/**
 * C strings for as many calls on this thread, encoded all at once: for each of an overlay's hundred layers alone it would
 * take a third as long as the call.
 *
 * Needs the permission `ffi`.
 *
 * @param texts what to encode, as UTF-8.
 * @param use makes the call with one of them, by its address.
 * @throws {TypeError} as {@linkcode cString} does.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { withStrings } from "./memory.ts";
 *
 * withStrings(["/mnt/a", "/mnt/b"], (path) => libc().rmdir(path));
 * ```
 */
export function withStrings(
  texts: readonly string[],
  use: (address: Deno.PointerValue, text: string) => void,
): void {
  const all = texts.join("\0");
  const { read, written } = encoder.encodeInto(all, together.bytes);
  const isAscii = read === all.length && written === all.length; // a byte for each character
  let from = 0;
  for (const text of texts) {
    const end = from + text.length;
    const isCopied = isAscii && text.length < LONGEST && copyName(together.bytes, from, end, alone.bytes);
    use(isCopied ? alone.address : scratchCString(text), text);
    from = end + 1;
  }
}

/** A NUL within is left to {@linkcode scratchCString}, which refuses it. */
function copyName(from: Uint8Array, start: number, end: number, to: Uint8Array): boolean {
  let length = 0;
  for (let at = start; at < end; at++) {
    const byte = from[at] ?? 0;
    if (byte === 0) return false;
    to[length++] = byte;
  }
  to[length] = 0;
  return true;
}

/**
 * The text of a NUL-terminated string within bytes.
 *
 * @param bytes where the string stands.
 * @param offset its first byte.
 * @returns the text up to the NUL, or to the end of the bytes.
 *
 * @example
 * ```ts ignore
 * import { textAt } from "./memory.ts";
 *
 * textAt(new Uint8Array([47, 97, 0, 98]), 0); // "/a"
 * ```
 */
export function decodeCString(bytes: Uint8Array, offset: number): string {
  const end = bytes.indexOf(0, offset);
  return decodeName(bytes.subarray(offset, end < 0 ? bytes.length : end));
}

/**
 * The text that a C pointer leads to.
 *
 * Needs the permission `ffi`.
 *
 * @param pointer the address of a NUL-terminated string, or null.
 * @returns its text; the empty string for null.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { textBehind } from "./memory.ts";
 *
 * textBehind(libc().strerror(16)); // "Device or resource busy"
 * ```
 */
export function readCString(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : new Deno.UnsafePointerView(pointer).getCString();
}

/**
 * Makes a call that runs on another thread, and keeps the memory that it reads until it is done: Deno itself
 * holds no reference to the buffers of a nonblocking call.
 *
 * @param call makes the call.
 * @param buffers what the call reads or writes.
 * @returns what the call returns.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { cString, offThread } from "./memory.ts";
 *
 * const target = cString("/mnt");
 * await offThread(() => libc().umount2_nonblocking(target, 0), target);
 * ```
 */
export async function offThread<T>(call: () => Promise<T>, ...buffers: Uint8Array[]): Promise<T> {
  inFlight.add(buffers);
  try {
    return await call();
  } finally {
    inFlight.delete(buffers);
  }
}

/**
 * The kernel's sentence for an error number.
 *
 * Needs the permission `ffi`.
 *
 * @param errno the number.
 * @returns libc's text for it, such as "Device or resource busy".
 *
 * @example
 * ```ts ignore
 * import { errnoText } from "./memory.ts";
 *
 * errnoText(2); // "No such file or directory"
 * ```
 */
export function errnoText(errno: number): string {
  return readCString(libc().strerror(errno));
}
