/**
 * The contents of a changed file, for a program that shows their differences.
 *
 * @module
 */

import type { OwnedFd } from "../../../ffi/fd.ts";
import { openMayWait } from "../../path/cached_lookup.ts";
import { callOffThread } from "../../path/wait.ts";
import { O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY } from "../../syscalls/constants.ts";
import { open, readOffThread } from "../../syscalls/mod.ts";
import { openBelow } from "./directory_stack.ts";
import { Lower } from "./lower.ts";
import { isGone, isWhiteout, lookAt, overlayPrefix, procPath, typeOf } from "./marks.ts";
import type { Change, ReadChangesOptions, Upper } from "./types.ts";
import { openUpper } from "./upper.ts";

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
 * ```ts
 * import { readChanges, readContents } from "@denomount/mount/sandbox";
 *
 * const upper = await Deno.makeTempDir(); // of an overlay
 * await Deno.writeTextFile(`${upper}/hostname`, "example");
 * const options = { lower: "/etc" };
 * for await (const change of readChanges(upper, options)) {
 *   if (change.type !== "file") continue;
 *   const { before, after } = await readContents(upper, change, options);
 *   console.log(change.path, before?.length, after?.length);
 * }
 * await Deno.remove(upper, { recursive: true });
 * ```
 */
export async function readContents(
  upper: Upper,
  change: Change,
  options: ReadContentsOptions = {},
): Promise<ChangedContents> {
  const { limit = 1 << 20 } = options;
  if (!Number.isSafeInteger(limit) || limit < 0) throw new RangeError(`no number of bytes: ${limit}`);
  const names = change.path === "." ? ["."] : change.path.split("/");
  const after = change.kind === "removed" ? undefined : await contentAfter(upper, names, limit, options);
  const before = change.kind === "added" ? undefined : await contentBefore(names, limit, options);
  return {
    before: before?.bytes,
    after: after?.bytes,
    isWhole: (before?.isWhole ?? true) && (after?.isWhole ?? true),
  };
}

interface Content {
  bytes: Uint8Array<ArrayBuffer>;
  isWhole: boolean;
}

async function contentAfter(
  upper: Upper,
  names: readonly string[],
  limit: number,
  options: ReadContentsOptions,
): Promise<Content | undefined> {
  using root = await openUpper(upper, options);
  using found = openIfPresent(root.fd, names);
  const prefix = overlayPrefix(options.userxattr);
  if (found === undefined || isWhiteout(found.fd, lookAt(found.fd), prefix)) return undefined;
  return await contentOf(found.fd, names.join("/"), limit, options);
}

async function contentBefore(
  names: readonly string[],
  limit: number,
  options: ReadContentsOptions,
): Promise<Content | undefined> {
  using lower = await Lower.open(options);
  for (const name of names.slice(0, -1)) await lower?.enter(name, false);
  using found = await lower?.open(names.at(-1) ?? "");
  return found && await contentOf(found.fd, names.join("/"), limit, options);
}

/** Undefined for what is no regular file. */
async function contentOf(
  fd: number,
  path: string,
  limit: number,
  options: ReadContentsOptions,
): Promise<Content | undefined> {
  const { mode, size } = lookAt(fd);
  if (typeOf(mode) !== "file") return undefined;
  using file = await openMayWait(procPath(fd), O_RDONLY | O_NONBLOCK, options);
  const bytes = new Uint8Array(Math.min(limit, size));
  let length = 0;
  while (length < bytes.length) {
    const rest = bytes.subarray(length);
    const read = await callOffThread(() => readOffThread(file.fd, rest), options, "read", path);
    if (read <= 0) break;
    length += read;
  }
  return { bytes: bytes.subarray(0, length), isWhole: size <= limit };
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
