/**
 * Paths: the functions of the standard library that are used here, from one pinned version, and path resolution by the
 * kernel.
 *
 * @module
 */

// An https import has no import map, so the only run-time dependency is imported here by its full specifier.
// deno-lint-ignore no-import-prefix
import { dirname as stdDirname } from "npm:deno-std@1.4.0/path/posix/dirname.js";
// deno-lint-ignore no-import-prefix
import { join as stdJoin } from "npm:deno-std@1.4.0/path/posix/join.js";

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  O_NOFOLLOW,
  O_PATH,
  S_IFLNK,
  S_IFMT,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { readlink, realpath, realpathOffThread, statx } from "../syscalls/mod.ts";
import { ensureAnswers, isCached, openCached, openMayWait } from "./cached_lookup.ts";
import { callOffThread, checkWait, type WaitOptions } from "./wait.ts";

/** The parent directory of a path, without looking at the file system. */
export const dirname: (path: string) => string = stdDirname;

/**
 * Joins paths and removes `.`, `..` and repeated slashes, without looking at the file system.
 *
 * @param paths the paths.
 * @returns the joined path.
 * @throws {TypeError} for a path longer than PATH_MAX: the standard library needs quadratic time for some of them.
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
 * The directories that a path leads through.
 *
 * @param path an absolute normalized path.
 * @returns their paths, the shortest first, without the path itself.
 */
export function directoriesAbove(path: string): string[] {
  const above = [...path.matchAll(/(?<=.)\//g)].map(({ index }) => path.slice(0, index));
  return path === "/" ? above : ["/", ...above];
}

/**
 * Whether a path is that of a directory, or of something below it.
 *
 * @param path an absolute path, normalized.
 * @param above the directory's.
 * @returns whether it is, by the paths alone.
 */
export function isAtOrBelow(path: string, above: string): boolean {
  return above === "/" || path === above || path.startsWith(`${above}/`);
}

/**
 * {@linkcode join} without a slash at the end, and quicker for a path that is already normalized.
 *
 * @param path an absolute path.
 * @param inside the path joined to it: "", or a path that begins with a slash.
 * @returns the joined path.
 * @throws {TypeError} as {@linkcode join} does.
 */
export function joinWithoutSlash(path: string, inside = ""): string {
  const whole = path + inside;
  if (!UNNORMALIZED.test(whole)) return whole;
  const joined = join(whole);
  return joined.length > 1 && joined.endsWith("/") ? joined.slice(0, -1) : joined;
}

const UNNORMALIZED = /\/\.?(\/|$)/; // a repeated slash, a "." component or a slash at the end
const PATH_MAX = 4096; // linux/limits.h
const MAXSYMLINKS = 40; // linux/namei.h

/**
 * The absolute path without symbolic links, `.` and `..`.
 *
 * Needs the permission `ffi`.
 *
 * @param path a path that exists.
 * @param wait the timeout and the signal for a server on the path.
 * @returns the canonical path.
 * @throws {SyscallError} ENOENT if it does not exist, ELOOP for more than 40 symbolic links, ETIMEDOUT if a server on the
 * path does not answer.
 *
 * @example
 * ```ts
 * import { canonicalizePath } from "@denomount/mount";
 *
 * console.log(await canonicalizePath("/proc/self/root/usr")); // "/usr"
 * ```
 */
export async function canonicalizePath(path: string, wait: WaitOptions = {}): Promise<string> {
  checkWait(wait);
  if (isCached(path)) return realpath(path);
  const found = await callOffThread(() => realpathOffThread(path), wait, "realpath", path);
  if (found !== undefined) return found;
  try {
    (await openMayWait(path, O_PATH, wait)).close(); // fails with the errno that was lost on the other thread
  } catch (error) {
    if (!(error instanceof SyscallError) || error.code === "ETIMEDOUT") throw error;
    throw new SyscallError({ syscall: "realpath", errno: error.errno, path });
  }
  return realpath(path); // a magic link of /proc, which is no path, or a file that was created meanwhile
}

/**
 * Resolves a path inside a root directory, as for a process with this root directory: no symbolic link and no `..` leads
 * out of it. Components that do not exist are kept as written.
 *
 * Between this call and the use of its result, another process can replace a component by a symbolic link. `mount()`
 * holds a descriptor of its target and does not have this race.
 *
 * Needs the permission `ffi`.
 *
 * @param root the root directory; it must exist.
 * @param path the path inside it.
 * @param wait the timeout and the signal for a server on the path.
 * @returns the path seen from this process's root.
 * @throws {SyscallError} ENOENT if the root does not exist, ELOOP for more than 40 symbolic links, ETIMEDOUT if a server
 * on the path does not answer.
 *
 * @example
 * ```ts
 * import { rootPath } from "@denomount/mount";
 *
 * console.log(await rootPath("/usr", "../../etc")); // "/usr/etc"
 * ```
 */
export async function rootPath(root: string, path: string, wait: WaitOptions = {}): Promise<string> {
  return await pathInRoot(await canonicalizePath(root, wait), path, wait);
}

/**
 * Resolves a path inside a root directory, as {@linkcode rootPath} does.
 *
 * Needs the permission `ffi`.
 *
 * @param root the root directory's canonical path.
 * @param path the path inside it.
 * @param wait the timeout and the signal for a server on the path.
 * @returns the path seen from this process's root.
 * @throws {SyscallError} as {@linkcode rootPath} does.
 */
export async function pathInRoot(root: string, path: string, wait: WaitOptions): Promise<string> {
  if (path === "") return root;
  const steps = resolution(root, path);
  let step = steps.next();
  while (!step.done) {
    await ensureReadable(step.value, wait);
    step = steps.next(symlinkText(step.value));
  }
  return step.value;
}

/** Waits until readlink(2) does not wait for a server: for a path that is not cached, and for a link. */
async function ensureReadable(path: string, wait: WaitOptions): Promise<void> {
  const found = openCached(path, O_NOFOLLOW);
  if (found === "enoent") return;
  if (found instanceof OwnedFd) {
    using file = found;
    if ((statx(file.fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT) !== S_IFLNK) {
      return;
    }
  }
  await ensureAnswers(path, wait, AT_SYMLINK_NOFOLLOW);
}

/**
 * Resolves a path inside a root directory component by component, with readlink(2): for kernels without openat2(2), and
 * for paths that do not exist yet.
 *
 * Needs the permission `ffi`.
 *
 * @param root the root directory's canonical path.
 * @param path the path inside it.
 * @returns the path seen from this process's root.
 * @throws {SyscallError} ELOOP for more than 40 symbolic links.
 */
export function resolveInRoot(root: string, path: string): string {
  const steps = resolution(root, path);
  let step = steps.next();
  while (!step.done) step = steps.next(symlinkText(step.value));
  return step.value;
}

/**
 * Resolves a path inside a root directory as the kernel does, without a system call: the caller reads the links.
 *
 * @param root the root directory's canonical path.
 * @param path the path inside it.
 * @yields each path that may be a symbolic link, in the order of the lookup, and takes the link's target or undefined.
 * @returns the path without symbolic links.
 * @throws {SyscallError} ELOOP for more than 40 symbolic links.
 */
export function* resolution(root: string, path: string): Generator<string, string, string | undefined> {
  const rest = join(path).length > 0 ? path.split("/").reverse() : [];
  let inside: string[] = [];
  let links = 0;
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (part === "" || part === ".") continue;
    if (part === "..") {
      inside.pop();
      continue;
    }
    const link = yield join(root, ...inside, part);
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

function symlinkText(path: string): string | undefined {
  try {
    return readlink(path);
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENOENT", "ENOTDIR")) return undefined; // not a symbolic link, or missing
    throw error;
  }
}

/**
 * The deepest directory that contains all paths, or is one of them.
 *
 * @param paths absolute, normalized paths.
 * @returns the directory; "/" for an empty list.
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
