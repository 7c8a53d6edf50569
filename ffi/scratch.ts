/**
 * C structs, and memory that is reused by every call.
 *
 * @module
 */

/**
 * Memory that is allocated once and reused by the calls of this thread. Allocating it for each call, or taking its
 * address again, would take longer than most system calls.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { scratchCString } from "./memory.ts";
 * import { Scratch } from "./scratch.ts";
 *
 * const answer = new Scratch(120); // struct statfs
 * libc().statfs(scratchCString("/mnt"), answer.address);
 * answer.view.getBigUint64(8, true); // f_bsize
 * ```
 */
export class Scratch {
  /** A view for reading and writing fields. */
  readonly view: DataView<ArrayBuffer>;
  /** The same memory. */
  readonly bytes: Uint8Array<ArrayBuffer>; // over an ArrayBuffer: V8 may move a short array that has none
  #address: Deno.PointerValue | undefined;

  /**
   * Allocates zeroed memory.
   *
   * @param size its size in bytes.
   */
  constructor(size: number) {
    this.view = struct(size);
    this.bytes = new Uint8Array(this.view.buffer);
  }

  /** The address of its first byte. Needs the permission `ffi`. */
  get address(): Deno.PointerValue {
    return this.#address ??= Deno.UnsafePointer.of(this.bytes);
  }
}

/**
 * Allocates a C struct, whose fields are read and written by their offsets.
 *
 * @param size the struct's size in bytes.
 * @returns a view of the zeroed struct.
 *
 * @example
 * ```ts ignore
 * import { struct } from "./scratch.ts";
 *
 * const how = struct(24); // struct open_how
 * how.setBigUint64(16, 0x10n, true); // resolve
 * ```
 */
export function struct(size: number): DataView<ArrayBuffer> {
  return new DataView(new ArrayBuffer(size));
}

/**
 * Reads a 64-bit field as a number, exact below 2^53. Reading it as a BigInt takes as long as the call that filled the
 * struct.
 *
 * @param view the struct.
 * @param offset the field's offset in bytes.
 * @returns the number.
 *
 * @example
 * ```ts ignore
 * import { getUint64AsNumber, struct } from "./scratch.ts";
 *
 * getUint64AsNumber(struct(120), 8); // f_bsize of struct statfs
 * ```
 */
export function getUint64AsNumber(view: DataView<ArrayBuffer>, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}

/**
 * Reads a signed 64-bit field as a number, exact between -2^53 and 2^53.
 *
 * @param view the struct.
 * @param offset the field's offset in bytes.
 * @returns the number.
 *
 * @example
 * ```ts ignore
 * import { getInt64AsNumber, struct } from "./scratch.ts";
 *
 * getInt64AsNumber(struct(256), 112); // stx_mtime.tv_sec of struct statx
 * ```
 */
export function getInt64AsNumber(view: DataView<ArrayBuffer>, offset: number): number {
  return view.getUint32(offset, true) + view.getInt32(offset + 4, true) * 2 ** 32;
}
