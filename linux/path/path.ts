/**
 * Paths: the few functions of std's path that are needed, from one pinned place, and the two that must ask the
 * kernel.
 *
 * @module
 */

// An https import sees no import map, so the one run-time dependency is named here, in full.
// deno-lint-ignore no-import-prefix
import { dirname as stdDirname } from "npm:deno-std@1.4.0/path/posix/dirname.js";
// deno-lint-ignore no-import-prefix
import { join as stdJoin } from "npm:deno-std@1.4.0/path/posix/join.js";

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { errnoNumber } from "../../ffi/errno.ts";
import { readlink, realpath } from "../syscalls/mod.ts";

/** The directory that a path is in. */
export const dirname: (path: string) => string = stdDirname;

/**
 * Joins paths and takes out `.`, `..` and doubled slashes, without looking at the file system.
 *
 * @param paths the paths.
 * @returns the one path.
 * @throws {TypeError} for a path that is longer than the kernel takes: std needs quadratic time for some of these.
 */
export function join(...paths: string[]): string {
  for (const { length } of paths) {
    if (length >= PATH_MAX) {
      throw new TypeError(`a path of ${length} characters: the kernel takes ${PATH_MAX - 1} bytes`);
    }
  }
  return stdJoin(...paths);
}

/**
 * The same without a slash at the end, for paths of which most need nothing taken out.
 *
 * @param path an absolute path.
 * @param inside what is joined to it: "", or a path that begins with a slash.
 * @returns the one path.
 */
export function joinPlain(path: string, inside = ""): string {
  const all = path + inside;
  if (!ODD.test(all)) return all;
  const joined = join(all);
  return joined.length > 1 && joined.endsWith("/") ? joined.slice(0, -1) : joined;
}

const ODD = /\/\.?(\/|$)/; // a doubled slash, a "." or a slash at the end
const PATH_MAX = 4096; // linux/limits.h
const MAXSYMLINKS = 40; // the kernel's own bound, linux/namei.h

/**
 * The absolute path without symbolic links, `.` and `..`.
 *
 * Needs the permission `ffi`.
 *
 * @param path a path that exists.
 * @returns the canonical path.
 * @throws {SyscallError} ENOENT where it does not exist, ELOOP where symbolic links lead in a circle.
 *
 * @example
 * ```ts
 * import { canonicalizePath } from "@denomount/mount";
 *
 * console.log(await canonicalizePath("/proc/self/root/usr")); // "/usr"
 * ```
 */
export function canonicalizePath(path: string): Promise<string> {
  return promised(() => realpath(path));
}

/**
 * A path inside a root directory, as a process whose root that is would see it: no symbolic link and no `..` leads
 * out. What does not exist is taken as it is written.
 *
 * Needs the permission `ffi`. Between this answer and its use another process can put a symbolic link in its place;
 * `mount` is not open to that, because it holds the target's descriptor.
 *
 * @param root the directory that is taken as the root; it must exist.
 * @param path the path inside it.
 * @returns the path from outside.
 * @throws {SyscallError} ENOENT where the root does not exist, ELOOP for over 40 symbolic links.
 *
 * @example
 * ```ts
 * import { rootPath } from "@denomount/mount";
 *
 * console.log(await rootPath("/usr", "../../etc")); // "/usr/etc"
 * ```
 */
export function rootPath(root: string, path: string): Promise<string> {
  return promised(() => resolveInRoot(realpath(root), path));
}

/**
 * The walk behind {@linkcode rootPath}, by hand: for kernels without openat2(2), and for what does not exist yet.
 *
 * @param root the root directory's canonical path.
 * @param path the path inside it.
 * @returns the path from outside.
 */
export function resolveInRoot(root: string, path: string): string {
  const rest = join(path).length > 0 ? path.split("/").reverse() : [];
  let inside: string[] = [];
  let links = 0;
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (part === "" || part === ".") continue;
    if (part === "..") {
      inside.pop();
      continue;
    }
    const link = linkText(join(root, ...inside, part));
    if (link === undefined) {
      inside.push(part);
      continue;
    }
    if (++links > MAXSYMLINKS) {
      throw new SyscallError({ syscall: "readlink", errno: errnoNumber("ELOOP"), path: join(root, path) });
    }
    if (link.startsWith("/")) inside = [];
    rest.push(...link.split("/").reverse());
  }
  return join(root, ...inside);
}

function linkText(path: string): string | undefined {
  try {
    return readlink(path);
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENOENT", "ENOTDIR")) return undefined; // no link, or nothing there
    throw error;
  }
}

/** A quick call as a promise: its error rejects instead of being thrown at the caller. */
// deno-lint-ignore require-await
async function promised<T>(call: () => T): Promise<T> {
  return call();
}

/**
 * The deepest directory that all paths are in or are.
 *
 * @param paths absolute, normalized paths.
 * @returns the directory.
 */
export function commonDirectory(paths: readonly string[]): string {
  let [common = "/"] = paths;
  let below = common + "/";
  for (const path of paths) {
    while (common !== "/" && !path.startsWith(below) && path !== common) {
      common = dirname(common);
      below = common + "/";
    }
  }
  return common;
}
