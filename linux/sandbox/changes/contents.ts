/**
 * The contents of a changed file, for a program that shows their differences.
 *
 * @module
 */

import type { OwnedFd } from "../../../ffi/fd.ts";
import { openMayWait } from "../../path/cached_lookup.ts";
import {
  AT_EMPTY_PATH,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  STATX_BASIC_STATS,
} from "../../syscalls/constants.ts";
import { open, readOffThread, statx } from "../../syscalls/mod.ts";
import { openBelow } from "./directory_stack.ts";
import { isGone, isWhiteout, overlayPrefix, procPath, typeOf } from "./marks.ts";
import type { Change, ReadChangesOptions, Upper } from "./types.ts";
import { openUpper, withPath } from "./upper.ts";

/** The contents of a file before and after a change. */
export interface ChangedContents {
  /** What the lower layers have; undefined if that is no regular file. */
  before: Uint8Array<ArrayBuffer> | undefined;
  /** What the upper directory has; undefined if that is no regular file. */
  after: Uint8Array<ArrayBuffer> | undefined;
  /** Whether both are whole: a content that is longer than the limit is cut. */
  isWhole: boolean;
}

/** How contents are read. */
export interface ReadContentsOptions extends ReadChangesOptions {
  /** The number of bytes that are read of each content; 1 MiB if left out. */
  readonly limit?: number | undefined;
}

/**
 * Reads what a changed file had and has, for a program that shows the difference.
 *
 * Needs the permission `ffi`, and access to both files.
 *
 * @param upper the upper directory: its path, or a descriptor.
 * @param change a change that `readChanges()` returned.
 * @param options the lower layers, `userxattr`, the limit in bytes, the signal, and the timeout in milliseconds.
 * @returns both contents.
 * @throws {SyscallError} for a file that can't be read.
 * @throws {RangeError} for a limit that is no number of bytes.
 *
 * @example
 * ```ts ignore
 * import { readChanges, readContents } from "@denomount/mount/sandbox";
 *
 * const options = { lower: "/srv/project" };
 * for await (const change of readChanges("/var/box/upper", options)) {
 *   const { before, after } = await readContents("/var/box/upper", change, options);
 *   console.log(change.path, before?.length, after?.length);
 * }
 * ```
 */
export async function readContents(
  upper: Upper,
  change: Change,
  options: ReadContentsOptions = {},
): Promise<ChangedContents> {
  const { limit = 1 << 20, lower = [] } = options;
  if (!Number.isSafeInteger(limit) || limit < 0) throw new RangeError(`no number of bytes: ${limit}`);
  using root = await openUpper(upper, options);
  const names = change.path === "." ? [] : change.path.split("/");
  const after = change.kind === "removed" ? undefined : await contentOf(root.fd, names, limit, options);
  const before = change.kind === "added"
    ? undefined
    : await contentBefore(typeof lower === "string" ? [lower] : lower, names, limit, options);
  return {
    before: before?.bytes,
    after: after?.bytes,
    isWhole: (before?.isWhole ?? true) && (after?.isWhole ?? true),
  };
}

interface Content {
  bytes: Uint8Array<ArrayBuffer> | undefined;
  isWhole: boolean;
}

/** The topmost layer that has the name decides, also if it hides it. */
async function contentBefore(
  layers: readonly string[],
  names: readonly string[],
  limit: number,
  options: ReadContentsOptions,
): Promise<Content | undefined> {
  for (const layer of layers) {
    using root = await openMayWait(layer, O_PATH | O_DIRECTORY, options);
    const content = await contentOf(root.fd, names, limit, options);
    if (content) return content;
  }
  return undefined;
}

/** Undefined if the directory does not have the file. */
async function contentOf(
  root: number,
  names: readonly string[],
  limit: number,
  options: ReadContentsOptions,
): Promise<Content | undefined> {
  using found = openIfPresent(root, names);
  if (found === undefined) return undefined;
  const stat = statx(found.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS);
  const isFile = typeOf(stat.mode) === "file" &&
    !isWhiteout(found.fd, stat, overlayPrefix(options.userxattr));
  if (!isFile) return { bytes: undefined, isWhole: true };
  using file = withPath(names.join("/"), () => openFile(found.fd));
  const bytes = new Uint8Array(Math.min(limit, stat.size));
  let length = 0;
  while (length < bytes.length) {
    options.signal?.throwIfAborted();
    const read = await readOffThread(file.fd, bytes.subarray(length));
    if (read <= 0) break;
    length += read;
  }
  return { bytes: bytes.subarray(0, length), isWhole: stat.size <= limit };
}

function openIfPresent(root: number, names: readonly string[]): OwnedFd | undefined {
  try {
    return openBelow(root, names, O_PATH | O_NOFOLLOW);
  } catch (error) {
    if (!isGone(error)) throw error;
    return undefined;
  }
}

/**
 * Opens a regular file for reading. Whether it is one was seen by the same descriptor: opening a device could act on it,
 * and opening a FIFO could wait.
 *
 * @param fd an O_PATH descriptor of a regular file.
 * @returns a descriptor to read.
 */
export function openFile(fd: number): OwnedFd {
  return open(procPath(fd), O_RDONLY | O_NONBLOCK);
}
