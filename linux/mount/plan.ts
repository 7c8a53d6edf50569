/**
 * From a mount as data to a value that says what to do, with everything refused that can be refused before the first
 * system call.
 *
 * @module
 */

import { refuseBadText } from "../../ffi/memory.ts";
import { quote } from "../../ffi/text.ts";
import type { BindPlan } from "../filesystem/bind.ts";
import { type FilesystemPlan, refuseLongData } from "../filesystem/by_type.ts";
import { type FusePlan, fusePlan } from "../filesystem/fuse.ts";
import { MountError } from "../spec/error.ts";
import { type Mount, parentsFirst, subpathOf } from "../spec/mount.ts";
import {
  type IdMaps,
  isIdMap,
  type ParsedOptions,
  parseOptions,
  type PropagationStep,
} from "../spec/options.ts";
import { type OverlayPlan, overlayPlan } from "../filesystem/overlay.ts";

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
  subpath: string;
  /** What to do. */
  action: Action;
  /** The id maps that it gets. */
  idMaps: IdMaps | undefined;
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
    const subpath = subpathOf(mount);
    refuseBadText(mount.type);
    refuseBadText(mount.source);
    refuseBadText(target);
    if (subpath !== "/") refuseBadText(subpath);
    for (const option of mount.options ?? []) refuseBadText(option);
    if (target === "") throw new TypeError("the target has no name");
    const options = parseOptions(optionsOf(mount));
    const { propagation, idMaps } = options;
    const action = actionOf(mount, options);
    if (idMaps) refuseIdMaps(action);
    return { mount, subpath, action, propagation, idMaps };
  } catch (error) {
    throw new MountError(mount, target, error);
  }
}

/** A FUSE program's options are its own: only this library's refusals and comments matter to it. */
function optionsOf({ type, options = [] }: Mount): readonly string[] {
  return isFuse(type)
    ? options.filter((option) => option.startsWith("X-containerd.") || isIdMap(option))
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

/** A mount can be id-mapped before it is attached, and never after. */
function refuseIdMaps({ kind }: Action): void {
  if (kind === "fuse") {
    throw new TypeError(
      "a FUSE helper mounts it itself, without an id map: map a bind of it, where its server allows that",
    );
  }
  if (kind === "remount" || kind === "propagation") {
    throw new TypeError("an id map is for a new mount: that of one which is there can't be changed");
  }
}

/** mount(2) ignores them in silence; whoever wrote them expected something. */
function refuseData(options: ParsedOptions): void {
  const [first] = options.data;
  if (first !== undefined) throw new TypeError(`a bind mount knows no option ${quote(first)}`);
}
