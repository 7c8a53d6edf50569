/**
 * The changes that an upper directory holds.
 *
 * @module
 */

import { encodeName } from "../../../ffi/text.ts";
import { getxattr, readlinkat, type Statx } from "../../syscalls/mod.ts";
import { Lower, type LowerEntry } from "./lower.ts";
import { attributeNames, overlayPrefix, procPath, typeOf } from "./marks.ts";
import type { Change, PresentChange, ReadChangesOptions, Upper } from "./types.ts";
import { openUpper, type UpperEntry, walkUpper, withPath } from "./upper.ts";

/**
 * Reads the changes that an overlay's upper directory holds: from its whiteouts, opaque directories and files, not by
 * comparing contents. The overlay may be in use, or unmounted.
 *
 * A directory that the upper directory has only for what is in it is no change. A file that was opened for writing, or
 * whose mode or times were changed, is in the upper directory as a whole and "modified". Mount the overlay with
 * `metacopy=off,redirect_dir=off,index=off`.
 *
 * Needs the permission `ffi`, access to the files, and for an overlay without `userxattr` CAP_SYS_ADMIN.
 *
 * @param upper the upper directory: its path, or a descriptor.
 * @param options the lower layers, `userxattr`, the signal, and the timeout of a server in milliseconds.
 * @returns the changes, each directory before what is in it, names sorted.
 * @throws {SyscallError} for a directory that can't be read, with its path below the upper directory; ETIMEDOUT if the
 * server of a lower layer does not answer.
 * @throws {UnsupportedEntryError} for a directory that was renamed with `redirect_dir=on`.
 *
 * @example
 * ```ts
 * import { readChanges } from "@denomount/mount/sandbox";
 *
 * const upper = await Deno.makeTempDir(); // of an overlay
 * await Deno.writeTextFile(`${upper}/hostname`, "example");
 * for await (const { kind, path } of readChanges(upper, { lower: "/etc" })) {
 *   console.log(kind, path); // "modified hostname"
 * }
 * await Deno.remove(upper, { recursive: true });
 * ```
 */
export async function* readChanges(
  upper: Upper,
  options: ReadChangesOptions = {},
): AsyncGenerator<Change, void, void> {
  using root = await openUpper(upper, options);
  const prefix = overlayPrefix(options.userxattr);
  using lower = await Lower.open(options);
  for await (const entry of walkUpper(root.fd, options)) {
    if (entry.step === "leave") {
      if (entry.path !== "") lower?.leave();
      continue;
    }
    const below = await lower?.find(entry.name);
    const change = changeOf(entry, below, lower !== undefined, prefix);
    if (entry.type === "directory" && entry.path !== "") await lower?.enter(entry.name, entry.isOpaque);
    if (change) yield change;
  }
}

/** Undefined for what the overlay shows as the lower layers have it. */
function changeOf(
  entry: UpperEntry,
  below: LowerEntry | undefined,
  hasLower: boolean,
  prefix: string,
): Change | undefined {
  const path = entry.path || ".";
  if (entry.type === "whiteout") {
    if (hasLower && below === undefined) return undefined; // nothing is hidden
    return {
      kind: "removed",
      path,
      raw: encodeName(path),
      type: below && typeOf(below.stat.mode),
    };
  }
  const kind = kindOf(entry, below, prefix);
  return kind && describe(entry, kind, path);
}

function kindOf(
  entry: UpperEntry,
  below: LowerEntry | undefined,
  prefix: string,
): PresentChange["kind"] | undefined {
  if (below === undefined) return entry.path === "" ? undefined : "added";
  if (typeOf(below.stat.mode) !== entry.type) return "replaced";
  if (entry.type !== "directory") return "modified";
  if (entry.isOpaque && entry.path !== "") return "replaced";
  return hasSameMetadata(entry, below, prefix) ? undefined : "modified";
}

function hasSameMetadata({ stat, fd, path }: UpperEntry, below: LowerEntry, prefix: string): boolean {
  const fields: (keyof Statx)[] = ["mode", "uid", "gid"];
  if (fields.some((field) => stat[field] !== below.stat[field])) return false;
  if (path === "") return true; // who makes an upper directory may give it the lower one's mode and owner only
  const isOwn = (name: string) => !name.startsWith(prefix) && name !== "security.selinux";
  const names = withPath(path, () => attributeNames(fd)).filter(isOwn);
  if (names.length !== [...below.attributes.keys()].filter(isOwn).length) return false;
  return names.every((name) => {
    const value = below.attributes.get(name);
    return value && value.toHex() === withPath(path, () => getxattr(procPath(fd), name)).toHex();
  });
}

function describe({ stat, type, fd }: UpperEntry, kind: PresentChange["kind"], path: string): PresentChange {
  if (type === "whiteout") throw new TypeError("a whiteout has no content");
  return {
    kind,
    path,
    raw: encodeName(path),
    type,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    size: type === "file" || type === "symlink" ? stat.size : 0,
    mtime: new Date(stat.mtime * 1000 + Math.floor(stat.mtimeNsec / 1e6)),
    ...type === "symlink" ? { target: readlinkat(fd, "") } : {},
    ...type === "char" || type === "block" ? { device: [stat.rdevMajor, stat.rdevMinor] as const } : {},
  };
}
