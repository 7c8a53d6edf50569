/**
 * What an errno means for a mount, where the usual description of the errno would mislead. What has to look at the system
 * to find the reason is not here.
 *
 * @module
 */

import type { SyscallError } from "../../ffi/errno.ts";
import { quote, shown } from "../../ffi/text.ts";
import type { Mount } from "./mount.ts";
import { WORDS } from "./option_table.ts";
import { isIdMap, splitOptions } from "./options.ts";

type Hint = (mount: Mount, cause: SyscallError) => string | undefined;

/**
 * The meaning of a failed call.
 *
 * @param mount the mount.
 * @param cause the error of the call.
 * @param messages the kernel's messages about it, which say more than most hints.
 * @returns a sentence; undefined if the kernel's messages or the description of the errno say it.
 */
export function hintOf(mount: Mount, cause: SyscallError, messages: readonly string[]): string | undefined {
  const hint = hints[cause.code]?.(mount, cause);
  if (messages.length === 0) return hint;
  // The kernel names the device, but not what to do: an option is missing, or a file.
  if (cause.code === "ENOTBLK") return [...messages, hint].join("; ");
  return messages.every((message) => message.endsWith("Can't lookup blockdev")) ? hint : undefined;
}

const hints: Record<string, Hint> = {
  EPERM: (mount, { syscall }) => {
    if (syscall === "write") {
      return "not permitted to map these ids: it needs CAP_SETUID and CAP_SETGID in the parent user namespace";
    }
    // open_tree(2) before it needs the same capability.
    if (syscall === "mount_setattr" && isMapped(mount)) {
      return "not permitted: only the user namespace that has mounted a file system maps its ids, and not to the initial one";
    }
    return "not permitted: it needs root (CAP_SYS_ADMIN), or a new user and mount namespace";
  },
  EACCES: ({ type }, { syscall }) =>
    type === "overlay" && (syscall === "mount" || syscall === "fsconfig")
      ? "not permitted to write to its upper or work directory: it needs CAP_DAC_OVERRIDE"
      : undefined,
  EINVAL: (mount, { syscall }) => {
    if (isMapped(mount) && (syscall === "mount" || syscall === "fsconfig")) {
      return "the kernel gives no reason; id-mapped overlay layers need Linux 5.19";
    }
    if (syscall === "open_tree" || (syscall === "mount" && mount.type === "bind")) {
      return 'its mount is unbindable, or has mounts below it that a user namespace can\'t leave out: add "rbind"';
    }
    // Without a type it is a change of an existing mount.
    if (syscall === "fspick" || (syscall === "mount_setattr" && /^(none)?$/.test(mount.type))) {
      return "the target is not a mountpoint";
    }
    return syscall === "mount" ? nameOwnOptions(mount) : undefined;
  },
  ENODEV: ({ type }, { syscall }) =>
    syscall === "fsopen" || syscall === "mount"
      ? `this kernel knows no file system "${shown(type)}"`
      : undefined,
  ENOTBLK: ({ source }) => `${shown(source)} is not a block device; for an image file add the option "loop"`,
  ENOENT: (mount, { path, syscall }) => {
    const missing = path ?? (syscall === "fsconfig" && mount.type !== "overlay" ? mount.source : undefined);
    return missing === undefined ? undefined : nameMissing(mount, missing, syscall);
  },
  ENOTDIR: (_, { path, syscall }) =>
    syscall === "move_mount" || path === undefined || path.startsWith("/proc/self/fd/")
      ? "a directory can't be mounted on a file, nor a file on a directory"
      : `${shown(withoutKey(path))} is not a directory`,
  ELOOP: ({ type }, { path, syscall }) =>
    type === "overlay" && (syscall === "fsconfig" || syscall === "mount")
      ? "its layers overlap: one of them lies inside another, or is the upper or work directory of an overlay"
      : path && `${shown(path)} has too many symbolic links`,
  ENOSPC: (_, { syscall }) => {
    if (syscall === "clone") {
      return "no more user namespaces: the sysctl user.max_user_namespaces limits their number";
    }
    return ["open_tree", "move_mount", "mount"].includes(syscall)
      ? "a mount namespace that the mount would be in has as many mounts as the sysctl fs.mount-max allows"
      : undefined;
  },
};

/** mount(2) does not say which option it refuses. */
function nameOwnOptions({ type, options }: Mount): string | undefined {
  const own = (options ?? []).flatMap(splitOptions).filter(isOwnOption).map((option) => quote(option)).join(
    ", ",
  );
  const given = own && `the file system's own options are ${own}; `;
  if (type === "overlay") return `${given}before Linux 6.5 the kernel gives the reason only in its log`;
  return given ? `${given}mount(2) gives no reason` : undefined;
}

/** Whether the kernel gets an option as it is; not a layer, whose path may be long. */
function isOwnOption(option: string): boolean {
  return !WORDS.has(option) && !/^([xX]-|lowerdir|datadir|upperdir=|workdir=|uidmap=|gidmap=)/.test(option);
}

function isMapped({ options }: Mount): boolean {
  return (options ?? []).some((option) => isIdMap(option) || option.startsWith("X-mount.idmap="));
}

const LAYERS: Record<string, string> = {
  "lowerdir+": "the layer",
  "datadir+": "the layer",
  upperdir: "the upper directory",
  workdir: "the work directory",
  source: "the source",
};

const KEY = /^(lowerdir\+|datadir\+|upperdir|workdir|source)=/;

function withoutKey(path: string): string {
  return path.replace(KEY, "");
}

function nameMissing({ type, source }: Mount, path: string, syscall: string): string | undefined {
  const key = KEY.exec(path)?.[1];
  if (key !== undefined) return `${LAYERS[key]} ${shown(withoutKey(path))} does not exist`;
  if (path !== source) return `${shown(path)} does not exist`;
  // The name of a tmpfs and the like is not looked up.
  const isPath = source.startsWith("/") || type === "bind" || syscall === "open";
  return isPath ? `the source ${shown(path)} does not exist` : undefined;
}
