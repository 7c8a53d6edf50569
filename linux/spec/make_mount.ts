/**
 * Mounts from plain values: the functions write the options, with the escapes that the kernel and this library's option
 * lists need. None of them makes a system call.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import type { Mount } from "./mount.ts";
import { escapeDirectory, escapeLayer } from "./overlay_options.ts";
import { readSize } from "./size.ts";

/** What any mount can be told. */
export interface MountSpec {
  /** The mountpoint below the target of the call; the target itself if left out. */
  target?: string | undefined;
  /** Whether it is read-only; a recursive bind is then, with the mounts below it. */
  readonly?: boolean | undefined;
  /** Set-user-ID and file capabilities have no effect. */
  nosuid?: boolean | undefined;
  /** Device nodes can't be opened. */
  nodev?: boolean | undefined;
  /** Programs can't be executed. */
  noexec?: boolean | undefined;
  /** Id ranges as container:host:size, further ones after commas; the group ids are as the user ids if left out. */
  idMap?: { uid: string; gid?: string } | undefined;
  /** Further options, which come last. */
  options?: readonly string[] | undefined;
}

/** An overlay. */
export interface OverlaySpec extends MountSpec {
  /** The lower directories, the topmost first. */
  lower: readonly string[];
  /** Data-only lower directories, below the others. */
  dataOnly?: readonly string[] | undefined;
  /** The upper directory, to which changes are written. Without one, the overlay is read-only. */
  upper?: string | undefined;
  /** An empty directory on the file system of the upper directory. */
  work?: string | undefined;
}

/** A bind mount. */
export interface BindSpec extends MountSpec {
  /** The directory or file. */
  source: string;
  /** Whether the mounts below the source are bound too; true if left out. */
  recursive?: boolean | undefined;
}

/** A tmpfs. */
export interface TmpfsSpec extends MountSpec {
  /** The name that the mount table shows; "tmpfs" if left out. */
  source?: string | undefined;
  /** Its size in bytes, or as "64M" or "50%" of the memory; half of the memory if left out, unlimited if 0. */
  size?: number | string | undefined;
  /** How many inodes it has at most. */
  inodes?: number | undefined;
  /** The mode of its root directory, such as 0o700; 0o1777 if left out. */
  mode?: number | undefined;
  /** The owner of its root directory. */
  uid?: number | undefined;
  /** The group of its root directory. */
  gid?: number | undefined;
}

/** An image file with a file system. */
export interface ImageSpec extends MountSpec {
  /** The image file. */
  source: string;
  /** The type of its file system, such as "ext4"; `probe()` finds it out. */
  type: string;
  /** Where the file system begins, in bytes. */
  offset?: number | undefined;
  /** How much of the file it takes, in bytes. */
  size?: number | undefined;
}

/**
 * Describes an overlay. Any path will do: commas, colons, quotes and backslashes are escaped.
 *
 * @param spec its layers.
 * @returns the mount.
 * @throws {TypeError} for an empty list, an empty path, or an upper directory without a work directory.
 *
 * @example
 * ```ts
 * import { overlay } from "@denomount/mount";
 *
 * console.log(overlay({ lower: ["/a:b", "/usr"], upper: "/up,1", work: "/work" }).options);
 * // [ "lowerdir=/a\\:b:/usr", "upperdir=/up\\,1", "workdir=/work" ]
 * ```
 */
export function overlay(spec: OverlaySpec): Mount {
  const { lower, dataOnly = [], upper, work } = spec;
  for (const path of [...lower, ...dataOnly, upper, work]) {
    if (path === "") throw new TypeError("a directory of an overlay has no name");
  }
  if (lower.length === 0) throw new TypeError("an overlay needs a lower directory");
  if ((upper === undefined) !== (work === undefined)) {
    throw new TypeError("an upper directory needs a work directory, and a work directory an upper one");
  }
  const data = dataOnly.map((path) => `::${escapeLayer(path)}`).join("");
  return finish("overlay", "overlay", spec, [
    `lowerdir=${lower.map(escapeLayer).join(":")}${data}`,
    ...upper === undefined ? [] : [`upperdir=${escapeDirectory(upper)}`],
    ...work === undefined ? [] : [`workdir=${escapeDirectory(work)}`],
  ]);
}

/**
 * Describes a bind mount.
 *
 * @param spec its source.
 * @returns the mount.
 * @throws {TypeError} for an empty source.
 *
 * @example
 * ```ts
 * import { bind } from "@denomount/mount";
 *
 * console.log(bind({ source: "/srv", target: "/data", readonly: true }));
 * // { type: "bind", source: "/srv", target: "/data", options: [ "rbind", "rro" ] }
 * ```
 */
export function bind(spec: BindSpec): Mount {
  const { source, recursive = true } = spec;
  if (source === "") throw new TypeError("a bind needs a source");
  return finish("bind", source, spec, [recursive ? "rbind" : "bind"], recursive ? "rro" : "ro");
}

/**
 * Describes a tmpfs, a file system in memory.
 *
 * @param spec its size and its root directory.
 * @returns the mount.
 * @throws {TypeError} for what is no size, mode or id.
 *
 * @example
 * ```ts
 * import { tmpfs } from "@denomount/mount";
 *
 * console.log(tmpfs({ size: 64 * 1024 ** 2, mode: 0o700 }).options); // [ "size=67108864", "mode=0700" ]
 * ```
 */
export function tmpfs(spec: TmpfsSpec = {}): Mount {
  const { source = "tmpfs", size, inodes, mode, uid, gid } = spec;
  if (typeof size === "string" && !/^\d+([kmg%]?)$/i.test(size)) throw wrong("size", size);
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0 && mode <= 0o7777)) {
    throw wrong("mode", mode);
  }
  for (const [name, value] of Object.entries({ size, inodes, uid, gid })) {
    if (typeof value === "number" && !(Number.isSafeInteger(value) && value >= 0)) throw wrong(name, value);
  }
  const values = Object.entries({ size, nr_inodes: inodes, uid, gid }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`]
  );
  const octal = mode === undefined ? [] : [`mode=0${mode.toString(8)}`];
  return finish("tmpfs", source, spec, [...values, ...octal]);
}

/**
 * Describes an image file that is mounted through a loop device.
 *
 * @param spec the file, its type, and which part of it.
 * @returns the mount.
 * @throws {TypeError} for an empty source or type, and for what is no number of bytes.
 *
 * @example
 * ```ts
 * import { image } from "@denomount/mount";
 *
 * console.log(image({ source: "/srv/root.img", type: "ext4", readonly: true }).options); // [ "loop", "ro" ]
 * ```
 */
export function image(spec: ImageSpec): Mount {
  const { source, type, offset, size } = spec;
  if (source === "" || type === "") throw new TypeError("an image needs a source and a type");
  for (const [name, value] of Object.entries({ offset, size })) {
    if (value !== undefined && readSize(`${value}`) === undefined) throw wrong(name, value);
  }
  return finish(type, source, spec, [
    "loop",
    ...offset === undefined ? [] : [`offset=${offset}`],
    ...size === undefined ? [] : [`sizelimit=${size}`],
  ]);
}

function finish(type: string, source: string, spec: MountSpec, own: string[], ro = "ro"): Mount {
  const { target, readonly, idMap, options = [] } = spec;
  const flags = (["nosuid", "nodev", "noexec"] as const).filter((name) => spec[name]);
  const maps = idMap === undefined ? [] : [`uidmap=${idMap.uid}`, `gidmap=${idMap.gid ?? idMap.uid}`];
  return {
    type,
    source,
    ...target === undefined ? {} : { target },
    options: [...own, ...readonly ? [ro] : [], ...flags, ...maps, ...options],
  };
}

function wrong(name: string, value: unknown): TypeError {
  return new TypeError(`"${name}" can't be ${quote(String(value))}`);
}
