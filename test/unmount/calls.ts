/**
 * The functions that unmount, called in the same way.
 *
 * @module
 */

import { unmount, unmountAll, unmountMounts, type UnmountOptions, unmountRecursive } from "../../mod.ts";

/** The mount that {@linkcode unmountingCalls} unmount. */
export const tmpfs = { type: "tmpfs", source: "t" };

/** A call that unmounts a tmpfs from a target. */
export type UnmountingCall = (target: string, options: UnmountOptions) => Promise<void>;

/** Each function that unmounts, by its name. */
export const unmountingCalls: Readonly<Record<string, UnmountingCall>> = {
  unmount,
  unmountAll,
  unmountRecursive,
  unmountMounts: (target, options) => unmountMounts([tmpfs], target, options),
};
