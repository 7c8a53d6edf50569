/**
 * The mutants of every room.
 *
 * @module
 */

import { filesystem } from "./list/filesystem.ts";
import { mount } from "./list/mount.ts";
import { unmount } from "./list/unmount.ts";
import type { MutantRoom } from "./mutant.ts";

/** The rooms, from below. */
export const rooms: readonly MutantRoom[] = [unmount, filesystem, mount];
