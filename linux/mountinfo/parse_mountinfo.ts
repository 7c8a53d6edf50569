/**
 * A mountinfo file as values.
 *
 * @module
 */

import { decodeName, quote, unescapeOctal } from "../../ffi/text.ts";

/**
 * One line of /proc/PID/mountinfo, see proc_pid_mountinfo(5).
 *
 * A name that is no UTF-8 has a lone surrogate, U+DC80 to U+DCFF, for each byte that is none, as in Python (PEP 383):
 * `isWellFormed()` tells, no two names look alike, and every function here takes them back as they are. Deno's own
 * functions do not.
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
  /** The directory of the file system that is mounted. */
  root: string;
  /** The mountpoint, seen from the process's root. */
  mountpoint: string;
  /** The mount's own options, such as "rw,nosuid". */
  options: string;
  /** Propagation, such as "shared:1 master:2"; "" for a private mount. */
  optional: string;
  /** The file system's type, with the subtype after a dot. */
  fsType: string;
  /** The source, such as a device. */
  source: string;
  /** The file system's options. */
  vfsOptions: string;
}

/**
 * A question asked of each mount while the table is read.
 *
 * @param info the mount.
 * @returns `skip` to leave it out, `stop` to read no further; with both false or absent it is taken.
 */
export type MountFilter = (info: MountInfo) => { skip?: boolean; stop?: boolean };

/**
 * Reads the text of a mountinfo file.
 *
 * @param table lines as in /proc/self/mountinfo; as bytes, where a name in them may be no UTF-8.
 * @param filter leaves mounts out, or ends the reading.
 * @returns the mounts in the text's order.
 * @throws {TypeError} for a line that is none of mountinfo's, with its number.
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
  const text = typeof table === "string" ? table : decodeName(table);
  const mounts: MountInfo[] = [];
  const line = new Line(text);
  for (let at = 0, number = 1; at < text.length; number++) {
    const end = line.split(at);
    if (end > at) {
      const info = line.read(number);
      const verdict = filter?.(info);
      if (!verdict?.skip) mounts.push(info);
      if (verdict?.stop) break;
    }
    at = end + 1;
  }
  return mounts;
}

// ASCII
const DASH = 45;
const ZERO = 48;

/**
 * A line of the table, split by jumps from space to space: with ten thousand mounts, that is what listing them costs, and
 * an overlay's options, which come last, can be longer than all the rest.
 *
 *     36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *     (0)(1)(2)  (3)   (4)   (5)        (6…)     -  type source    super options
 *
 * id, parent, device, root, mountpoint, options, any number of optional fields, "-", type, source, super options
 */
class Line {
  readonly #text: string;
  readonly #escapes: boolean;
  /** Where each field begins; after the last one, where the next would. */
  readonly #starts: number[] = [];
  #fields = 0;
  #dash = -1; // the field that is "-"

  constructor(text: string) {
    this.#text = text;
    this.#escapes = text.includes("\\");
  }

  /** Finds the fields of the line that begins here; returns its end. */
  split(at: number): number {
    const text = this.#text;
    const starts = this.#starts;
    const newline = text.indexOf("\n", at);
    const end = newline < 0 ? text.length : newline;
    let fields = 0;
    this.#dash = -1;
    starts[0] = at;
    // The super options are the last field, whatever is in them.
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

  /** What the fields say. */
  read(number: number): MountInfo {
    const dash = this.#dash;
    const id = this.#number(this.#start(0), this.#end(0));
    const parent = this.#number(this.#start(1), this.#end(1));
    const colon = this.#text.indexOf(":", this.#start(2));
    const major = this.#number(this.#start(2), colon);
    const minor = this.#number(colon + 1, this.#end(2));
    if (id < 0 || parent < 0 || major < 0 || minor < 0 || dash < 0 || this.#fields < dash + 3) {
      throw this.#refuse(number);
    }
    const info: MountInfo = {
      id,
      parent,
      major,
      minor,
      root: this.#name(3),
      mountpoint: this.#name(4),
      options: this.#slice(5, 5),
      optional: dash > 6 ? this.#slice(6, dash - 1) : "",
      fsType: this.#name(dash + 1),
      source: this.#name(dash + 2),
      vfsOptions: this.#fields > dash + 3 ? this.#slice(dash + 3, this.#fields - 1) : "",
    };
    if (!info.root || !info.mountpoint || !info.options || !info.fsType) throw this.#refuse(number);
    return info;
  }

  #start(field: number): number {
    return this.#starts[field] ?? 0;
  }

  #end(field: number): number {
    return this.#start(field + 1) - 1;
  }

  #slice(first: number, last: number): string {
    return this.#text.slice(this.#start(first), this.#end(last));
  }

  #name(field: number): string {
    const text = this.#slice(field, field);
    return this.#escapes ? unescapeOctal(text) : text;
  }

  /** A whole number; -1 where there is none. */
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

  #refuse(number: number): TypeError {
    const line = this.#text.slice(this.#start(0), this.#end(this.#fields - 1));
    return new TypeError(`line ${number} is none of mountinfo's: ${quote(line)}`);
  }
}

function isDash(text: string, start: number, end: number): boolean {
  return end === start + 1 && text.charCodeAt(start) === DASH;
}
