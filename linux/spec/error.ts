/**
 * The error of a failed mount, with a message that names the cause.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import { errnoText } from "../../ffi/memory.ts";
import { shown } from "../../ffi/text.ts";
import { hintOf } from "./hints.ts";
import type { Mount } from "./mount.ts";

/** A failed call, with the messages of the kernel or a reason that this library has found. */
export class ExplainedError extends Error {
  /** "ExplainedError". */
  override readonly name = "ExplainedError";

  /**
   * Wraps the error of a call.
   *
   * @param cause the error of the call.
   * @param kernelMessages the kernel's messages from the file system context.
   * @param reason the reason that this library has found.
   */
  constructor(override readonly cause: unknown, readonly kernelMessages: string[], readonly reason?: string) {
    super(reason ?? kernelMessages.join("; "), { cause });
  }
}

/**
 * The error of a mount that failed. Everything that the call had mounted is unmounted again.
 *
 * @example
 * ```ts
 * import { mount, MountError } from "@denomount/mount";
 *
 * try {
 *   await mount({ type: "tmpfs", source: "tmpfs", options: ["bogus"] }, "/mnt");
 * } catch (error) {
 *   if (!(error instanceof MountError)) throw error;
 *   console.log(error.message); // cannot mount tmpfs on /mnt: tmpfs: Unknown parameter 'bogus' (fsconfig: EINVAL)
 * }
 * ```
 */
export class MountError extends Error {
  /** "MountError". */
  override readonly name = "MountError";
  /** The mount that failed, as the caller passed it. */
  readonly mount: Mount;
  /** The mountpoint. */
  readonly target: string;
  /** The name of the errno, such as "EINVAL"; also "EINVAL" for input that is refused before any system call. */
  readonly code: string;
  /** The errno. */
  readonly errno: number;
  /** The kernel's messages from the file system context; mostly none. */
  readonly kernelMessages: string[];

  /**
   * Composes the message of a failed mount.
   *
   * @param mount the mount.
   * @param target the mountpoint.
   * @param cause the error that made it fail.
   */
  constructor(mount: Mount, target: string, cause: unknown) {
    const explained = cause instanceof ExplainedError ? cause : new ExplainedError(cause, []);
    const { cause: root, kernelMessages } = explained;
    super(`cannot mount ${nameOf(mount)} on ${shown(target)}: ${reasonOf(mount, explained)}`, {
      cause: root,
    });
    this.mount = mount;
    this.target = target;
    this.kernelMessages = kernelMessages;
    this.code = root instanceof SyscallError ? root.code : "EINVAL";
    this.errno = errnoNumber(this.code);
  }
}

/** The caller may have passed anything as a mount. */
function nameOf(mount: Mount | null | undefined): string {
  const [type = "", source = ""] = [mount?.type, mount?.source].map((field) => shown(String(field ?? "")));
  const named = type === "bind" || type === "" || type === "none" ? source : `${type} ${source}`;
  return type === source || source === "" ? type || "nothing" : `${named}`;
}

const LONGEST_REASON = 2000; // its parts are cut where they are put in; a helper may say a lot

function reasonOf(mount: Mount, { cause, kernelMessages, reason }: ExplainedError): string {
  if (!(cause instanceof SyscallError)) {
    return shown(cause instanceof Error ? cause.message : String(cause), LONGEST_REASON);
  }
  const messages = kernelMessages.map((message) => shown(message));
  const text = reason ?? cause.reason ?? hintOf(mount, cause, messages) ??
    (messages.length > 0 ? messages.join("; ") : describe(cause));
  return `${shown(text, LONGEST_REASON)} (${cause.syscall}: ${cause.code})`;
}

/** The path of mount(2) is the source, which the message names already; one in /proc/self/fd says nothing to the reader. */
function describe({ errno, path, syscall }: SyscallError): string {
  const text = errnoText(errno);
  const isKnown = path === undefined || syscall === "mount" || path.startsWith("/proc/self/fd/");
  return isKnown ? text : `${shown(path)}: ${text}`;
}
