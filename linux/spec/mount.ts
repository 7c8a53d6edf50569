/**
 * The mount as data, in containerd's shape, and what can be done to a list of them without a system call. None of
 * these functions changes its arguments.
 *
 * @module
 */

import { join } from "../path/path.ts";
import { isIdMap, splitOptions } from "./options.ts";
import { escapeDirectory, escapeLayer, unescapeLayer } from "./overlay_options.ts";

/** One mount: a system call written down. containerd's JSON loads into it. */
export interface Mount {
  /** The file system's type, "bind", or `fuse.X`/`fuse3.X` for a FUSE helper. */
  type: string;
  /** The device, directory or name that is mounted. */
  source: string;
  /** The mountpoint below the target of the call; the target itself if left out. */
  target?: string;
  /** fstab-style options; an entry may be several joined by commas. */
  options?: readonly string[];
}

/** Whether a type is containerd's instruction for its mount manager, and not the kernel's. */
const lastPart = (type: string) => type.slice(type.lastIndexOf("/") + 1);

function words({ options }: Mount): string[] {
  return (options ?? []).flatMap(splitOptions);
}

/**
 * Whether a mount can't be written to, by the rules of containerd's `ReadOnly()`: a word `ro` counts, whatever stands
 * after it; an erofs always is, and an overlay without an upper directory. It makes no system call.
 *
 * @param mount the mount; a type such as "format/mkdir/overlay" counts by its last part.
 * @returns true if it can't be written to.
 *
 * @example
 * ```ts
 * import { isReadonly } from "@denomount/mount";
 *
 * if (!isReadonly({ type: "bind", source: "/usr", options: ["rbind", "ro"] })) throw new Error("it is");
 * ```
 */
export function isReadonly(mount: Mount): boolean {
  const type = lastPart(mount.type);
  if (type === "erofs") return true;
  const options = words(mount);
  if (options.some(isReadonlyWord)) return true;
  return type === "overlay" && !options.some((option) => option.startsWith("upperdir="));
}

function isReadonlyWord(option: string): boolean {
  return /^(ro|rro|ro=.*)$/.test(option);
}

/**
 * The same mounts, read-only: an overlay's upper directory becomes its topmost lower one, a recursive bind gets `rro`,
 * which counts for the mounts below too, and everything else gets `ro`. It makes no system call.
 *
 * An overlay's lower layers keep their id maps, and its former upper layer, which holds the ids that the container has
 * written, is not mapped: `X-denomount.unmapped=` says so.
 *
 * @param mounts the mounts; they are not changed.
 * @returns new mounts.
 *
 * @example
 * ```ts
 * import { readonlyMounts } from "@denomount/mount";
 *
 * const [overlay] = readonlyMounts([
 *   { type: "overlay", source: "overlay", options: ["lowerdir=/l", "upperdir=/u", "workdir=/w"] },
 * ]);
 * console.log(overlay?.options); // [ "lowerdir=/u:/l" ]
 * ```
 */
export function readonlyMounts(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => {
    const options = words(mount);
    if (lastPart(mount.type) === "overlay") return { ...mount, options: readonlyOverlay(options) };
    const rest = options.filter((option) => !/^r?r[ow](=.*)?$/.test(option));
    return { ...mount, options: [...rest, options.includes("rbind") ? "rro" : "ro"] };
  });
}

function readonlyOverlay(options: readonly string[]): string[] {
  const upper = options.findLast((option) => option.startsWith("upperdir="))?.slice("upperdir=".length);
  // Those about the upper directory are refused by the kernel without one.
  const rest = options.filter((option) => !isVolatile(option) && !/^(upperdir|workdir)=/.test(option));
  if (upper === undefined) return rest;
  const layer = unescapeLayer(upper);
  // A later lowerdir= replaces what is before it.
  const last = rest.findLastIndex((option) => option.startsWith("lowerdir="));
  const top = last >= 0 ? last : rest.findIndex((option) => option.startsWith("lowerdir+="));
  const changed = rest.flatMap((option, index) => {
    if (index !== top) return [option];
    if (option.startsWith("lowerdir+=")) return [`lowerdir+=${layer}`, option];
    // In upperdir a colon is a colon; in lowerdir it separates two directories.
    return [`lowerdir=${escapeLayer(layer)}:${option.slice("lowerdir=".length)}`];
  });
  return options.some(isIdMapWord) ? [...changed, `X-denomount.unmapped=${escapeDirectory(layer)}`] : changed;
}

function isIdMapWord(option: string): boolean {
  return isIdMap(option) || option.startsWith("X-mount.idmap=");
}

function isAboutIdMaps(option: string): boolean {
  return isIdMapWord(option) || /^(r?idmap$|X-denomount\.unmapped=)/.test(option);
}

function isVolatile(option: string): boolean {
  return option === "volatile" || option === "fsync=volatile";
}

/**
 * The same mounts without overlay's options `volatile` and `fsync=volatile`. It makes no system call.
 *
 * @param mounts the mounts; they are not changed.
 * @returns new mounts.
 *
 * @example
 * ```ts
 * import { removeVolatileOption } from "@denomount/mount";
 *
 * removeVolatileOption([{ type: "overlay", source: "overlay", options: ["lowerdir=/l", "volatile"] }]);
 * ```
 */
export function removeVolatileOption(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) =>
    lastPart(mount.type) === "overlay" ? without(mount, isVolatile) : { ...mount }
  );
}

/**
 * The same mounts without id maps: without `uidmap=`, `gidmap=`, `X-mount.idmap=`, and the words `idmap`, `ridmap` and
 * `X-denomount.unmapped=`, which only stand beside them. It makes no system call.
 *
 * @param mounts the mounts; they are not changed.
 * @returns new mounts.
 *
 * @example
 * ```ts
 * import { removeIdMapOption } from "@denomount/mount";
 *
 * removeIdMapOption([{ type: "bind", source: "/srv", options: ["bind", "uidmap=0:100000:65536"] }]);
 * ```
 */
export function removeIdMapOption(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => without(mount, isAboutIdMaps));
}

/** Entries without an unwanted word stay as they are written. */
function without(mount: Mount, unwanted: (option: string) => boolean): Mount {
  if (!mount.options) return { ...mount };
  const options = mount.options.flatMap((entry) => {
    const split = splitOptions(entry);
    return split.some(unwanted) ? split.filter((option) => !unwanted(option)) : [entry];
  });
  return { ...mount, options };
}

/**
 * The mountpoint of a mount below the target.
 *
 * @param target the mount's target.
 * @returns a normalized path that begins with a slash.
 */
export function subpathOf(target: string | null | undefined): string {
  if (!target || target === "/") return "/";
  const subpath = join("/", target);
  return subpath.length > 1 && subpath.endsWith("/") ? subpath.slice(0, -1) : subpath;
}
