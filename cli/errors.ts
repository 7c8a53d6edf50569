/**
 * Errors as one line of text.
 *
 * @module
 */

import { SyscallError } from "../ffi/errno.ts";
import { MountError } from "../linux/spec/error.ts";
import { geteuid } from "../linux/syscalls/mod.ts";
import { BusyError, describeHolders } from "../linux/unmount/busy_error.ts";
import { escapeControl } from "./print.ts";

/** The sentence for an errno, with the remedy if it is known. */
const sentences: Record<string, (path: string) => string> = {
  EACCES: (path) => `no access to ${path}: run as root`,
  EBUSY: (path) => `${path} is in use`,
  ENOENT: (path) => `${path} does not exist`,
  ENOTDIR: (path) => `${path} does not exist: a component of the path is not a directory`,
  EPERM: (path) => `${path}: not permitted: run as root`,
};

/** The further namespaces that a user namespace has to own for a type: unshare(1)'s options. */
const OWNED: Readonly<Record<string, string>> = {
  proc: " -pf",
  sysfs: " -n",
  mqueue: " -i",
  cgroup: " -C",
  cgroup2: " -C",
};

/** What helps an ordinary user who may not mount. */
function remedy(error: Error): string {
  if (!(error instanceof MountError || error instanceof SyscallError) || error.code !== "EPERM") return "";
  if (geteuid() === 0) return ""; // the reason is another one, and the error says it
  const owned = error instanceof MountError ? OWNED[error.mount.type] ?? "" : "";
  return `; without root, begin the command with "unshare -Urm${owned}"`;
}

/**
 * Returns an error as one line.
 *
 * @param error the thrown value.
 * @returns the sentence. For a SuppressedError both: the first error, then the one from cleaning up after it.
 */
export function errorMessage(error: unknown): string {
  if (typeof SuppressedError === "function" && error instanceof SuppressedError) { // old versions of Deno lack it
    return `${errorMessage(error.suppressed)}; then ${errorMessage(error.error)}`;
  }
  if (!(error instanceof Error)) return String(error);
  if (!(error instanceof SyscallError) || error.path === undefined) return error.message + remedy(error);
  const sentence = sentences[error.code]?.(error.path);
  if (sentence === undefined) return error.message + remedy(error);
  return `${sentence} (${error.syscall}: ${error.code})${remedy(error)}`;
}

/**
 * Returns what keeps a mount busy, a line for each holder.
 *
 * @param error the thrown value.
 * @returns the indented lines, safe to print; none for any other error.
 */
export function holderLines(error: unknown): string[] {
  const busy = error instanceof Error && error.cause instanceof BusyError ? error.cause : error;
  return busy instanceof BusyError
    ? describeHolders(busy.holders).map((line) => `  ${escapeControl(line)}`)
    : [];
}
