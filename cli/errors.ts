/**
 * Errors as one line for people.
 *
 * @module
 */

import { SyscallError } from "../mod.ts";

/** What an errno means to whoever typed the command. */
const sentences: Record<string, (path: string) => string> = {
  EACCES: (path) => `no access to ${path}: run as root`,
  EBUSY: (path) => `${path} is in use`,
  ENOENT: (path) => `${path} does not exist`,
  ENOTDIR: (path) => `${path} does not exist: something on the way is no directory`,
  EPERM: (path) => `${path}: not permitted: run as root`,
};

/**
 * An error as one line.
 *
 * @param error what was thrown.
 * @returns its sentence. Of two errors, the second while the first was cleaned up after, both.
 */
export function errorMessage(error: unknown): string {
  if (error instanceof SuppressedError) {
    return `${errorMessage(error.suppressed)}; then ${errorMessage(error.error)}`;
  }
  if (!(error instanceof Error)) return String(error);
  if (!(error instanceof SyscallError) || error.path === undefined) return error.message;
  const sentence = sentences[error.code]?.(error.path);
  return sentence === undefined ? error.message : `${sentence} (${error.syscall}: ${error.code})`;
}
