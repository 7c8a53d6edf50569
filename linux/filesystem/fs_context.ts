/**
 * A file system context of fsopen(2) or fspick(2), whose failures carry the kernel's own sentences.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { onPrivateThread, type ThreadCall } from "../../ffi/private_thread.ts";
import { callOffThread, type WaitOptions } from "../path/wait.ts";
import { ExplainedError } from "../spec/error.ts";
import { keyAndValue } from "../spec/overlay_options.ts";
import { FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE } from "../syscalls/constants.ts";
import { SYS_fsconfig } from "../syscalls/numbers.ts";
import {
  fsconfigCreate,
  fsconfigOffThread,
  fsconfigReconfigure,
  fsconfigSetFlag,
  fsconfigSetString,
  readKernelMessages,
} from "../syscalls/mod.ts";

/**
 * Closes a context after a failure, and reads the kernel's log of it before.
 *
 * @param context the context.
 * @param error what went wrong.
 * @returns the error with the kernel's sentences.
 */
export function withKernelLog(context: OwnedFd, error: unknown): unknown {
  try {
    return error instanceof SyscallError ? new ExplainedError(error, readKernelMessages(context.fd)) : error;
  } finally {
    context.close();
  }
}

/**
 * Sets parameters one after the other.
 *
 * @param context the context.
 * @param options the parameters, such as "size=1m" or "ro".
 */
export function setParameters(context: OwnedFd, options: readonly string[]): void {
  for (const option of options) {
    const { key, value } = keyAndValue(option);
    // Quotes belong to the comma-separated form; a context takes the value without them.
    if (value === undefined) fsconfigSetFlag(context.fd, key);
    else fsconfigSetString(context.fd, key, value.replace(/^"(.*)"$/s, "$1"));
  }
}

/** The last command to a configured context: makes a superblock, or changes the one that was picked. */
type Command = "create" | "reconfigure";

/**
 * Makes or changes a superblock that no disk and no server is asked for.
 *
 * @param context the configured context; closed on failure.
 * @param command which of the two.
 * @returns the same context.
 * @throws {ExplainedError} with the kernel's sentences.
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
 * Makes or changes a superblock that may have to wait for a disk or a server, on another thread.
 *
 * The errno of a failure is lost on the other thread, and the context is dead after it. So the attempt is repeated on
 * this thread, with a new context: it fails quickly, because the disk's blocks are in the page cache now.
 *
 * @param prepare opens and configures a context.
 * @param command which of the two.
 * @returns the context.
 * @throws {ExplainedError} with the kernel's sentences.
 */
export async function createSuperblockAsync(prepare: () => OwnedFd, command: Command): Promise<OwnedFd> {
  const context = prepare();
  const number = command === "create" ? FSCONFIG_CMD_CREATE : FSCONFIG_CMD_RECONFIGURE;
  if (await fsconfigOffThread(context.fd, number)) return context;
  context.close();
  return createSuperblock(prepare(), command);
}

/**
 * Makes a superblock for which the kernel asks a server, which may not answer. A private thread makes the call, because
 * the attempt can't be repeated to learn its errno: it may take as long as the first one.
 *
 * @param context the configured context; closed on failure.
 * @param source the source, for the error.
 * @param wait the timeout and the signal.
 * @returns the same context.
 * @throws {ExplainedError} with the kernel's sentences, and ETIMEDOUT if the server does not answer.
 */
export async function createSuperblockOnThread(
  context: OwnedFd,
  source: string,
  wait: WaitOptions,
): Promise<OwnedFd> {
  try {
    const calls = [fsconfigCreateCall(context.fd)];
    await callOffThread(() => onPrivateThread(calls), wait, "fsconfig", source);
    return context;
  } catch (error) {
    if (error instanceof SyscallError && error.code !== "ETIMEDOUT") throw withKernelLog(context, error);
    context.close(); // the call that still waits holds the lock of its log
    throw error;
  }
}

function fsconfigCreateCall(fd: number): ThreadCall {
  return { name: "fsconfig", args: [SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, null, null, 0] };
}
