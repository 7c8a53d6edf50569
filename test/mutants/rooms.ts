/**
 * The mutants of every room.
 *
 * @module
 */

import { cli } from "./list/cli.ts";
import type { MutantRoom } from "./mutant.ts";

/** The rooms, from below. */
export const rooms: readonly MutantRoom[] = [cli];
