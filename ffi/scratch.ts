/**
 * Structs as C wants them, and memory that call after call uses.
 *
 * @module
 */

/**
 * Where bytes stand. Only of memory that does not move and is kept as long as the address: V8 may move arrays of up to 64
 * bytes that were not made over an ArrayBuffer.
 *
 * @param bytes the bytes.
 * @returns their address.
 *
 * Needs the permission `ffi`.
 *
 * @example
 * ```ts ignore
 * import { addressOf } from "./scratch.ts";
 *
 * const bytes = new Uint8Array(new ArrayBuffer(8));
 * addressOf(bytes);
 * ```
 */
export function addressOf(bytes: Uint8Array<ArrayBuffer>): Deno.PointerValue {
  return Deno.UnsafePointer.of(bytes);
}

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
  readonly bytes: Uint8Array<ArrayBuffer>;
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
    return this.#address ??= addressOf(this.bytes);
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
