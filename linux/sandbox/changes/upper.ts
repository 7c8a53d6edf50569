/**
 * Walks an upper directory by descriptors: no link is followed, no mount is entered, and no path is too long. What the
 * command in the overlay renames or removes meanwhile is left out or seen at its new place.
 *
 * @module
 */

import { SyscallError } from "../../../ffi/errno.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import { openMayWait } from "../../path/cached_lookup.ts";
import { checkWait } from "../../path/wait.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY } from "../../syscalls/constants.ts";
import { getdents64Once, openat2, type Statx } from "../../syscalls/mod.ts";
import { DirectoryStack, RESOLVE_INSIDE } from "./directory_stack.ts";
import { directoryMarks, isGone, isWhiteout, lookAt, overlayPrefix, typeOf } from "./marks.ts";
import { UnsupportedEntryError } from "./error.ts";
import { Turns } from "./turns.ts";
import type { FileType, Upper, UpperOptions } from "./types.ts";

/** A file of an upper directory. */
export interface UpperEntry {
  /** Whether it is entered, or for a directory, left after everything in it. */
  readonly step: "enter" | "leave";
  /** The path below the upper directory; "" for that itself. */
  readonly path: string;
  /** The last name of the path. */
  readonly name: string;
  /** What it is; a whiteout hides a name of the lower directory. */
  readonly type: FileType | "whiteout";
  /** Whether a directory hides what the lower directory has under its path. */
  readonly isOpaque: boolean;
  /** Its fields. */
  readonly stat: Statx;
  /** A descriptor of it, which is closed at the next step: of a directory one to read, else O_PATH; -1 for "leave". */
  readonly fd: number;
}

/**
 * Opens an upper directory.
 *
 * @param upper its path, or a descriptor of it.
 * @param options the timeout and the signal.
 * @returns a descriptor of its own, which can be read.
 * @throws {SyscallError} ENOTDIR if it is no directory.
 */
export async function openUpper(upper: Upper, options: UpperOptions): Promise<OwnedFd> {
  checkWait(options);
  if (typeof upper === "string") return await openMayWait(upper, O_RDONLY | O_DIRECTORY, options);
  return openat2(upper.fd, ".", O_RDONLY | O_DIRECTORY, RESOLVE_INSIDE);
}

/** A directory of the walk, and its names that have not been visited. */
interface Level {
  readonly path: string;
  readonly entry: Omit<UpperEntry, "step" | "fd">;
  names: readonly string[];
  next: number;
  /** How many names were gone when they were visited. */
  gone: number;
  /** How often the names have been read. */
  reads: number;
}

const MOST_READS = 4; // of a directory whose files are renamed meanwhile

/**
 * Walks an upper directory: each directory before and after what is in it, names sorted.
 *
 * @param root a descriptor of the directory.
 * @param options how overlay's marks are named, and the signal.
 * @returns the steps of the walk.
 * @throws {SyscallError} for a file that can't be looked at, with its path below the upper directory.
 */
export async function* walkUpper(root: number, options: UpperOptions): AsyncGenerator<UpperEntry> {
  const prefix = overlayPrefix(options.userxattr);
  const turns = new Turns(options.signal);
  using directories = new DirectoryStack(
    openat2(root, ".", O_RDONLY | O_DIRECTORY, RESOLVE_INSIDE),
    O_RDONLY,
  );
  const levels: Level[] = [];
  const begin = async (entry: Omit<UpperEntry, "step" | "fd">): Promise<void> => {
    const names = await sortedNames(directories.fd, turns);
    levels.push({ path: entry.path, entry, names, next: 0, gone: 0, reads: 1 });
  };
  const first = describe(directories.fd, "", "", prefix);
  yield { step: "enter", fd: directories.fd, ...first };
  await begin(first);
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    if (turns.isOver) await turns.next();
    const name = level.names[level.next++];
    if (name === undefined) {
      if (await readAgain(level, directories, turns)) continue;
      levels.pop();
      yield { step: "leave", fd: -1, ...level.entry };
      if (directories.depth > 0) leaveDirectory(directories, levels);
      continue;
    }
    const path = level.path === "" ? name : `${level.path}/${name}`;
    using found = openEntry(directories.fd, name, path);
    const entry = found && withPath(path, () => describe(found.fd, path, name, prefix));
    if (entry === undefined || found === undefined) {
      level.gone++;
      continue;
    }
    const entered = entry.type !== "directory" || tryEnter(directories, name, entry);
    if (!entered) {
      level.gone++;
      continue;
    }
    yield { step: "enter", fd: entry.type === "directory" ? directories.fd : found.fd, ...entry };
    if (entry.type === "directory") await begin(entry);
  }
}

/** Reads names that a rename has brought into a directory, if others in it were gone. */
async function readAgain(level: Level, directories: DirectoryStack, turns: Turns): Promise<boolean> {
  if (level.gone === 0 || level.reads >= MOST_READS) return false;
  level.gone = 0;
  level.reads++;
  const known = new Set(level.names);
  using again = openat2(directories.fd, ".", O_RDONLY | O_DIRECTORY, RESOLVE_INSIDE);
  const added = (await sortedNames(again.fd, turns)).filter((name) => !known.has(name));
  level.names = [...level.names, ...added];
  level.next = level.names.length - added.length;
  return added.length > 0;
}

/** Goes back; leaves out the rest of directories that were moved away and can't be found again. */
function leaveDirectory(directories: DirectoryStack, levels: Level[]): void {
  try {
    directories.leave();
  } catch (error) {
    if (!isGone(error)) throw error;
    const level = levels.at(-1);
    if (level) level.next = level.names.length;
    if (level) level.reads = MOST_READS;
  }
}

function openEntry(dirfd: number, name: string, path: string): OwnedFd | undefined {
  return unlessGone(path, () => openat2(dirfd, name, O_PATH | O_NOFOLLOW, RESOLVE_INSIDE));
}

/** False if the directory is gone, or was replaced after it was opened. */
function tryEnter(directories: DirectoryStack, name: string, { path, stat }: { path: string; stat: Statx }) {
  return unlessGone(path, () => {
    directories.enter(name);
    if (lookAt(directories.fd).inode === stat.inode) return true;
    directories.leave();
    return false;
  }) ?? false;
}

function describe(fd: number, path: string, name: string, prefix: string): Omit<UpperEntry, "step" | "fd"> {
  const stat = lookAt(fd);
  const type = isWhiteout(fd, stat, prefix) ? "whiteout" : typeOf(stat.mode);
  if (type !== "directory") return { path, name, type, stat, isOpaque: false };
  const { isOpaque, isRedirected } = directoryMarks(fd, prefix);
  if (isRedirected) {
    throw new UnsupportedEntryError(path, "was renamed with redirect_dir=on: mount it with redirect_dir=off");
  }
  return { path, name, type, stat, isOpaque };
}

/**
 * Makes a call on a file of the upper directory.
 *
 * @param path the file's path, for the error.
 * @param call the call.
 * @returns its result; undefined if the file is gone.
 * @throws {SyscallError} with the path.
 */
export function unlessGone<T>(path: string, call: () => T): T | undefined {
  try {
    return withPath(path, call);
  } catch (error) {
    if (!isGone(error)) throw error;
    return undefined;
  }
}

/**
 * Makes a call by a descriptor, and puts the path of the file into its error.
 *
 * @param path the path.
 * @param call the call.
 * @returns its result.
 * @throws {SyscallError} with the path.
 */
export function withPath<T>(path: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new SyscallError({ syscall: error.syscall, errno: error.errno, path: path || "." });
  }
}

/** The names in a directory. They are sorted in parts: sorting a million at once would hold the event loop. */
async function sortedNames(fd: number, turns: Turns): Promise<string[]> {
  let runs: string[][] = [];
  for (let some = getdents64Once(fd); some !== undefined; some = getdents64Once(fd)) {
    runs.push(some.sort());
    if (turns.isOver) await turns.next();
  }
  while (runs.length > 1) {
    const merged: string[][] = [];
    for (let at = 0; at < runs.length; at += 2) {
      merged.push(await merge(runs[at] ?? [], runs[at + 1] ?? [], turns));
    }
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge(a: string[], b: string[], turns: Turns): Promise<string[]> {
  const merged: string[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const [left, right] = [a[i], b[j]];
    if (right === undefined || left !== undefined && left <= right) {
      if (left !== undefined) merged.push(left);
      i++;
    } else {
      merged.push(right);
      j++;
    }
    if (merged.length % 256 === 0 && turns.isOver) await turns.next();
  }
  return merged;
}
