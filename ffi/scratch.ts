/**
 * Structs as C wants them, and memory that call after call uses.
 *
 * @module
 */

/**
 * Memory that is made once, for call after call on this thread: allocating it for each would take longer than most calls,
 * and so would asking for its address.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { borrowedString } from "./memory.ts";
 * import { Scratch } from "./scratch.ts";
 *
 * const answer = new Scratch(120); // struct statfs
 * libc().statfs(borrowedString("/mnt"), answer.address);
 * answer.view.getBigUint64(8, true); // f_bsize
 * ```
 */
export class Scratch {
  /** A view for reading and writing fields. */
  readonly view: DataView<ArrayBuffer>;
  /** The same memory. */
  readonly bytes: Uint8Array<ArrayBuffer>; // over an ArrayBuffer: V8 may move short arrays that are not
  #address: Deno.PointerValue | undefined;

  /**
   * Zeroed memory.
   *
   * @param size how much, in bytes.
   */
  constructor(size: number) {
    this.view = struct(size);
    this.bytes = new Uint8Array(this.view.buffer);
  }

  /** Where it is. Needs the permission `ffi`. */
  get address(): Deno.PointerValue {
    return this.#address ??= Deno.UnsafePointer.of(this.bytes);
  }
}

/**
 * A view for reading and writing a C struct by the offsets of its fields.
 *
 * @param size the struct's size in bytes.
 * @returns a zeroed struct.
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
 * A 64-bit number of a struct that is below 2^53, or near it: making a BigInt first takes as long as the call that filled
 * the struct.
 *
 * @param view the struct.
 * @param offset where the number stands, in bytes.
 * @returns the number.
 *
 * @example
 * ```ts ignore
 * import { struct, wordAt } from "./scratch.ts";
 *
 * wordAt(struct(120), 8); // f_bsize of struct statfs
 * ```
 */
export function getUint64AsNumber(view: DataView<ArrayBuffer>, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}
