/**
 * C strings, and memory for calls on other threads.
 *
 * @module
 */

import { libc } from "./libc.ts";
import { Scratch } from "./scratch.ts";
import { decodeName, encodeName, quote } from "./text.ts";

const encoder = new TextEncoder();

/** Buffers of calls that run on another thread. The reference keeps the garbage collector from freeing them. */
const inFlight = new Set<readonly unknown[]>();

/**
 * Encodes a NUL-terminated C string.
 *
 * @param text the text, in the form that {@linkcode decodeName} returns.
 * @returns its bytes with the NUL.
 * @throws {TypeError} if the text contains a NUL character, where C would cut it, or a lone surrogate that
 * {@linkcode decodeName} does not return, which would silently become another name.
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
 * Throws if a C string cannot hold a text.
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

// A slot holds a path of PATH_MAX or a page of options. A call has at most four strings. A string that is found among
// the last eight slots is not overwritten by the other three, because there are sixteen slots.
const SLOTS = 16;
const REUSED = 8;
const SLOT_SIZE = 4097;
const slots = Array.from({ length: SLOTS }, () => ({ text: "", mark: 0, memory: new Scratch(SLOT_SIZE) }));
const empty = new Scratch(1); // the path "" of calls with AT_EMPTY_PATH
const unslotted: Scratch[] = []; // strings that do not fit a slot, each kept for as long as a slot's string
let last = 0;

/** A cheap hash: comparing two paths of the same directory to their ends takes as long as encoding one. */
function markOf(text: string): number {
  const { length } = text;
  return length * 2 ** 16 ^ text.charCodeAt(length - 1) << 8 ^ text.charCodeAt(length - 4);
}

/**
 * A C string for the next call on this thread. The memory is reused: allocating takes longer than most system calls.
 * A string that was encoded for one of the last calls is not encoded again.
 *
 * Needs the permission `ffi`.
 *
 * @param text the text, in the form that {@linkcode decodeName} returns.
 * @returns its address, valid until the next call on this thread has been made.
 * @throws {TypeError} as {@linkcode cString} does.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { scratchCString } from "./memory.ts";
 *
 * libc().rmdir(scratchCString("/mnt/old"));
 * ```
 */
export function scratchCString(text: string): Deno.PointerValue {
  if (text === "") return empty.address;
  const mark = markOf(text);
  for (let back = 0; back < REUSED; back++) {
    const slot = slots[(last - back + SLOTS) % SLOTS];
    if (slot?.mark === mark && slot.text === text) return slot.memory.address;
  }
  last = (last + 1) % SLOTS;
  const slot = slots[last];
  if (slot === undefined) return unslottedString(text);
  slot.text = ""; // writeText() may fail after it has overwritten a part
  if (!writeText(text, slot.memory.bytes)) return unslottedString(text);
  slot.text = text;
  slot.mark = mark;
  return slot.memory.address;
}

function unslottedString(text: string): Deno.PointerValue {
  const kept = allocCString(text);
  unslotted[last] = kept;
  return kept.address;
}

/**
 * A C string in newly allocated memory, valid for as long as the caller keeps the memory.
 *
 * @param text the text, in the form that {@linkcode decodeName} returns.
 * @returns the memory with the string and its NUL.
 * @throws {TypeError} as {@linkcode cString} does.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { allocCString } from "./memory.ts";
 *
 * const path = allocCString("/mnt/old");
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
  return text.length < SLOT_SIZE && (writeAscii(text, bytes) || writeUtf8(text, bytes));
}

const SHORT = 40; // characters; for a longer text TextEncoder is quicker than the loop

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

const batch = new Scratch(64 * 1024);
const single = new Scratch(SLOT_SIZE);

/**
 * C strings for a series of calls on this thread, encoded all at once. Encoding each of an overlay's hundred layers
 * separately takes a third as long as the calls.
 *
 * Needs the permission `ffi`.
 *
 * @param texts the texts, in the form that {@linkcode decodeName} returns.
 * @param use makes the call for one text; the address is valid until it returns.
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
  const { read, written } = encoder.encodeInto(all, batch.bytes);
  const isAscii = read === all.length && written === all.length; // one byte for each UTF-16 unit
  let from = 0;
  for (const text of texts) {
    const end = from + text.length;
    const isCopied = isAscii && text.length < SLOT_SIZE && copyName(batch.bytes, from, end, single.bytes);
    use(isCopied ? single.address : scratchCString(text), text);
    from = end + 1;
  }
}

/** False if the name contains a NUL: {@linkcode scratchCString} then throws. */
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
 * Decodes a NUL-terminated string in a buffer.
 *
 * @param bytes the buffer.
 * @param offset the index of the string's first byte.
 * @returns the text up to the NUL, or to the end of the bytes.
 *
 * @example
 * ```ts ignore
 * import { decodeCString } from "./memory.ts";
 *
 * decodeCString(new Uint8Array([47, 97, 0, 98]), 0); // "/a"
 * ```
 */
export function decodeCString(bytes: Uint8Array, offset: number): string {
  const end = bytes.indexOf(0, offset);
  return decodeName(bytes.subarray(offset, end < 0 ? bytes.length : end));
}

/**
 * Reads the string that a C pointer points to.
 *
 * Needs the permission `ffi`.
 *
 * @param pointer the address of a NUL-terminated string, or null.
 * @returns its text; the empty string for null.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { readCString } from "./memory.ts";
 *
 * readCString(libc().strerror(16)); // "Device or resource busy"
 * ```
 */
export function readCString(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : new Deno.UnsafePointerView(pointer).getCString();
}

/**
 * Makes a nonblocking call, which runs on another thread, and keeps its buffers alive until it returns: Deno holds no
 * reference to them.
 *
 * @param call makes the call.
 * @param buffers the memory that the call reads or writes.
 * @returns the call's result. Its errno is lost, because errno belongs to the other thread.
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
 * The C library's text for an error number.
 *
 * Needs the permission `ffi`.
 *
 * @param errno the number.
 * @returns the text of strerror(3), such as "Device or resource busy".
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
