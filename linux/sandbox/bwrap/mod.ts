/**
 * Boxes by the arguments of bubblewrap.
 *
 * @module
 */

export { fromBwrapArgs, type FromBwrapOptions } from "./from_args.ts";
export { BwrapPlan, type BwrapSpawnOptions } from "./plan.ts";
