/**
 * A file system context of fsopen(2) or fspick(2), whose failures carry the kernel's own sentences.
 *
 * @module
 */

import { SyscallError } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE } from "./constants.ts";
import { ExplainedError } from "./mount_error.ts";
import { keyAndValue } from "./overlay_options.ts";
import {
  fsconfigCreate,
  fsconfigOffThread,
  fsconfigReconfigure,
  fsconfigSetFlag,
  fsconfigSetString,
  readKernelMessages,
} from "./syscalls.ts";

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
  return text.length <= LONGEST_STRING && encoder.encode(text).length <= LONGEST_STRING;
}

const encoder = new TextEncoder();

/** Does something with a context; a call that fails throws with what the kernel said about it. */
function withMessages<T>(context: OwnedFd, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new ExplainedError(error, readKernelMessages(context.fd));
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

/**
 * Makes or changes a file system that may wait on a disk or a server, on another thread.
 *
 * The errno of a failure there is lost and the context is dead, so the caller's whole attempt is made once more on
 * this thread: for what fails, that is quick, because the disk was read already.
 *
 * @param prepare opens and configures the context.
 * @param command makes it or changes it.
 * @returns the context, done.
 */
export async function executeLater(prepare: () => OwnedFd, command: Command): Promise<OwnedFd> {
  const context = prepare();
  const number = command === "create" ? FSCONFIG_CMD_CREATE : FSCONFIG_CMD_RECONFIGURE;
  if (await fsconfigOffThread(context.fd, number)) return context;
  context.close();
  return execute(prepare, command);
}

/** What is done with a context that is configured. */
type Command = "create" | "reconfigure";

/**
 * Makes or changes a file system that waits for nobody.
 *
 * @param prepare opens and configures the context.
 * @param command makes it or changes it.
 * @returns the context, done.
 */
export function execute(prepare: () => OwnedFd, command: Command): OwnedFd {
  const context = prepare();
  try {
    const run = command === "create" ? fsconfigCreate : fsconfigReconfigure;
    withMessages(context, () => run(context.fd));
    return context;
  } catch (error) {
    context.close();
    throw error;
  }
}

/**
 * Configures a context; if that fails, it is closed.
 *
 * @param opened the context.
 * @param configure sets its options.
 * @returns the context.
 * @throws {ExplainedError} a call's error with what the kernel said about it.
 */
export function configured(opened: OwnedFd, configure: (context: OwnedFd) => void): OwnedFd {
  try {
    withMessages(opened, () => configure(opened));
    return opened;
  } catch (error) {
    opened.close();
    throw error;
  }
}
