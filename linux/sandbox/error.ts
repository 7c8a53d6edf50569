/**
 * The error of a box or a command that could not be started.
 *
 * @module
 */

import { shown } from "../../ffi/text.ts";
import type { Failure } from "./protocol.ts";
import type { Step } from "./steps.ts";

/**
 * A box or a command could not be started. Nothing of it is left.
 *
 * @example
 * ```ts
 * import { sandbox, SandboxError } from "@denomount/mount/sandbox";
 *
 * try {
 *   await using box = await sandbox({ writable: ["/no/such/directory"] });
 *   console.log(box);
 * } catch (error) {
 *   if (!(error instanceof SandboxError)) throw error;
 *   console.log(error.code); // "ENOENT"
 * }
 * ```
 */
export class SandboxError extends Error {
  /** "SandboxError". */
  override readonly name = "SandboxError";
  /** The name of the errno, such as "ENOENT", if a system call failed. */
  readonly code?: string;
  /** The system call that failed. */
  readonly syscall?: string;
  /** The path that it is about. */
  readonly path?: string;

  /**
   * Composes the error.
   *
   * @param message the sentence.
   * @param failure the failed call.
   */
  constructor(message: string, failure: Partial<Failure> & { cause?: unknown } = {}) {
    super(message, failure.cause === undefined ? {} : { cause: failure.cause });
    const { code, syscall, path } = failure;
    if (code !== undefined) this.code = code;
    if (syscall !== undefined) this.syscall = syscall;
    if (path !== undefined) this.path = path;
  }
}

/**
 * Turns what the stage has said into an error.
 *
 * @param failure what it has said.
 * @returns the error.
 */
export function startError(failure: Failure): SandboxError {
  const { step, message } = failure;
  if (step === undefined) return new SandboxError(`the box can't be started: ${message}`, failure);
  const path = "target" in step ? step.target : undefined;
  const reason = hintOf(step, failure) ?? message;
  return new SandboxError(`the box can't be started: ${describe(step)}: ${reason}`, { ...failure, path });
}

/** A step in words. */
function describe(step: Step): string {
  switch (step.kind) {
    case "bind":
      return step.source === step.target
        ? `can't bind ${shown(step.source)}`
        : `can't bind ${shown(step.source)} on ${shown(step.target)}`;
    case "mount":
      return `can't mount ${shown(step.mount.type)} on ${shown(step.mount.target ?? "/")}`;
    case "hide-proc":
      return "can't cover the proc file systems of the host";
    default:
      return `can't make ${step.kind} at ${shown(step.target)}`;
  }
}

function hintOf(step: Step, { code, syscall, path }: Failure): string | undefined {
  if (code === "ELOOP" && "exact" in step && step.exact) {
    return "another process has put a symbolic link into its path meanwhile (openat2: ELOOP)";
  }
  if (code === "ENOENT" && "exact" in step && step.exact) {
    return `it has been removed meanwhile (${syscall}: ENOENT)`;
  }
  if (step.kind === "proc" && code === "EPERM") {
    return "a part of this container's /proc is covered, so the kernel permits no new one: set proc to false, or start the container with its whole /proc (fsconfig: EPERM)";
  }
  if (step.kind === "symlink" && code === "EEXIST") {
    return "another file is there, or a link that leads elsewhere (symlink: EEXIST)";
  }
  if (step.kind === "bind" && path === step.source) return undefined; // the call says what is wrong with it
  if ((code === "EROFS" || code === "EACCES") && (syscall === "mkdir" || syscall === "open")) {
    return `it does not exist there, and can't be made (${syscall}: ${code})`;
  }
  return undefined;
}
