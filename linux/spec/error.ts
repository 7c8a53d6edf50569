/**
 * The error of a mount that failed, in sentences that help.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import type { Mount } from "./mount.ts";
import { isIdMap } from "./options.ts";

/** A failed call together with what is known about it in words. */
export class ExplainedError extends Error {
  /** "ExplainedError". */
  override readonly name = "ExplainedError";

  /**
   * An error with words.
   *
   * @param cause the call that failed.
   * @param kernelMessages what the kernel said.
   * @param reason what this library has found out.
   */
  constructor(override readonly cause: unknown, readonly kernelMessages: string[], readonly reason?: string) {
    super(reason ?? kernelMessages.join("; "), { cause });
  }
}

/**
 * A mount that could not be made. Nothing of it is left.
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
  /** The mount as it was given. */
  readonly mount: Mount;
  /** The path that it was to be mounted on. */
  readonly target: string;
  /** The error's name, such as "EINVAL"; "EINVAL" too for input that was refused before any system call. */
  readonly code: string;
  /** The error's number. */
  readonly errno: number;
  /** What the kernel said in words, where it said anything. */
  readonly kernelMessages: string[];

  /**
   * An error for a mount that failed.
   *
   * @param mount the mount.
   * @param target the path that it was to be mounted on.
   * @param cause what went wrong.
   */
  constructor(mount: Mount, target: string, cause: unknown) {
    const explained = cause instanceof ExplainedError ? cause : new ExplainedError(cause, []);
    const { cause: root, kernelMessages } = explained;
    super(`cannot mount ${what(mount)} on ${target}: ${why(mount, explained)}`, { cause: root });
    this.mount = mount;
    this.target = target;
    this.kernelMessages = kernelMessages;
    this.code = root instanceof SyscallError ? root.code : "EINVAL";
    this.errno = errnoNumber(this.code);
  }
}

function what({ type, source }: Mount): string {
  const named = type === "bind" || type === "" || type === "none" ? source : `${type} ${source}`;
  return type === source || source === "" ? type || "nothing" : named;
}

function why(mount: Mount, { cause, kernelMessages: messages, reason }: ExplainedError): string {
  if (!(cause instanceof SyscallError)) return cause instanceof Error ? cause.message : String(cause);
  const call = `(${cause.syscall}: ${cause.code})`;
  if (reason !== undefined) return `${reason} ${call}`;
  const hint = hints[cause.code]?.(mount, cause);
  // The kernel's sentence comes first; only what to do about a plain file is worth saying beside it.
  const all = cause.code === "ENOTBLK" ? [...messages, hint] : messages;
  if (messages.length > 0) return `${all.join("; ")} ${call}`;
  return hint === undefined ? cause.message : `${hint} ${call}`;
}

// What an errno means when mounting, where the kernel's own word for it leads astray.
const hints: Record<string, (mount: Mount, cause: SyscallError) => string | undefined> = {
  EPERM: (_, { syscall }) =>
    syscall === "write"
      ? "these ids may not be mapped here: it needs CAP_SETUID and CAP_SETGID where they belong"
      : "not permitted: it needs root (CAP_SYS_ADMIN), or a user and mount namespace of one's own",
  EACCES: ({ type }, { syscall }) =>
    type === "overlay" && (syscall === "mount" || syscall === "fsconfig")
      ? "its upper or work directory may not be written to: it needs CAP_DAC_OVERRIDE"
      : undefined,
  EINVAL: ({ type, options = [] }, { syscall }) => {
    if (options.some(isIdMap) && (syscall === "mount" || syscall === "fsconfig")) {
      return "the kernel does not say why; overlay takes id-mapped layers from Linux 5.19 on";
    }
    const alone = type === "overlay" && syscall === "mount";
    return alone ? "before Linux 6.5 the kernel says nothing here, its log alone says why" : undefined;
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
