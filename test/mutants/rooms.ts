/**
 * The mutants of every room.
 *
 * @module
 */

import { ffi } from "./list/ffi.ts";
import { syscalls } from "./list/syscalls.ts";
import type { MutantRoom } from "./mutant.ts";

/** The rooms, from below. */
export const rooms: readonly MutantRoom[] = [ffi, syscalls];
