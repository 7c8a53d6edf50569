/**
 * The errors of a call to containerd, one class for each gRPC status that it answers with.
 *
 * @module
 */

import { type ServiceError, status } from "./deps.ts";
import { shown } from "../ffi/text.ts";
import * as manager from "../linux/manager/errors.ts";

/** What failed. */
export interface ContainerdFailure {
  /** What the call was to do, such as "stat the snapshot a of overlayfs". */
  readonly action: string;
  /** containerd's words, or those of the connection. */
  readonly details: string;
  /** What the caller can do about it. */
  readonly hint?: string | undefined;
  /** The error below it. */
  readonly cause?: unknown;
}

/** The errors of failed calls: those that inherit from an error of ./manager are in no hierarchy with the others. */
const failures = new WeakSet<object>();

/**
 * A call to containerd that failed. The classes below tell the reasons apart; this one is left for the others, such as a
 * failed system call in containerd.
 *
 * Every error of a call is `instanceof ContainerdError`. `NotFoundError`, `AlreadyExistsError` and
 * `FailedPreconditionError` are also errors of these names of `./manager`, so code for any mount manager needs only those.
 *
 * @example
 * ```ts
 * import { Containerd, ContainerdError } from "@denomount/mount/containerd";
 *
 * await using containerd = new Containerd({ address: "/run/no-such.sock" });
 * try {
 *   await containerd.version();
 * } catch (error) {
 *   if (!(error instanceof ContainerdError)) throw error;
 *   console.log(error.message); // cannot get containerd's version: the socket /run/no-such.sock does not exist: …
 * }
 * ```
 */
export class ContainerdError extends Error {
  /** The name of the class. */
  override readonly name: string = "ContainerdError";
  /** The name of the gRPC status, such as "NOT_FOUND". */
  readonly code: string;
  /** containerd's words, or those of the connection. */
  readonly details: string;

  /**
   * Composes the message of a failed call.
   *
   * @param code the name of the gRPC status.
   * @param failure what failed.
   */
  constructor(code: string, failure: ContainerdFailure) {
    super(messageOf(failure), { cause: failure.cause });
    this.code = code;
    this.details = failure.details;
    failures.add(this);
  }

  /**
   * Whether a value is such an error: also one that inherits from an error of `./manager`.
   *
   * @param value any value.
   * @returns true for this class, if a call to containerd has failed with the value; for a subclass, as for any class.
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== ContainerdError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === "object" && value !== null && failures.has(value);
  }
}

const LONGEST_REASON = 2000; // containerd adds the output of the programs that it runs

function messageOf({ action, details, hint }: ContainerdFailure): string {
  return `cannot ${action}: ${shown(details, LONGEST_REASON)}${hint === undefined ? "" : `; ${hint}`}`;
}

/** There is no such snapshot or activation in the namespace. */
export class NotFoundError extends manager.NotFoundError {
  /** The name of the gRPC status. */
  readonly code: string;
  /** containerd's words. */
  readonly details: string;

  /**
   * Composes the message of a failed call.
   *
   * @param code the name of the gRPC status.
   * @param failure what failed.
   */
  constructor(code: string, failure: ContainerdFailure) {
    super(messageOf(failure), { cause: failure.cause });
    this.code = code;
    this.details = failure.details;
    failures.add(this);
  }
}

/** A snapshot or activation of that name exists already. */
export class AlreadyExistsError extends manager.AlreadyExistsError {
  /** The name of the gRPC status. */
  readonly code: string;
  /** containerd's words. */
  readonly details: string;

  /**
   * Composes the message of a failed call.
   *
   * @param code the name of the gRPC status.
   * @param failure what failed.
   */
  constructor(code: string, failure: ContainerdFailure) {
    super(messageOf(failure), { cause: failure.cause });
    this.code = code;
    this.details = failure.details;
    failures.add(this);
  }
}

/** What exists forbids the call: a snapshot with children can't be removed, and a committed one has no mounts. */
export class FailedPreconditionError extends manager.FailedPreconditionError {
  /** The name of the gRPC status. */
  readonly code: string;
  /** containerd's words. */
  readonly details: string;

  /**
   * Composes the message of a failed call.
   *
   * @param code the name of the gRPC status.
   * @param failure what failed.
   */
  constructor(code: string, failure: ContainerdFailure) {
    super(messageOf(failure), { cause: failure.cause });
    this.code = code;
    this.details = failure.details;
    failures.add(this);
  }
}

/** An argument that containerd refuses, such as a snapshotter that it doesn't have. */
export class InvalidArgumentError extends ContainerdError {
  /** "InvalidArgumentError". */
  override readonly name = "InvalidArgumentError";
}

/** containerd doesn't do this. For `activate()` it mostly means that the list needs no manager. */
export class UnimplementedError extends ContainerdError {
  /** "UnimplementedError". */
  override readonly name = "UnimplementedError";
}

/** containerd forbids the call. */
export class PermissionDeniedError extends ContainerdError {
  /** "PermissionDeniedError". */
  override readonly name = "PermissionDeniedError";
}

/** The timeout passed before containerd answered; what it had begun is cancelled. */
export class DeadlineExceededError extends ContainerdError {
  /** "DeadlineExceededError". */
  override readonly name = "DeadlineExceededError";
}

/**
 * containerd can't be connected to, or the connection broke before it answered: the next call connects again. Also if
 * containerd can't connect to a proxy plugin.
 */
export class UnavailableError extends ContainerdError {
  /** "UnavailableError". */
  override readonly name = "UnavailableError";
}

type ErrorClass = new (code: string, failure: ContainerdFailure) => ContainerdError;

const classes = new Map<status, ErrorClass>([
  [status.NOT_FOUND, NotFoundError],
  [status.ALREADY_EXISTS, AlreadyExistsError],
  [status.FAILED_PRECONDITION, FailedPreconditionError],
  [status.INVALID_ARGUMENT, InvalidArgumentError],
  [status.UNIMPLEMENTED, UnimplementedError],
  [status.PERMISSION_DENIED, PermissionDeniedError],
  [status.DEADLINE_EXCEEDED, DeadlineExceededError],
  [status.UNAVAILABLE, UnavailableError],
]);

/**
 * Turns the error of a call into one of the classes above.
 *
 * @param error the error of the gRPC library.
 * @param action what the call was to do.
 * @param call the socket, the namespace and the timeout of the call.
 * @returns the error to throw.
 */
export async function toError(
  error: ServiceError,
  action: string,
  { address, namespace, timeout }: { address: string; namespace: string; timeout: number },
): Promise<ContainerdError> {
  const { code, details } = error;
  const name = status[code] ?? "UNKNOWN";
  if (code === status.UNAVAILABLE && !isAnswer(error) || isBroken(error)) {
    return new UnavailableError("UNAVAILABLE", {
      action,
      cause: error,
      ...await explainSocket(address, details),
    });
  }
  const isLate = code === status.DEADLINE_EXCEEDED && !isAnswer(error);
  const answer = isLate ? `containerd at ${address} did not answer within ${timeout} ms` : details;
  const failure = { action, details: answer, hint: hintOf(error, namespace, timeout), cause: error };
  return new (classes.get(code) ?? ContainerdError)(name, failure);
}

function hintOf(error: ServiceError, namespace: string, timeout: number): string | undefined {
  const { code, details } = error;
  if (code === status.NOT_FOUND) return `the namespace is ${shown(namespace)}`;
  if (code === status.DEADLINE_EXCEEDED && isAnswer(error)) {
    return `the timeout of the call is ${timeout} ms`; // containerd cancels its work then; a plugin may have another one
  }
  const isUnknown = details.startsWith("unknown service containerd.services.mounts.");
  return isUnknown ? "containerd has a mount manager since 2.2" : undefined;
}

/** containerd answers that a proxy plugin, such as a snapshotter, is not available; the library's own errors have no headers. */
function isAnswer({ metadata }: ServiceError): boolean {
  return metadata.get("content-type").length > 0;
}

/** The gRPC library calls a connection that breaks with EPIPE an internal error. */
function isBroken({ code, details }: ServiceError): boolean {
  return code === status.INTERNAL && details.includes("internal client error");
}

/** The gRPC library doesn't say why it can't connect in a way that a program can read, so this connects once more. */
async function explainSocket(
  address: string,
  details: string,
): Promise<Pick<ContainerdFailure, "details" | "hint">> {
  const socket = `the socket ${shown(address)}`;
  const start = "start containerd, or pass the address of the one that runs";
  try {
    (await Deno.connect({ transport: "unix", path: address })).close();
    return { details: `containerd at ${shown(address)} ended or broke the connection (${details})` };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { details: `${socket} does not exist`, hint: start };
    if (error instanceof Deno.errors.ConnectionRefused) {
      return { details: `no process listens on ${socket}`, hint: start };
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      return {
        details: `${socket} is not accessible`,
        hint: "run as root, or as a member of the socket's group",
      };
    }
    if (error instanceof Deno.errors.NotCapable) {
      const flags = ["read", "write"].map((name) => `--allow-${name}=${address}`).join(" ");
      return {
        details: `Deno has no permission for ${socket}`,
        hint: `run with --allow-net=unix:${address} ${flags}`,
      };
    }
    return { details: `${socket}: ${error instanceof Error ? error.message : error}` };
  }
}
