/**
 * The mutants of every room.
 *
 * @module
 */

import { spec } from "./list/spec.ts";
import type { MutantRoom } from "./mutant.ts";

/** The rooms, from below. */
export const rooms: readonly MutantRoom[] = [spec];
