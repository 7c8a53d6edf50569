/**
 * The mutants of every room.
 *
 * @module
 */

import { ffi } from "./list/ffi.ts";
import { mountinfo } from "./list/mountinfo.ts";
import { namespace, pidfd } from "./list/namespace.ts";
import { syscalls } from "./list/syscalls.ts";
import type { MutantRoom } from "./mutant.ts";

/** The rooms, from below. */
export const rooms: readonly MutantRoom[] = [ffi, syscalls, pidfd, namespace, mountinfo];
