/**
 * A file system context of fsopen(2) or fspick(2), whose failures carry the kernel's own sentences.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE } from "../syscalls/constants.ts";
import { ExplainedError } from "../spec/error.ts";
import type { ParsedOptions } from "../spec/options.ts";
import { keyAndValue } from "../spec/overlay_options.ts";
import {
  fsconfigCreate,
  fsconfigOffThread,
  fsconfigReconfigure,
  fsconfigSetFlag,
  fsconfigSetString,
  fsmount,
  readKernelMessages,
} from "../syscalls/mod.ts";
import { attachMount } from "../path/mount_target.ts";

/** The longest string that fsconfig(2) takes, in bytes. */
export const LONGEST_STRING = 255;

/**
 * Whether fsconfig(2) takes a value as a string.
 *
 * @param text the value.
 * @returns false where it is too long.
 */
export function fitsString(text: string): boolean {
  if (text.length * 3 <= LONGEST_STRING) return true; // UTF-8 makes three bytes of a UTF-16 unit at the most
  if (text.length > LONGEST_STRING) return false;
  return ASCII.test(text) || new TextEncoder().encode(text).length <= LONGEST_STRING;
}

// deno-lint-ignore no-control-regex
const ASCII = /^[\x00-\x7f]*$/;

/**
 * Gives a context up after a failure.
 *
 * @param context the context, which is closed.
 * @param error what went wrong.
 * @returns the error, with what the kernel said about it.
 */
export function withKernelLog(context: OwnedFd, error: unknown): unknown {
  try {
    return error instanceof SyscallError ? new ExplainedError(error, readKernelMessages(context.fd)) : error;
  } finally {
    context.close();
  }
}

/**
 * Sets options one by one.
 *
 * @param context the context.
 * @param options such as "size=1m" or "ro".
 */
export function setOptions(context: OwnedFd, options: readonly string[]): void {
  for (const option of options) {
    const { key, value } = keyAndValue(option);
    // Quotes are for the comma-separated form; a context takes the value as it is.
    if (value === undefined) fsconfigSetFlag(context.fd, key);
    else fsconfigSetString(context.fd, key, value.replace(/^"(.*)"$/s, "$1"));
  }
}

/** What is done with a context that is configured. */
type Command = "create" | "reconfigure";

/**
 * Makes or changes a file system that waits for nobody.
 *
 * @param context the context, configured; closed where this fails.
 * @param command makes it or changes it.
 * @returns the same context, done.
 * @throws {ExplainedError} a call's error with what the kernel said about it.
 */
export function createSuperblock(context: OwnedFd, command: Command): OwnedFd {
  try {
    if (command === "create") fsconfigCreate(context.fd);
    else fsconfigReconfigure(context.fd);
    return context;
  } catch (error) {
    throw withKernelLog(context, error);
  }
}

/**
 * Makes or changes a file system that may wait on a disk or a server, on another thread.
 *
 * The errno of a failure there is lost and the context is dead, so the caller's whole attempt is made once more on
 * this thread: for what fails, that is quick, because the disk was read already.
 *
 * @param prepare opens and configures a context.
 * @param command makes it or changes it.
 * @returns the context, done.
 * @throws {ExplainedError} a call's error with what the kernel said about it.
 */
export async function createSuperblockAsync(prepare: () => OwnedFd, command: Command): Promise<OwnedFd> {
  const context = prepare();
  const number = command === "create" ? FSCONFIG_CMD_CREATE : FSCONFIG_CMD_RECONFIGURE;
  if (await fsconfigOffThread(context.fd, number)) return context;
  context.close();
  return createSuperblock(prepare(), command);
}

/**
 * Attaches the mount of a new file system.
 *
 * @param context the context that has made it.
 * @param options what the mount is to be.
 * @param place where to.
 * @param fds closes the context, and what is opened.
 * @param change does something to the mount before.
 */
export function attachNew(
  context: OwnedFd,
  { attributes, recursiveAttributes }: ParsedOptions,
  place: OwnedFd,
  fds: OwnedFds,
  change?: (made: OwnedFd) => void,
): void {
  fds.add(context);
  const made = fds.add(fsmount(context.fd, attributes.set | recursiveAttributes.set));
  change?.(made);
  attachMount(made, place);
}
