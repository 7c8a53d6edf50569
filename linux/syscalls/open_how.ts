/**
 * The argument of openat2(2) for a call on another thread, which needs memory of its own.
 *
 * @module
 */

import { O_CLOEXEC } from "./constants.ts";

/**
 * Makes a struct open_how of linux/openat2.h.
 *
 * @param flags `O_…` flags; `O_CLOEXEC` is added.
 * @param resolve `RESOLVE_…` flags.
 * @returns the struct's bytes.
 */
export function openHow(flags: number, resolve: number): Uint8Array<ArrayBuffer> {
  const how = new DataView(new ArrayBuffer(24)); // sizeof(struct open_how)
  how.setUint32(0, flags | O_CLOEXEC, true); // flags
  how.setUint32(16, resolve, true); // resolve
  return new Uint8Array(how.buffer);
}
