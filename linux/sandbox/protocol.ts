/**
 * What a process and the stage of its box tell each other.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import type { TerminalSize } from "./terminal.ts";
import type { BoxInfo, HeldOverlay, Step } from "./steps.ts";

/** The first argument of a stage; the second is the number of its socket. */
export const STAGE = "--denomount-sandbox-stage";

/** The most bytes of a message; what can be longer goes in a file in memory. */
export const MESSAGE_SIZE = 4096;

/** What the stage says when the root directory is made. The descriptors of the upper directories come with a message. */
export interface Ready {
  /** The overlays. */
  readonly overlays: readonly HeldOverlay[];
  /** The working directory of commands. */
  readonly cwd: string;
  /** What identifies the box, if the plan asks for it. */
  readonly info?: BoxInfo | undefined;
}

/**
 * The orders that the stage gets. A command comes with six descriptors: request, stdin, stdout, stderr, report, failures; one with
 * a terminal of its own, with a socket that gets the terminal's other end too.
 */
export type Order = { readonly run: number } | { readonly kill: number; readonly signal: number };

/** A command. */
export interface Request {
  /** The program, looked up in the PATH of its environment. */
  readonly command: string;
  /** Its name as it sees it, argv[0]; the command if left out. */
  readonly argv0?: string | undefined;
  /** Its arguments. */
  readonly args: string[];
  /** Its working directory. */
  readonly cwd: string;
  /** Its environment, all of it. */
  readonly env: Record<string, string>;
  /** The size of a terminal of its own, in the place of its three descriptors. */
  readonly terminal?: TerminalSize | undefined;
}

/** An error on its way to another process. */
export interface Failure {
  /** Its sentence. */
  readonly message: string;
  /** The name of its errno. */
  readonly code?: string | undefined;
  /** The call that failed. */
  readonly syscall?: string | undefined;
  /** The path of the call. */
  readonly path?: string | undefined;
  /** The step that failed. */
  readonly step?: Step | undefined;
}

/**
 * Turns an error into a value that JSON can carry.
 *
 * @param error the error.
 * @param step the step that failed.
 * @returns the value.
 */
export function failureOf(error: unknown, step?: Step): Failure {
  const root = error instanceof Error && step !== undefined ? error.cause : error;
  if (root instanceof SyscallError) {
    const { message, code, syscall, path } = root;
    return { message, code, syscall, path, step };
  }
  const message = root instanceof Error ? root.message : String(root);
  const code = root instanceof Error && "code" in root ? String(root.code) : undefined;
  return { message, code, step };
}

/**
 * Encodes a value as JSON.
 *
 * @param value the value.
 * @param end what follows it.
 * @returns the bytes.
 */
export function encode(value: unknown, end = ""): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value) + end);
}

/**
 * Decodes JSON.
 *
 * @param bytes the bytes.
 * @returns the value.
 */
export function decode(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(bytes));
}
