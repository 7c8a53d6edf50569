/**
 * Why a mount failed, where the errno alone does not say it: found by a look at the system after the failure.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { quote, shown } from "../../ffi/text.ts";
import { INITIAL_USER_NAMESPACE } from "../namespace/user.ts";
import { ExplainedError } from "../spec/error.ts";
import type { FilesystemPlan, OverlayPlan, Plan } from "../spec/plan.ts";
import type { AttributeChange } from "../spec/options.ts";
import {
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  MOUNT_ATTR__ATIME,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  S_IFBLK,
  S_IFMT,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { mayMount } from "../syscalls/features.ts";
import { readlink, statx } from "../syscalls/mod.ts";

/**
 * Finds the reason of a failure.
 *
 * @param error the error of the call.
 * @param plan the mount that failed.
 * @returns the error with the reason, if one was found; else the error as it was.
 */
export function explainFailure(error: unknown, plan: Plan): unknown {
  const explained = error instanceof ExplainedError ? error : new ExplainedError(error, []);
  const { cause, kernelMessages, reason } = explained;
  if (reason !== undefined || !(cause instanceof SyscallError)) return error;
  const found = reasonOf(cause, kernelMessages, plan);
  return found === undefined ? error : new ExplainedError(cause, kernelMessages, found);
}

function reasonOf(cause: SyscallError, messages: readonly string[], plan: Plan): string | undefined {
  if (cause.code === "EPERM") return whyForbidden(cause, plan);
  if (!["EINVAL", "EUCLEAN", "EIO", "EBADMSG", "ENODATA"].includes(cause.code)) return undefined;
  if (cause.syscall !== "fsconfig" && cause.syscall !== "mount") return undefined;
  if (plan.kind === "overlay") {
    return cause.code === "EINVAL" && messages.length === 0 ? whyVolatile(plan) : undefined;
  }
  return plan.kind === "filesystem" ? whyDamaged(cause, messages, plan) : undefined;
}

/** The kernel writes this reason to its log alone: ovl_workdir_cleanup_recurse() of fs/overlayfs/readdir.c. */
function whyVolatile({ layers: { work } }: OverlayPlan): string | undefined {
  if (work === undefined) return undefined;
  const mark = `${work}/work/incompat/volatile`;
  if (modeOf(mark) === undefined) return undefined;
  return 'it was mounted with "volatile" before, so its upper directory may be incomplete: use a new upperdir and ' +
    `workdir, or, if the upper directory can be trusted, remove ${shown(mark)}`;
}

/** An unknown parameter has a path in its error: the parameter itself. */
function whyDamaged(
  cause: SyscallError,
  messages: readonly string[],
  plan: FilesystemPlan,
): string | undefined {
  const isDevice = plan.loop !== undefined || ((modeOf(plan.source) ?? 0) & S_IFMT) === S_IFBLK;
  if (!isDevice || (cause.syscall === "fsconfig" && cause.path !== undefined)) return undefined;
  const { type, source } = plan;
  const what = cause.code === "EIO"
    ? `${shown(source)} can't be read as ${shown(type)}: it is damaged, or shorter than its file system`
    : `${shown(source)} is not a file system of type ${
      shown(type)
    }, or its superblock is damaged, or it is cut short`;
  const given = plan.data.map((option) => quote(option)).join(", ");
  const options = given === "" ? "" : `, or it does not take one of the options ${given}`;
  const said = messages.length > 0 ? messages.map((message) => shown(message)).join("; ") : undefined;
  return `${what}${options}${said === undefined ? "; dmesg may say more" : `: ${said}`}`;
}

/** Namespaces that a user namespace has to own before it mounts a view of them. */
const OWNED: Record<string, [kind: string, flags: string]> = {
  proc: ["a PID", "--pid --fork"],
  sysfs: ["a network", "--net"],
  mqueue: ["an IPC", "--ipc"],
  cgroup: ["a cgroup", "--cgroup"],
  cgroup2: ["a cgroup", "--cgroup"],
};

/** EPERM has other reasons than a missing capability in a user namespace alone. */
function whyForbidden({ syscall }: SyscallError, plan: Plan): string | undefined {
  if (!MOUNT_CALLS.includes(syscall) || !mayMount() || isInitialUserNamespace()) return undefined;
  if (plan.kind === "bind" || (plan.kind === "remount" && plan.bind)) {
    return plan.idMaps === undefined ? whyLocked(plan) : undefined;
  }
  if (plan.kind === "remount") {
    if (syscall === "mount_setattr") return whyLocked(plan);
    return "not permitted: only the user namespace that has mounted a file system changes it; " +
      'to change this mount alone, add "bind"';
  }
  if (plan.kind === "overlay") return forbiddenInUserNamespace("overlay", syscall);
  return plan.kind === "filesystem" ? forbiddenInUserNamespace(plan.type, syscall) : undefined;
}

const MOUNT_CALLS = ["mount", "fsopen", "fsconfig", "fsmount", "mount_setattr"];

/**
 * Says why a user namespace can't mount a file system.
 *
 * @param type its type.
 * @param syscall the call that failed with EPERM.
 * @returns the sentence.
 */
export function forbiddenInUserNamespace(type: string, syscall: string): string {
  if (type === "overlay") return "not permitted: an overlay in a user namespace needs Linux 5.11";
  const owned = Object.hasOwn(OWNED, type) ? OWNED[type] : undefined;
  if (owned === undefined) {
    return `not permitted: ${shown(type)} is mounted by root of the initial user namespace only`;
  }
  const [kind, flags] = owned;
  // mount_too_revealing() of fs/namespace.c
  const hidden = `a ${type} without parts that other mounts hide`;
  if (syscall === "fsmount") {
    return `not permitted: in a user namespace it needs ${hidden} in this mount namespace`;
  }
  const also = syscall === "mount" && (type === "proc" || type === "sysfs") ? `, and ${hidden}` : "";
  return `not permitted: in a user namespace, ${type} needs ${kind} namespace that this user namespace owns ` +
    `(unshare --user --map-root-user --mount ${flags})${also}`;
}

function whyLocked({ attributes, recursiveAttributes }: Plan): string | undefined {
  const words = [attributes, recursiveAttributes].flatMap(lockedWords);
  if (words.length === 0) return undefined;
  const list = [...new Set(words)].map((word) => `"${word}"`).join(", ");
  return `not permitted: the mount is from another user namespace, which has locked its flags: this one can't change ${list}`;
}

const LOCKABLE = {
  ro: MOUNT_ATTR_RDONLY,
  nosuid: MOUNT_ATTR_NOSUID,
  nodev: MOUNT_ATTR_NODEV,
  noexec: MOUNT_ATTR_NOEXEC,
};

/** can_change_locked_flags() of fs/namespace.c. */
function lockedWords({ set, clear }: AttributeChange): string[] {
  const words = Object.entries(LOCKABLE).filter(([, bit]) => clear & bit).map(([word]) => word);
  const changesAtime = (clear & MOUNT_ATTR__ATIME) | ((set | clear) & MOUNT_ATTR_NODIRATIME);
  return changesAtime ? [...words, "noatime", "nodiratime", "relatime"] : words;
}

function isInitialUserNamespace(): boolean {
  try {
    return readlink("/proc/self/ns/user") === INITIAL_USER_NAMESPACE;
  } catch (error) {
    if (error instanceof SyscallError) return true; // without /proc
    throw error;
  }
}

/** The file's mode; undefined if it can't be looked up. */
function modeOf(path: string): number | undefined {
  try {
    return statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE).mode;
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}
