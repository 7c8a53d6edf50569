/**
 * The parser of mountinfo files.
 *
 * @module
 */

import { decodeName, quote, unescapeOctal } from "../../ffi/text.ts";

/**
 * A mount: one line of /proc/PID/mountinfo, see proc_pid_mountinfo(5).
 *
 * In a name that is not UTF-8, each byte that cannot be decoded is a lone surrogate, U+DC80 to U+DCFF, as in Python (PEP
 * 383). `isWellFormed()` is false for such a name. Two names never have the same text, and every function of this library
 * takes the text as a path. Deno's own functions do not.
 */
export interface MountInfo {
  /** The mount's id. */
  id: number;
  /** The parent mount's id. */
  parent: number;
  /** Major number of the file system's device. */
  major: number;
  /** Minor number of the file system's device. */
  minor: number;
  /** The path in the file system that is the root of the mount; "/" unless it is a bind mount. */
  root: string;
  /** The mountpoint, as a path from the process's root. */
  mountpoint: string;
  /** The options of this mount, such as "rw,nosuid". */
  options: string;
  /**
   * The optional fields: propagation, such as "shared:1 master:2"; "" for a private mount. `propagate_from:N` is in it only
   * if it is asked for: the kernel looks for it among all peers of the mount, for each mount.
   */
  optional: string;
  /** The file system's type, with a subtype after a dot, such as "fuse.sshfs". */
  fsType: string;
  /** The source, such as a device. */
  source: string;
  /** The options of the file system (superblock), which all its mounts share. */
  vfsOptions: string;
  /**
   * The user ids that an id-mapped mount shows, as `container:host:size`, separated by commas: those of the mount, and of
   * the files. From Linux 6.15; else `options` has "idmapped".
   */
  uidmap?: string;
  /** The same for group ids. */
  gidmap?: string;
}

/**
 * Selects mounts while the table is read.
 *
 * @param info a mount.
 * @returns `skip` to leave it out, `stop` to end the reading after it.
 */
export type MountFilter = (info: MountInfo) => { skip?: boolean; stop?: boolean };

/**
 * Parses the content of a mountinfo file.
 *
 * @param table the content; bytes if names may not be UTF-8.
 * @param filter selects mounts.
 * @returns the mounts, in the order of the file.
 * @throws {TypeError} for a line that is not in the format of mountinfo, with its number.
 *
 * @example
 * ```ts
 * import { parseMountInfo } from "@denomount/mount";
 *
 * const [mount] = parseMountInfo("36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue\n");
 * console.log(mount?.source); // "/dev/sda1"
 * ```
 */
export function parseMountInfo(table: string | Uint8Array, filter?: MountFilter): MountInfo[] {
  const parser = new MountinfoParser(filter);
  for (const text of typeof table === "string" ? [table] : pieces(table)) if (parser.parse(text)) break;
  return parser.mounts;
}

/** An id-mapped mount of mountinfo, and the number of mounts before it. */
export interface MappedLine {
  /** The mount. */
  readonly mount: MountInfo;
  /** The number of mounts before it. */
  readonly index: number;
}

/** Parses a table piece by piece. */
export class MountinfoParser {
  /** The mounts that the filter selects. */
  readonly mounts: MountInfo[] = [];
  /** Those of them that are id-mapped. */
  readonly mapped: MappedLine[] = [];
  /** The number of lines so far. */
  lines = 0;
  /** The number of those with a master. */
  slaves = 0;
  readonly #filter: MountFilter | undefined;
  readonly #line = new Line();

  /**
   * Begins a table.
   *
   * @param filter selects mounts.
   */
  constructor(filter?: MountFilter) {
    this.#filter = filter;
  }

  /**
   * Parses whole lines.
   *
   * @param text the lines.
   * @param before gets each mount before the filter does.
   * @returns whether the filter ends the reading.
   * @throws {TypeError} for a line that is not in the format of mountinfo, with its number.
   */
  parse(text: string, before?: (info: MountInfo) => void): boolean {
    this.#line.begin(text);
    const line = this.#line;
    for (let at = 0; at < text.length;) {
      const end = line.split(at);
      this.lines++;
      if (end > at) {
        const info = line.read(this.lines);
        if (info.optional.includes("master:")) this.slaves++;
        before?.(info);
        const selected = this.mounts.length;
        const isLast = this.select(info);
        if (this.mounts.length > selected && info.options.endsWith("idmapped")) {
          this.mapped.push({ mount: info, index: this.lines - 1 });
        }
        if (isLast) return true;
      }
      at = end + 1;
    }
    return false;
  }

  /**
   * Takes a mount, if the filter selects it.
   *
   * @param info the mount.
   * @returns whether the filter ends the reading.
   */
  select(info: MountInfo): boolean {
    const verdict = this.#filter?.(info);
    if (!verdict?.skip) this.mounts.push(info);
    return verdict?.stop === true;
  }
}

/**
 * Bytes. A field is a part of the text that it was cut from, and keeps all of it: a mount that is kept must not keep the
 * whole table. Smaller pieces take longer.
 */
export const PIECE = 8192;

/**
 * The text of a table in pieces of whole lines.
 *
 * @param table the content of a mountinfo file.
 * @returns the pieces.
 */
export function* pieces(table: Uint8Array): Generator<string> {
  for (let at = 0; at < table.length;) {
    const newline = at + PIECE < table.length ? table.indexOf(NEWLINE, at + PIECE) : -1;
    const end = newline < 0 ? table.length : newline + 1;
    yield decodeName(table.subarray(at, end));
    at = end;
  }
}

// ASCII
const NEWLINE = 10;
const DASH = 45;
const ZERO = 48;

/**
 * A line of the table. It is split by indexOf() from space to space, without a look at each character: this is most of
 * the time to list ten thousand mounts, and the options of an overlay at the end of its line can be long.
 *
 *     36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *     (0)(1)(2)  (3)   (4)   (5)        (6…)     -  type source    super options
 *
 * id, parent, device, root, mountpoint, options, any number of optional fields, "-", type, source, super options
 */
class Line {
  #text = "";
  #escapes = false;
  /** The line before: most of its fields come again, and a string that is shared takes no memory. */
  #before: MountInfo | undefined;
  /** The index of each field's first character; after the last field, of the end of the line plus one. */
  readonly #starts: number[] = [];
  #fields = 0;
  #dash = -1; // the index of the field "-"

  /** Begins a piece of the table. */
  begin(text: string): void {
    this.#text = text;
    this.#escapes = text.includes("\\");
  }

  /** Splits the line that begins at an index into its fields; returns the index of its end. */
  split(at: number): number {
    const text = this.#text;
    const starts = this.#starts;
    const newline = text.indexOf("\n", at);
    const end = newline < 0 ? text.length : newline;
    let fields = 0;
    this.#dash = -1;
    starts[0] = at;
    // The super options are the last field, even if they contain a space.
    while (end > at && (this.#dash < 0 || fields < this.#dash + 3)) {
      const space = text.indexOf(" ", starts[fields]);
      if (space < 0 || space >= end) break;
      if (this.#dash < 0 && fields > 5 && isDash(text, starts[fields] ?? 0, space)) this.#dash = fields;
      starts[++fields] = space + 1;
    }
    starts[++fields] = end + 1;
    this.#fields = fields;
    return end;
  }

  /** The mount of the line. */
  read(number: number): MountInfo {
    const dash = this.#dash;
    const id = this.#number(this.#start(0), this.#end(0));
    const parent = this.#number(this.#start(1), this.#end(1));
    const colon = this.#text.indexOf(":", this.#start(2));
    const major = this.#number(this.#start(2), colon);
    const minor = this.#number(colon + 1, this.#end(2));
    if (id < 0 || parent < 0 || major < 0 || minor < 0 || dash < 0 || this.#fields < dash + 3) {
      throw this.#malformed(number);
    }
    const before = this.#before;
    const info: MountInfo = {
      id,
      parent,
      major,
      minor,
      root: this.#name(3, before?.root),
      mountpoint: this.#name(4),
      options: this.#slice(5, 5, before?.options),
      optional: dash > 6 ? this.#slice(6, dash - 1) : "",
      fsType: this.#name(dash + 1, before?.fsType),
      source: this.#name(dash + 2, before?.source),
      vfsOptions: this.#fields > dash + 3 ? this.#slice(dash + 3, this.#fields - 1, before?.vfsOptions) : "",
    };
    this.#before = info;
    if (!info.root || !info.mountpoint || !info.options || !info.fsType) throw this.#malformed(number);
    return info;
  }

  #start(field: number): number {
    return this.#starts[field] ?? 0;
  }

  #end(field: number): number {
    return this.#start(field + 1) - 1;
  }

  #slice(first: number, last: number, before = ""): string {
    const start = this.#start(first);
    const end = this.#end(last);
    return end - start === before.length && before.length < SHARED && this.#text.startsWith(before, start)
      ? before
      : this.#text.slice(start, end);
  }

  #name(field: number, before?: string): string {
    const text = this.#slice(field, field, before);
    return this.#escapes ? unescapeOctal(text) : text;
  }

  /** Parses a decimal number; -1 if it is not one. */
  #number(start: number, end: number): number {
    if (end <= start || end - start > 15) return -1;
    let number = 0;
    for (let at = start; at < end; at++) {
      const digit = this.#text.charCodeAt(at) - ZERO;
      if (digit < 0 || digit > 9) return -1;
      number = number * 10 + digit;
    }
    return number;
  }

  #malformed(number: number): TypeError {
    const line = this.#text.slice(this.#start(0), this.#end(this.#fields - 1));
    return new TypeError(`line ${number} is not in the format of mountinfo: ${quote(line)}`);
  }
}

const SHARED = 64; // characters; comparing the options of an overlay takes longer than keeping them

function isDash(text: string, start: number, end: number): boolean {
  return end === start + 1 && text.charCodeAt(start) === DASH;
}
