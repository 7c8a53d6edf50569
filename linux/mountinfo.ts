/**
 * The mount table: parse, filter, list.
 *
 * @module
 */

import { O_RDONLY } from "./constants.ts";
import { open, readAll } from "./syscalls.ts";

/** One line of /proc/PID/mountinfo, see proc_pid_mountinfo(5). */
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
 * The mounts of this process's mount namespace, or of another's.
 *
 * @param options a filter, and the process (its pid) whose table is read.
 * @returns the mounts in the kernel's order.
 * @throws {SyscallError} ENOENT where there is no such process, EACCES where it may not be looked at.
 *
 * Needs the permission `ffi`.
 *
 * @example
 * ```ts
 * import { fsTypeFilter, listMounts } from "@denomount/mount";
 *
 * for (const mount of await listMounts({ filter: fsTypeFilter("proc") })) console.log(mount.mountpoint);
 * ```
 */
// deno-lint-ignore require-await
export async function listMounts(options: { filter?: MountFilter; pid?: number } = {}): Promise<MountInfo[]> {
  const { filter, pid } = options;
  if (pid !== undefined && (!Number.isSafeInteger(pid) || pid <= 0)) {
    throw new TypeError(`a pid is a positive whole number, not ${pid}`);
  }
  using table = open(`/proc/${pid ?? "self"}/mountinfo`, O_RDONLY);
  return parseMountInfo(new TextDecoder().decode(readAll(table.fd)), filter);
}

/**
 * Reads the text of a mountinfo file.
 *
 * @param text lines as in /proc/self/mountinfo.
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
export function parseMountInfo(text: string, filter?: MountFilter): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (let at = 0, number = 1; at < text.length; number++) {
    const end = text.indexOf("\n", at);
    const line = text.slice(at, end < 0 ? text.length : end);
    at = end < 0 ? text.length : end + 1;
    if (line === "") continue;
    const info = parseLine(line, number);
    const { skip = false, stop = false } = filter?.(info) ?? {};
    if (!skip) mounts.push(info);
    if (stop) break;
  }
  return mounts;
}

// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
// (1)(2)(3)  (4)   (5)   (6)        (7)    (8) (9)  (10)      (11)
// id, parent, device, root, mountpoint, options, any number of optional fields, "-", type, source, super options
function parseLine(line: string, number: number): MountInfo {
  const fields = line.split(" ");
  const dash = fields.indexOf("-", 6);
  const [id, parent, device, root, mountpoint, options] = fields;
  const [fsType, source, ...vfsOptions] = dash < 0 ? [] : fields.slice(dash + 1);
  const [major, minor] = (device ?? "").split(":");
  const numbers = [id, parent, major, minor].map((field) => /^\d+$/.test(field ?? "") ? Number(field) : NaN);
  if (numbers.some(Number.isNaN) || !root || !mountpoint || !options || !fsType || source === undefined) {
    throw new TypeError(`line ${number} is none of mountinfo's: ${JSON.stringify(line.slice(0, 200))}`);
  }
  const [idNumber = 0, parentNumber = 0, majorNumber = 0, minorNumber = 0] = numbers;
  return {
    id: idNumber,
    parent: parentNumber,
    major: majorNumber,
    minor: minorNumber,
    root: unescape(root),
    mountpoint: unescape(mountpoint),
    options,
    optional: fields.slice(6, dash).join(" "),
    fsType: unescape(fsType),
    source: unescape(source),
    vfsOptions: vfsOptions.join(" "),
  };
}

const decoder = new TextDecoder();

/** The kernel writes space, tab, newline, backslash and "#" as `\040` and so on, byte by byte. */
function unescape(text: string): string {
  if (!text.includes("\\")) return text;
  return text.replace(/(?:\\[0-3][0-7]{2})+/g, (octal) => {
    const bytes = octal.slice(1).split("\\").map((digits) => parseInt(digits, 8));
    return decoder.decode(Uint8Array.from(bytes));
  });
}

/**
 * Takes the mounts at a path and below it.
 *
 * @param prefix a canonical path.
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { listMounts, prefixFilter } from "@denomount/mount";
 *
 * console.log((await listMounts({ filter: prefixFilter("/proc") })).length);
 * ```
 */
export function prefixFilter(prefix: string): MountFilter {
  const below = prefix.endsWith("/") ? prefix : prefix + "/";
  const at = below === "/" ? "/" : below.slice(0, -1);
  return ({ mountpoint }) => ({ skip: mountpoint !== at && !mountpoint.startsWith(below) });
}

/**
 * Takes the mounts that a path is on: those at it and at each of its parent directories.
 *
 * @param path a canonical path.
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { listMounts, parentsFilter } from "@denomount/mount";
 *
 * console.log(await listMounts({ filter: parentsFilter("/proc/self") }));
 * ```
 */
export function parentsFilter(path: string): MountFilter {
  const inside = path.endsWith("/") ? path : path + "/";
  return ({ mountpoint }) => ({
    skip: !inside.startsWith(mountpoint.endsWith("/") ? mountpoint : mountpoint + "/"),
  });
}

/**
 * Takes the first mount at exactly this mountpoint, and reads no further.
 *
 * @param mountpoint a canonical path.
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { listMounts, singleEntryFilter } from "@denomount/mount";
 *
 * const [proc] = await listMounts({ filter: singleEntryFilter("/proc") });
 * ```
 */
export function singleEntryFilter(mountpoint: string): MountFilter {
  return (info) => info.mountpoint === mountpoint ? { stop: true } : { skip: true };
}

/**
 * Takes the mounts of some file systems.
 *
 * @param types their types, such as "overlay".
 * @returns the filter.
 *
 * @example
 * ```ts
 * import { fsTypeFilter, listMounts } from "@denomount/mount";
 *
 * console.log(await listMounts({ filter: fsTypeFilter("overlay", "tmpfs") }));
 * ```
 */
export function fsTypeFilter(...types: string[]): MountFilter {
  return ({ fsType }) => ({ skip: !types.includes(fsType) });
}
