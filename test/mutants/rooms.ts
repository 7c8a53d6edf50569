/**
 * The mutants of every room.
 *
 * @module
 */

import { idmap } from "./list/idmap.ts";
import { loop } from "./list/loop.ts";
import { path } from "./list/path.ts";
import { spec } from "./list/spec.ts";
import { temp } from "./list/temp.ts";
import type { MutantRoom } from "./mutant.ts";

/** The rooms, from below. */
export const rooms: readonly MutantRoom[] = [path, spec, idmap, loop, temp];
