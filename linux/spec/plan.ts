/**
 * From mounts as data to plans: values that say wholly what each mount is to be. What can be refused without asking the
 * kernel is refused here; no later phase reads an option.
 *
 * @module
 */

import { refuseBadText } from "../../ffi/memory.ts";
import { quote } from "../../ffi/text.ts";
import { join } from "../path/path.ts";
import { MountError } from "./error.ts";
import { refuseLongData } from "./limits.ts";
import { type Mount, subpathOf } from "./mount.ts";
import { ATTRIBUTES, RESTRICTIONS, WORDS } from "./option_table.ts";
import { isManagerType, needsManager } from "./needs_manager.ts";
import {
  type AttributeChange,
  type IdMaps,
  type LoopOption,
  type ParsedOptions,
  parseOptions,
  type PropagationStep,
  splitOptions,
} from "./options.ts";
import { type OverlayOptions, parseOverlayOptions } from "./overlay_options.ts";
import { checkMount } from "./read_mount.ts";
import { hasChanges, type PlanAttributes, topAttributes } from "./setattr.ts";

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
  /** The mode of the mountpoint, if it is made when it is missing. */
  readonly mkdir: number | undefined;
  /** The directory below the root that is mounted instead of it. */
  readonly subdir: string | undefined;
  /** What the root of the new mount gets. */
  readonly root: RootChange | undefined;
}

/** The owner and mode that the root of a mount gets: `X-mount.owner=`, `group=` and `mode=`. */
export interface RootChange {
  /** The owner, by name or number. */
  readonly owner: string | undefined;
  /** The group, by name or number. */
  readonly group: string | undefined;
  /** The mode. */
  readonly mode: number | undefined;
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
  /** Security contexts, passed if the kernel has SELinux. */
  readonly labels: readonly string[];
  /** Lower layers that keep their owners beside an id map. */
  readonly unmapped: readonly string[];
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
  /** Security contexts, passed if the kernel has SELinux. */
  readonly labels: readonly string[];
  /** How to attach the image file to a loop device. */
  readonly loop: LoopOption | undefined;
}

/** A file system that a helper program mounts: FUSE, NFS, CIFS. */
export interface FusePlan extends CommonPlan {
  readonly kind: "fuse";
  /** The program, such as "mount.fuse3" or "mount.nfs". */
  readonly helper: string;
  /** The server's program, such as "fuse-overlayfs"; undefined for a helper other than FUSE's. */
  readonly type: string | undefined;
  /** The source, as the server understands it. */
  readonly source: string;
  /** The options, as the helper and the server understand them. */
  readonly options: readonly string[];
  /** Security contexts, which no helper is asked for. */
  readonly labels: readonly string[];
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
  /** Security contexts, passed if the kernel has SELinux. */
  readonly labels: readonly string[];
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
 * The path that a plan mounts on, or changes the mount of.
 *
 * @param plan the plan.
 * @param target the directory that the list goes under.
 * @returns the path.
 */
export function mountpointOf({ subpath }: CommonPlan, target: string): string {
  return subpath === "/" ? target : join(target, subpath);
}

/**
 * Plans a list of mounts.
 *
 * @param mounts the mounts; they are not changed.
 * @param target the directory that they go under.
 * @param isMapped whether the call has a user namespace whose maps every new mount gets.
 * @returns the plans, in the list's order.
 * @throws {MountError} for the first mount that is refused.
 */
export function planMounts(mounts: readonly Mount[], target: string, isMapped = false): Plan[] {
  return mounts.map((mount) => planMount(mount, target, isMapped));
}

function planMount(mount: Mount, target: string, isMapped: boolean): Plan {
  let path = target;
  try {
    const checked = checkMount(mount);
    const { type, source, options: given } = checked;
    refuseBadText(target);
    if (target === "") throw new TypeError("the target is an empty path");
    const subpath = subpathOf(checked.target);
    if (subpath !== "/") {
      refuseBadText(subpath);
      path = join(target, subpath);
    }
    refuseBadText(type);
    refuseBadText(source);
    for (const option of given) refuseBadText(option);
    refuseManagerType(type);
    const options = helperOf(checked) ? parseFuseOptions(given, isMapped) : parseOptions(given, isMapped);
    const plan = planKind(commonPlan(mount, subpath, options), checked, options);
    // The call's namespace is for new mounts; a change of one says nothing about ids.
    if (plan.idMaps?.ofCall === "implied" && !makesMount(plan)) return { ...plan, idMaps: undefined };
    if (options.idMaps) refuseIdMaps(plan);
    return plan;
  } catch (error) {
    throw new MountError(mount, path, error);
  }
}

function commonPlan(mount: Mount, subpath: string, options: ParsedOptions): CommonPlan {
  const { attributes, recursiveAttributes, idMaps, propagation } = options;
  const { mkdir, subdir, owner, group, mode } = options.xMount;
  const isChanged = owner !== undefined || group !== undefined || mode !== undefined;
  const root = isChanged ? { owner, group, mode } : undefined;
  return { mount, subpath, attributes, recursiveAttributes, idMaps, propagation, mkdir, subdir, root };
}

function refuseManagerType(type: string): void {
  if (isManagerType(type)) throw needsManager(`the type ${quote(type)}`);
  if (type === "auto") {
    throw new TypeError(
      'the type "auto" asks to guess: name the file system\'s type, such as "ext4"; probe() finds it out',
    );
  }
}

/** Types that a helper mounts: it asks the server for what the kernel needs to be told. */
const HELPED = new Set(["nfs", "nfs4", "cifs", "smb3", "ntfs-3g", "lowntfs-3g", "glusterfs", "davfs"]);

/** What the kernel needs, and a helper finds out; a list that has it needs no helper. */
const ADDRESS = /^(addr|ip)=/;

/**
 * The program that mounts a file system; a type such as "mount.s3ql" names it.
 *
 * @param mount the mount.
 * @returns such as "mount.fuse3"; undefined if the kernel mounts it.
 */
export function helperOf({ type, options = [] }: Mount): string | undefined {
  const [fuse] = /^fuse3?(?=\.)/.exec(type) ?? [];
  if (fuse !== undefined) return `mount.${fuse}`;
  if (/^mount\.[^/]+$/.test(type)) return type;
  const isHelped = HELPED.has(type) && !options.flatMap(splitOptions).some((word) => ADDRESS.test(word));
  return isHelped ? `mount.${type}` : undefined;
}

function planKind(common: CommonPlan, mount: Required<Mount>, options: ParsedOptions): Plan {
  const { type, source } = mount;
  if (options.unmapped.length > 0 && (type !== "overlay" || options.bind || options.remount)) {
    throw new TypeError('"X-denomount.unmapped=" is about a layer of a new overlay');
  }
  if (options.remount) return planRemount(common, options);
  if (options.bind || type === "bind") return planBind(common, source, options);
  const helper = helperOf(mount);
  if (helper !== undefined) return planFuse(common, mount, helper, options);
  if (type === "" || type === "none") return planPropagation(common, options);
  if (type === "overlay") return planOverlay(common, source, options);
  const { superFlags, labels, loop } = options;
  const data = options.data.map(unescapeComma);
  const plan: FilesystemPlan = {
    ...common,
    kind: "filesystem",
    type,
    source,
    superFlags,
    data,
    labels,
    loop,
  };
  refuseLongData(plan, common.idMaps !== undefined);
  return plan;
}

/** Only overlay reads a backslash before a comma; fsconfig(2) takes the value as it is. */
function unescapeComma(option: string): string {
  return option.includes("\\,") ? option.replaceAll("\\,", ",") : option;
}

function planRemount(common: CommonPlan, options: ParsedOptions): RemountPlan {
  const { bind, superFlags, data, labels } = options;
  refuseLoop(options, "a remount");
  refuseNewMountWords(common, "a remount");
  if (bind) refuseSuperblockWords(options, 'a remount of the mount alone, with "bind",');
  // fs/namespace.c, MS_RMT_MASK: mount(2) leaves it out without an error, and fsconfig(2) fails with EINVAL.
  else if (superFlags.includes("dirsync")) {
    throw new TypeError('a remount can\'t change "dirsync": the kernel takes it for a new mount only');
  }
  return { ...common, kind: "remount", bind, superFlags, data: data.map(unescapeComma), labels };
}

function planPropagation(common: CommonPlan, options: ParsedOptions): RemountPlan | PropagationPlan {
  if (options.propagation.length === 0) {
    throw new TypeError("the mount has no type, and is neither a bind nor a remount");
  }
  refuseLoop(options, "a change of propagation");
  refuseNewMountWords(common, "a change of propagation");
  refuseSuperblockWords(options, "a change of propagation");
  const { attributes, recursiveAttributes } = common;
  if (!hasChanges(attributes) && !hasChanges(recursiveAttributes)) return { ...common, kind: "propagation" };
  return { ...common, kind: "remount", bind: true, superFlags: [], data: [], labels: [] };
}

function planBind(common: CommonPlan, source: string, options: ParsedOptions): BindPlan {
  refuseLoop(options, "a bind mount");
  refuseSuperblockWords(options, "a bind mount");
  return {
    ...common,
    ...bindAttributes(common, options.recursive),
    kind: "bind",
    source,
    recursive: options.recursive,
  };
}

/**
 * `rw`, `suid`, `dev`, `exec` and `symfollow` of a new bind say nothing: containerd writes `rbind,rw` on everything, and what is
 * mounted grants nothing that its source withholds. To take a restriction away is a remount's job. They only take back
 * what the same list says about the tree, as `rro,rw` does for the top mount.
 */
function bindAttributes(plan: PlanAttributes, isTree: boolean): PlanAttributes {
  const { attributes: own, recursiveAttributes: tree } = plan;
  const withoutGrants = ({ set, clear }: AttributeChange) => ({ set, clear: clear & ~RESTRICTIONS });
  if (!isTree) {
    return { attributes: withoutGrants(topAttributes(plan)), recursiveAttributes: { set: 0, clear: 0 } };
  }
  return {
    attributes: { set: own.set, clear: own.clear & (~RESTRICTIONS | tree.set) },
    recursiveAttributes: withoutGrants(tree),
  };
}

/** A bind shares its source's superblock, and the kernel ignores whatever is said about it. */
function refuseSuperblockWords({ data, superFlags, superWords }: ParsedOptions, what: string): void {
  const [first] = data;
  if (first !== undefined) throw new TypeError(`${what} knows no option ${quote(first)}`);
  const flag = superWords[0] ?? superFlags.find((name) => /^(sync|dirsync|lazytime|mand)$/.test(name));
  if (flag !== undefined) {
    throw new TypeError(`${what} can't change ${quote(flag)}, a flag of the file system`);
  }
}

/** What changes the root of a mount, or chooses it, belongs to a new one. */
function refuseNewMountWords({ subdir, root }: CommonPlan, what: string): void {
  if (subdir !== undefined) throw new TypeError(`${what} takes no "X-mount.subdir="`);
  if (root !== undefined) throw new TypeError(`${what} takes no "X-mount.owner=", "group=" or "mode="`);
}

/** What mount.fuse(8) reads itself; any other word of the table is carried out by this library. */
const HELPER_WORDS = new Set([
  ...["ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec"],
  ...["async", "sync", "dirsync", "atime", "noatime"],
]);

/** What this library carries out; the rest is the helper's and the server's. */
function parseFuseOptions(given: readonly string[], isMapped: boolean): ParsedOptions {
  const options = given.flatMap(splitOptions);
  const isChange = options.includes("remount") || options.includes("bind") || options.includes("rbind");
  if (isChange) return parseOptions(options, isMapped);
  const known = options.filter((word) => !isData(word));
  const parsed = parseOptions(known.filter((word) => !HELPER_WORDS.has(word)), isMapped);
  if (!hasChanges(topAttributes(parsed))) return parsed;
  // What is set after the helper has mounted must not overrule a later word that the helper has carried out.
  return { ...parseOptions(known, isMapped), superFlags: parsed.superFlags };
}

/** Whether a word is none of this library's. */
function isData(word: string): boolean {
  return !WORDS.has(word) && !isLayeredAttribute(word) &&
    !/^([xX]-|uidmap=|gidmap=|comment=|user=|(fs|def|root)?context=|seclabel$)/.test(word);
}

/** `ro=vfs`. */
function isLayeredAttribute(word: string): boolean {
  const at = word.indexOf("=");
  return at > 0 && Object.hasOwn(ATTRIBUTES, word.slice(0, at)); // "devs" is a server's own option
}

function planFuse(
  common: CommonPlan,
  { type, source, options }: Required<Mount>,
  helper: string,
  parsed: ParsedOptions,
): FusePlan {
  const isFuse = /^fuse3?\./.test(type);
  const what = isFuse ? "a FUSE mount" : `a mount by ${helper}`;
  refuseLoop(parsed, what);
  refuseNewMountWords(common, what);
  refuseSuperblockWords(parsed, isFuse ? "a FUSE helper" : helper);
  return {
    ...common,
    kind: "fuse",
    helper,
    type: isFuse ? type.slice(type.indexOf(".") + 1) : undefined,
    source,
    options: options.flatMap(splitOptions).filter((word) => HELPER_WORDS.has(word) || isData(word)),
    labels: parsed.labels,
  };
}

function planOverlay(common: CommonPlan, source: string, options: ParsedOptions): OverlayPlan {
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
  const { superFlags, labels, unmapped } = options;
  const unknown = unmapped.find((path) => !layers.lower.includes(path) && !layers.dataOnly.includes(path));
  if (unknown !== undefined) {
    throw new TypeError(
      `"X-denomount.unmapped=" names ${quote(unknown)}, which is no lower layer of the overlay`,
    );
  }
  return { ...common, kind: "overlay", source: source || "overlay", layers, superFlags, labels, unmapped };
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
