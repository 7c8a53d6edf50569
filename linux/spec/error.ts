/**
 * The error of a failed mount, with a message that names the cause.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import type { Mount } from "./mount.ts";
import { quote } from "../../ffi/text.ts";
import { WORDS } from "./option_table.ts";
import { isIdMap, splitOptions } from "./options.ts";

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
    super(`cannot mount ${nameOf(mount)} on ${target}: ${reasonOf(mount, explained)}`, { cause: root });
    this.mount = mount;
    this.target = target;
    this.kernelMessages = kernelMessages;
    this.code = root instanceof SyscallError ? root.code : "EINVAL";
    this.errno = errnoNumber(this.code);
  }
}

function nameOf(mount: Mount | null | undefined): string {
  const { type = "", source = "" } = mount ?? {}; // a caller without type checks may pass anything
  const named = type === "bind" || type === "" || type === "none" ? source : `${type} ${source}`;
  return type === source || source === "" ? type || "nothing" : named;
}

function reasonOf(mount: Mount, { cause, kernelMessages: messages, reason }: ExplainedError): string {
  if (!(cause instanceof SyscallError)) return cause instanceof Error ? cause.message : String(cause);
  const call = `(${cause.syscall}: ${cause.code})`;
  if (reason !== undefined) return `${reason} ${call}`;
  const hint = hints[cause.code]?.(mount, cause);
  // The kernel's messages replace the hint, except for the one that names the option "loop".
  const all = cause.code === "ENOTBLK" ? [...messages, hint] : messages;
  if (messages.length > 0) return `${all.join("; ")} ${call}`;
  return !hint ? cause.message : `${hint} ${call}`;
}

/** Whether the kernel gets an option as it is; not a layer, whose path may be long. */
function isOwnOption(option: string): boolean {
  return !WORDS.has(option) && !/^([xX]-|lowerdir|datadir|upperdir=|workdir=|uidmap=|gidmap=)/.test(option);
}

// The meaning of an errno for a mount, if its usual description is misleading.
const hints: Record<string, (mount: Mount, cause: SyscallError) => string | undefined> = {
  EPERM: (_, { syscall }) =>
    syscall === "write"
      ? "not permitted to map these ids: it needs CAP_SETUID and CAP_SETGID in the parent user namespace"
      : "not permitted: it needs root (CAP_SYS_ADMIN), or a new user and mount namespace",
  EACCES: ({ type }, { syscall }) =>
    type === "overlay" && (syscall === "mount" || syscall === "fsconfig")
      ? "not permitted to write to its upper or work directory: it needs CAP_DAC_OVERRIDE"
      : undefined,
  EINVAL: ({ type, options = [] }, { syscall }) => {
    if (options.some(isIdMap) && (syscall === "mount" || syscall === "fsconfig")) {
      return "the kernel gives no reason; id-mapped overlay layers need Linux 5.19";
    }
    if (syscall !== "mount") return undefined;
    const own = options.flatMap(splitOptions).filter(isOwnOption).map(quote).join(", ");
    const given = own && `the file system's own options are ${own}; `;
    if (type === "overlay") return `${given}before Linux 6.5 the kernel gives the reason only in its log`;
    return given && `${given}mount(2) gives no reason`;
  },
  ENODEV: ({ type }, { syscall }) =>
    syscall === "fsopen" || syscall === "mount" ? `this kernel knows no file system "${type}"` : undefined,
  ENOTBLK: ({ source }) => `${source} is not a block device; for an image file add the option "loop"`,
  ENOENT: (_, { path }) => path === undefined ? undefined : `${path.replace(/^source=/, "")} does not exist`,
  ENOTDIR: (_, { path, syscall }) =>
    syscall === "move_mount" || path === undefined
      ? "a directory can't be mounted on a file, nor a file on a directory"
      : `${path} is not a directory`,
  ELOOP: ({ type }, { path, syscall }) =>
    type === "overlay" && (syscall === "fsconfig" || syscall === "mount")
      ? "its layers overlap: one of them lies inside another, or is the upper or work directory of an overlay"
      : path && `${path} has too many symbolic links`,
};
