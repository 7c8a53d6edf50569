/**
 * From a mount as data to a value that says what to do, with everything refused that can be refused before the first
 * system call.
 *
 * @module
 */

import { cString } from "../ffi/memory.ts";
import type { BindPlan } from "./bind.ts";
import { type FilesystemPlan, refuseLongData } from "./filesystem.ts";
import { type FusePlan, fusePlan } from "./fuse.ts";
import { MountError } from "./mount_error.ts";
import type { Mount } from "./mount_list.ts";
import { type ParsedOptions, parseOptions, type PropagationStep } from "./options.ts";
import { type OverlayPlan, overlayPlan } from "./overlay.ts";
import { join } from "./path.ts";

/** What to do for one mount. */
export type Action =
  | { kind: "bind"; plan: BindPlan }
  | { kind: "overlay"; plan: OverlayPlan }
  | { kind: "fuse"; plan: FusePlan }
  | { kind: "filesystem"; plan: FilesystemPlan }
  | { kind: "remount"; options: ParsedOptions }
  | { kind: "propagation" };

/** One mount, ready to be made. */
export interface Plan {
  /** The mount as it was given. */
  mount: Mount;
  /** The path below the target, normalized, such as "/" or "/proc". */
  inside: string;
  /** What to do. */
  action: Action;
  /** What to do to its propagation after that. */
  propagation: readonly PropagationStep[];
}

/**
 * Plans a list of mounts: in its order, but a parent before what is mounted below it.
 *
 * @param mounts the mounts; they are not changed.
 * @param target the directory that they go under.
 * @returns the plans, in the order to mount.
 * @throws {MountError} for the first one that can't be right.
 */
export function planAll(mounts: readonly Mount[], target: string): Plan[] {
  return parentsFirst(mounts.map((mount) => planOne(mount, target)));
}

function planOne(mount: Mount, target: string): Plan {
  try {
    const inside = insideOf(mount);
    for (const text of [mount.type, mount.source, target, inside, ...mount.options ?? []]) cString(text);
    if (target === "") throw new TypeError("the target has no name");
    const options = parseOptions(optionsOf(mount));
    return { mount, inside, action: actionOf(mount, options), propagation: options.propagation };
  } catch (error) {
    throw new MountError(mount, target, error);
  }
}

/**
 * The place of a mount below the target.
 *
 * @param mount the mount.
 * @returns a normalized path that begins with a slash.
 */
export function insideOf(mount: Mount): string {
  return join("/", mount.target ?? "");
}

/** A FUSE program's options are its own: only this library's refusals and comments matter to it. */
function optionsOf({ type, options = [] }: Mount): readonly string[] {
  return isFuse(type)
    ? options.filter((option) => /^(X-containerd\.|uidmap=|gidmap=)/.test(option))
    : options;
}

function isFuse(type: string): boolean {
  return type.startsWith("fuse.") || type.startsWith("fuse3.");
}

function actionOf({ type, source, options: given = [] }: Mount, options: ParsedOptions): Action {
  if (options.remount) return { kind: "remount", options };
  if (options.bind || type === "bind") {
    refuseLoop(options, "a bind mount");
    refuseData(options);
    return { kind: "bind", plan: { source, options } };
  }
  if (isFuse(type)) {
    return {
      kind: "fuse",
      plan: fusePlan(
        type,
        source,
        given.filter((option) => !isComment(option)),
      ),
    };
  }
  if (type === "" || type === "none") {
    if (options.propagation.length > 0 && options.data.length === 0) return { kind: "propagation" };
    throw new TypeError("it has no type, and is neither a bind nor a remount");
  }
  if (type === "overlay") {
    refuseLoop(options, "an overlay");
    return { kind: "overlay", plan: overlayPlan(source, options) };
  }
  const plan = { type, source, options };
  refuseLongData(plan);
  return { kind: "filesystem", plan };
}

function isComment(option: string): boolean {
  return option.startsWith("x-") || option.startsWith("X-");
}

function refuseLoop(options: ParsedOptions, what: string): void {
  if (options.loop) throw new TypeError(`${what} takes no loop device`);
}

/** mount(2) ignores them in silence; whoever wrote them expected something. */
function refuseData(options: ParsedOptions): void {
  const [first] = options.data;
  if (first !== undefined) throw new TypeError(`a bind mount knows no option "${first}"`);
}

/**
 * Puts parents before children and leaves the order as it is otherwise.
 *
 * @param items what has a place.
 * @returns the same in their order.
 */
export function parentsFirst<T extends { inside: string }>(items: readonly T[]): T[] {
  const ordered: T[] = [];
  for (const item of items) {
    const below = item.inside === "/" ? "/" : item.inside + "/";
    const child = ordered.findIndex(({ inside }) => inside !== item.inside && inside.startsWith(below));
    ordered.splice(child < 0 ? ordered.length : child, 0, item);
  }
  return ordered;
}
