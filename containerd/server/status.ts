/**
 * Errors as the statuses of gRPC.
 *
 * @module
 */

import { status, type StatusObject } from "../deps.ts";
import { ContainerdError } from "../errors.ts";

/** The names of errors that a snapshotter may throw: those of this library's clients and managers, and JavaScript's own. */
const CODES: Readonly<Record<string, status>> = {
  NotFoundError: status.NOT_FOUND,
  AlreadyExistsError: status.ALREADY_EXISTS,
  FailedPreconditionError: status.FAILED_PRECONDITION,
  InvalidArgumentError: status.INVALID_ARGUMENT,
  TypeError: status.INVALID_ARGUMENT,
  UnimplementedError: status.UNIMPLEMENTED,
  UnavailableError: status.UNAVAILABLE,
  PermissionDeniedError: status.PERMISSION_DENIED,
  DeadlineExceededError: status.DEADLINE_EXCEEDED,
  TimeoutError: status.DEADLINE_EXCEEDED,
  AbortError: status.CANCELLED,
};

/**
 * The status that a failed call answers with.
 *
 * @param error what the snapshotter has thrown.
 * @returns the status, with the error's message.
 */
export function toStatus(error: unknown): Pick<StatusObject, "code" | "details"> {
  if (error instanceof ContainerdError) {
    const code = Object.entries(status).find(([name]) => name === error.code)?.[1];
    return { code: typeof code === "number" ? code : status.UNKNOWN, details: error.details };
  }
  if (!(error instanceof Error)) return { code: status.UNKNOWN, details: String(error) };
  return { code: CODES[error.name] ?? status.UNKNOWN, details: error.message };
}
