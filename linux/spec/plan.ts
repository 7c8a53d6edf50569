/**
 * From mounts as data to plans: values that say wholly what each mount is to be. What can be refused without asking the
 * kernel is refused here; no later phase reads an option.
 *
 * @module
 */

import { refuseBadText } from "../../ffi/memory.ts";
import { quote } from "../../ffi/text.ts";
import { MountError } from "./error.ts";
import { refuseLongData } from "./limits.ts";
import { type Mount, parentsFirst, subpathOf } from "./mount.ts";
import {
  type AttributeChange,
  type IdMaps,
  isIdMap,
  type LoopOption,
  type ParsedOptions,
  parseOptions,
  type PropagationStep,
} from "./options.ts";
import { type OverlayOptions, parseOverlayOptions } from "./overlay_options.ts";

/** What every plan has. */
export interface CommonPlan {
  /** The mount as the caller gave it. */
  readonly mount: Mount;
  /** The mountpoint below the target, normalized, such as "/" or "/proc". */
  readonly subpath: string;
  /** Attributes of the mount. */
  readonly attributes: AttributeChange;
  /** Attributes of the mount and of every mount below it. */
  readonly recursiveAttributes: AttributeChange;
  /** The id maps that the new mount gets. */
  readonly idMaps: IdMaps | undefined;
  /** Changes of propagation, made after the mount is attached. */
  readonly propagation: readonly PropagationStep[];
}

/** A bind mount. */
export interface BindPlan extends CommonPlan {
  readonly kind: "bind";
  /** The directory or file that is bound. */
  readonly source: string;
  /** Whether the mounts below the source are bound too. */
  readonly recursive: boolean;
}

/** An overlay. */
export interface OverlayPlan extends CommonPlan {
  readonly kind: "overlay";
  /** The name that the mount table shows. */
  readonly source: string;
  /** Its layers and its other parameters. */
  readonly layers: OverlayOptions;
  /** Flags of the superblock, as fsconfig(2) names them. */
  readonly superFlags: readonly string[];
}

/** A file system that the kernel makes from its type. */
export interface FilesystemPlan extends CommonPlan {
  readonly kind: "filesystem";
  /** Its type, such as "tmpfs". */
  readonly type: string;
  /** The device, the image file if there is a loop device, or a name. */
  readonly source: string;
  /** Flags of the superblock, as fsconfig(2) names them. */
  readonly superFlags: readonly string[];
  /** The file system's own parameters, such as "size=1m". */
  readonly data: readonly string[];
  /** How to attach the image file to a loop device. */
  readonly loop: LoopOption | undefined;
}

/** A FUSE file system, mounted by its helper program. */
export interface FusePlan extends CommonPlan {
  readonly kind: "fuse";
  /** "mount.fuse" or "mount.fuse3". */
  readonly helper: string;
  /** The server's program, such as "fuse-overlayfs". */
  readonly type: string;
  /** The source, as the server understands it. */
  readonly source: string;
  /** The options, as the server understands them. */
  readonly options: readonly string[];
}

/** A change of an existing mount. */
export interface RemountPlan extends CommonPlan {
  readonly kind: "remount";
  /** Whether the mount alone is changed, and not its file system. */
  readonly bind: boolean;
  /** Flags of the superblock, as fsconfig(2) names them. */
  readonly superFlags: readonly string[];
  /** The file system's own parameters. */
  readonly data: readonly string[];
}

/** A change of an existing mount's propagation alone. */
export interface PropagationPlan extends CommonPlan {
  readonly kind: "propagation";
}

/** One mount, ready to be made. */
export type Plan = BindPlan | OverlayPlan | FilesystemPlan | FusePlan | RemountPlan | PropagationPlan;

/** A plan of a new mount, as opposed to a change of an existing one. */
export type NewMountPlan = Exclude<Plan, RemountPlan | PropagationPlan>;

/**
 * Whether a plan makes a mount, and doesn't change an existing one.
 *
 * @param plan the plan.
 * @returns false for a remount and a change of propagation.
 */
export function makesMount(plan: Plan): plan is NewMountPlan {
  return plan.kind !== "remount" && plan.kind !== "propagation";
}

/**
 * Plans a list of mounts.
 *
 * @param mounts the mounts; they are not changed.
 * @param target the directory that they go under.
 * @returns the plans, in the order to mount.
 * @throws {MountError} for the first mount that is refused.
 */
export function planMounts(mounts: readonly Mount[], target: string): Plan[] {
  return parentsFirst(mounts.map((mount) => planMount(mount, target)));
}

function planMount(mount: Mount, target: string): Plan {
  try {
    const subpath = subpathOf(mount);
    refuseBadText(mount.type);
    refuseBadText(mount.source);
    refuseBadText(target);
    if (subpath !== "/") refuseBadText(subpath);
    for (const option of mount.options ?? []) refuseBadText(option);
    if (target === "") throw new TypeError("the target is an empty path");
    const options = parseOptions(kernelOptions(mount));
    const { attributes, recursiveAttributes, idMaps, propagation } = options;
    const common = { mount, subpath, attributes, recursiveAttributes, idMaps, propagation };
    const plan = planKind(common, options);
    if (idMaps) refuseIdMaps(plan);
    return plan;
  } catch (error) {
    throw new MountError(mount, target, error);
  }
}

/** A FUSE server's options are its own: of them, only what this library refuses or acts on is read. */
function kernelOptions({ type, options = [] }: Mount): readonly string[] {
  return isFuse(type)
    ? options.filter((option) => option.startsWith("X-containerd.") || isIdMap(option))
    : options;
}

function isFuse(type: string): boolean {
  return type.startsWith("fuse.") || type.startsWith("fuse3.");
}

function planKind(common: CommonPlan, options: ParsedOptions): Plan {
  const { type, source } = common.mount;
  const { superFlags, data, loop } = options;
  if (options.remount) return { ...common, kind: "remount", bind: options.bind, superFlags, data };
  if (options.bind || type === "bind") return planBind(common, options);
  if (isFuse(type)) return planFuse(common);
  if (type === "" || type === "none") {
    if (options.propagation.length > 0 && data.length === 0) return { ...common, kind: "propagation" };
    throw new TypeError("the mount has no type, and is neither a bind nor a remount");
  }
  if (type === "overlay") return planOverlay(common, options);
  const plan: FilesystemPlan = { ...common, kind: "filesystem", type, source, superFlags, data, loop };
  refuseLongData(plan, common.idMaps !== undefined);
  return plan;
}

function planBind(common: CommonPlan, options: ParsedOptions): BindPlan {
  refuseLoop(options, "a bind mount");
  const [first] = options.data; // mount(2) ignores data of a bind
  if (first !== undefined) throw new TypeError(`a bind mount knows no option ${quote(first)}`);
  return { ...common, kind: "bind", source: common.mount.source, recursive: options.recursive };
}

function planFuse(common: CommonPlan): FusePlan {
  const { type, source, options = [] } = common.mount;
  const dot = type.indexOf(".");
  return {
    ...common,
    kind: "fuse",
    helper: `mount.${type.slice(0, dot)}`,
    type: type.slice(dot + 1),
    source,
    options: options.filter((option) => !option.startsWith("x-") && !option.startsWith("X-")),
  };
}

function planOverlay(common: CommonPlan, options: ParsedOptions): OverlayPlan {
  refuseLoop(options, "an overlay");
  const layers = parseOverlayOptions(options.data);
  if (layers.lower.length === 0) throw new TypeError('an overlay needs at least one layer in "lowerdir="');
  if (layers.upper === undefined && layers.lower.length + layers.dataOnly.length < 2) {
    throw new TypeError(
      'an overlay of one layer needs an "upperdir="; without one, a read-only bind is the same',
    );
  }
  if (layers.upper !== undefined && layers.work === undefined) {
    throw new TypeError('"upperdir=" needs a "workdir=" on the same file system');
  }
  const source = common.mount.source || "overlay";
  return { ...common, kind: "overlay", source, layers, superFlags: options.superFlags };
}

function refuseLoop(options: ParsedOptions, what: string): void {
  if (options.loop) throw new TypeError(`${what} takes no loop device`);
}

/** The kernel maps a mount's ids before it is attached, and never after. */
function refuseIdMaps({ kind }: Plan): void {
  if (kind === "fuse") {
    throw new TypeError(
      "a FUSE helper mounts it itself, without an id map: bind its mount with one, if the server allows that",
    );
  }
  if (kind === "remount" || kind === "propagation") {
    throw new TypeError("an id map is for a new mount: that of an existing one can't be changed");
  }
}
