/**
 * The mount as data, in containerd's shape, and what can be done to a list of them without a system call. None of
 * these functions changes what it is given.
 *
 * @module
 */

import { isIdMap, splitOptions } from "./options.ts";
import { escapeLayer, unescapeLayer } from "./overlay_options.ts";
import { join } from "../path/path.ts";

/** One mount: a system call written down. containerd's JSON loads into it. */
export interface Mount {
  /** The file system's type, "bind", or `fuse.X`/`fuse3.X` for a FUSE helper. */
  type: string;
  /** The device, directory or name that is mounted. */
  source: string;
  /** Where, below the target of the call; the target itself if left out. */
  target?: string;
  /** fstab-style options, one to an entry. */
  options?: readonly string[];
}

/**
 * Whether a mount can't be written to.
 *
 * @param mount the mount.
 * @returns true where its last word is `ro` or `rro`, or where it is an overlay without an upper directory.
 *
 * @example
 * ```ts
 * import { isReadonly } from "@denomount/mount";
 *
 * if (!isReadonly({ type: "bind", source: "/usr", options: ["rbind", "ro"] })) throw new Error("it is");
 * ```
 */
export function isReadonly(mount: Mount): boolean {
  const options = (mount.options ?? []).flatMap(splitOptions);
  const last = options.findLast((option) => option === "ro" || option === "rro" || option === "rw");
  if (last !== undefined && last !== "rw") return true;
  return mount.type === "overlay" && !options.some((option) => option.startsWith("upperdir="));
}

/**
 * The same mounts, read-only: an overlay's upper directory becomes its topmost lower one, everything else gets `ro`.
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
    const options = (mount.options ?? []).flatMap(splitOptions);
    if (mount.type === "overlay") return { ...mount, options: readonlyOverlay(options) };
    return { ...mount, options: [...options.filter((option) => option !== "ro" && option !== "rw"), "ro"] };
  });
}

function readonlyOverlay(options: readonly string[]): string[] {
  const upper = options.findLast((option) => option.startsWith("upperdir="))?.slice("upperdir=".length);
  const writable = ["upperdir=", "workdir="];
  // `volatile` is about the upper directory and refused by the kernel without one.
  const rest = options.filter((option) =>
    option !== "volatile" && !writable.some((key) => option.startsWith(key))
  );
  if (upper === undefined) return rest;
  const layer = unescapeLayer(upper);
  const first = rest.findIndex((option) => option.startsWith("lowerdir=") || option.startsWith("lowerdir+="));
  return rest.map((option, index) => {
    if (index !== first) return option;
    if (!option.startsWith("lowerdir=")) return option;
    // In upperdir a colon is a colon, among the lower directories it parts two of them.
    return `lowerdir=${escapeLayer(layer)}:${option.slice("lowerdir=".length)}`;
  }).flatMap((option, index) =>
    index === first && option.startsWith("lowerdir+=") ? [`lowerdir+=${layer}`, option] : [option]
  );
}

/**
 * The same mounts without overlay's `volatile` option.
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
    mount.type === "overlay" ? without(mount, (option) => option === "volatile") : { ...mount }
  );
}

/**
 * The same mounts without `uidmap=` and `gidmap=`.
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
  return mounts.map((mount) => without(mount, isIdMap));
}

function without(mount: Mount, unwanted: (option: string) => boolean): Mount {
  if (mount.options === undefined) return { ...mount };
  return { ...mount, options: mount.options.flatMap(splitOptions).filter((option) => !unwanted(option)) };
}

/**
 * The place of a mount below the target.
 *
 * @param mount the mount.
 * @returns a normalized path that begins with a slash.
 */
export function subpathOf(mount: Mount): string {
  if (mount.target === undefined) return "/";
  const inside = join("/", mount.target);
  return inside.length > 1 && inside.endsWith("/") ? inside.slice(0, -1) : inside;
}

/** An item among the others, with its neighbours: from either side, the list goes round. */
interface Link<T> {
  item?: T;
  before: Link<T>;
  after: Link<T>;
}

/**
 * Puts parents before children and leaves the order as it is otherwise.
 *
 * @param items what has a place.
 * @returns the same in their order.
 */
export function parentsFirst<T extends { subpath: string }>(items: readonly T[]): T[] {
  if (items.length < 2) return [...items];
  const firstBelow = new Map<string, Link<T>>();
  const end = {} as Link<T>;
  end.before = end.after = end;
  for (const item of items) {
    const child = firstBelow.get(item.subpath);
    const after = child ?? end;
    const link: Link<T> = { item, before: after.before, after };
    link.before.after = link.after.before = link;
    // Above a directory that has an earlier item below it, all have.
    let directory = parentOf(item.subpath);
    while (directory !== undefined && firstBelow.get(directory) === child) {
      firstBelow.set(directory, link);
      directory = parentOf(directory);
    }
  }
  const ordered: T[] = [];
  for (let { item, after } = end.after; item !== undefined; { item, after } = after) ordered.push(item);
  return ordered;
}

function parentOf(path: string): string | undefined {
  return path === "/" ? undefined : path.slice(0, path.lastIndexOf("/")) || "/";
}
