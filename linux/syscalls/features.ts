/**
 * Features of the running kernel. Each is probed by a system call, not derived from the kernel's version: distributions
 * backport features, and a container's seccomp filter may block calls that the kernel has.
 *
 * @module
 */

import { errnoName, isErrno, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, errnoOfCall, libc } from "../../ffi/libc.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  FAN_CLOEXEC,
  FAN_REPORT_MNT,
  MOUNT_ATTR_NOSYMFOLLOW,
  MOVE_MOUNT_BENEATH,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  O_PATH,
  PIDFD_GET_USER_NAMESPACE,
  STATMOUNT_FS_SUBTYPE,
  STATMOUNT_MNT_OPTS,
  STATMOUNT_MNT_UIDMAP,
  STATMOUNT_SB_SOURCE,
  STATMOUNT_SUPPORTED_MASK,
  STATX_MNT_ID_UNIQUE,
} from "./constants.ts";
import {
  fanotifyInit,
  fsconfigCreate,
  fsconfigSetFd,
  fsconfigSetString,
  fsmount,
  fsopen,
  ioctl,
  mkdir,
  mount,
  mountSetattr,
  moveMount,
  open,
  openat,
  openat2,
  pidfdOpen,
  statmount,
  statx,
} from "./mod.ts";
import {
  SYS_fsconfig,
  SYS_fsmount,
  SYS_fsopen,
  SYS_fspick,
  SYS_listmount,
  SYS_mount_setattr,
  SYS_move_mount,
  SYS_open_tree,
  SYS_open_tree_attr,
} from "./numbers.ts";

/** A kernel feature that may be missing, with the Linux version that introduced it. */
export type Feature =
  /** openat2(2), Linux 5.6. */
  | "openat2"
  /** open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2) and fspick(2), Linux 5.2. */
  | "mountApi"
  /** mount_setattr(2), Linux 5.12. */
  | "mountSetattr"
  /** The mount attribute `nosymfollow`, Linux 5.14; mount(2) has a flag for it since 5.10. */
  | "nosymfollow"
  /** Overlay layers as separate parameters, `lowerdir+`, Linux 6.5. */
  | "overlayLayers"
  /** Overlay layers as descriptors, Linux 6.13. */
  | "overlayDescriptors"
  /** Overlay layers on detached mounts, Linux 6.15. */
  | "detachedLayers"
  /** listmount(2), and statmount(2) with options, subtype and source, Linux 6.13. */
  | "statmount"
  /** ioctl(2) for the namespaces of a pidfd, Linux 6.11. */
  | "pidfdNamespaces"
  /** statmount(2) with the id maps of a mount, Linux 6.15. */
  | "mountIdMaps"
  /** open_tree_attr(2), which changes or clears the id map of a clone, Linux 6.15. */
  | "openTreeAttr"
  /** fanotify events of a mount namespace, Linux 6.15. */
  | "mountEvents"
  /** move_mount(2) beneath another mount, Linux 6.5. */
  | "mountBeneath"
  /** move_mount(2) onto a detached mount, Linux 6.15. */
  | "detachedTargets";

/**
 * The Linux version that introduced each feature. A distribution may have backported it, or blocked it.
 *
 * @example
 * ```ts
 * import { featureVersions, kernelFeatures } from "@denomount/mount";
 *
 * const missing = Object.entries(kernelFeatures()).filter(([, works]) => !works);
 * for (const [feature] of missing) console.log(`${feature} is missing`);
 * console.log(featureVersions.statmount); // "6.13"
 * ```
 */
export const featureVersions: Readonly<Record<Feature, string>> = {
  openat2: "5.6",
  mountApi: "5.2",
  mountSetattr: "5.12",
  nosymfollow: "5.14",
  overlayLayers: "6.5",
  overlayDescriptors: "6.13",
  detachedLayers: "6.15",
  statmount: "6.13",
  pidfdNamespaces: "6.11",
  mountIdMaps: "6.15",
  openTreeAttr: "6.15",
  mountEvents: "6.15",
  mountBeneath: "6.5",
  detachedTargets: "6.15",
};

const UNKNOWN_FLAG = 0x40000000n;

const probes: Record<Feature, () => boolean> = {
  openat2: () => works(() => openat2(AT_FDCWD, "/", O_PATH, 0).close()),
  // They came together, and a seccomp filter can block any of them.
  mountApi: () => !MOUNT_API.some(isMissing) && !PRIVILEGED_MOUNT_API.some(isMissingOrForbidden),
  mountSetattr: () => !isMissing([SYS_mount_setattr, -1n, 0n, UNKNOWN_FLAG]),
  // The attributes are checked before the descriptor.
  nosymfollow: () =>
    hasFeature("mountSetattr") &&
    works(
      () => mountSetattr(-1, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_NOSYMFOLLOW }),
      "ENOSYS",
      "EPERM",
      "EINVAL",
    ),
  overlayLayers: () =>
    overlayAccepts((context) => fsconfigSetString(context, "lowerdir+", "/")) &&
    // Before 6.5, overlay accepted every string until FSCONFIG_CMD_CREATE.
    !overlayAccepts((context) => fsconfigSetString(context, "denomount-probe", "1")),
  overlayDescriptors: () =>
    overlayAccepts((context) => {
      using root = open("/", O_PATH);
      fsconfigSetFd(context, "lowerdir+", root.fd);
    }),
  detachedLayers: () => {
    using root = detachedTmpfs();
    for (const name of ["above", "below"]) mkdir(`/proc/self/fd/${root.fd}/${name}`, 0o700);
    using above = openat(root.fd, "above", O_PATH);
    using below = openat(root.fd, "below", O_PATH);
    return overlayAccepts((context) => {
      for (const layer of [above, below]) fsconfigSetFd(context, "lowerdir+", layer.fd); // overlay needs two
      fsconfigCreate(context);
    });
  },
  statmount: () =>
    !isMissing([SYS_listmount, 0n, 0n, 0n, UNKNOWN_FLAG]) &&
    works(() => {
      const wanted = STATMOUNT_MNT_OPTS | STATMOUNT_FS_SUBTYPE | STATMOUNT_SB_SOURCE;
      const { mask, mountId } = statx(AT_FDCWD, "/", 0, STATX_MNT_ID_UNIQUE);
      if (!(mask & STATX_MNT_ID_UNIQUE)) throw new TypeError("no unique mount id");
      // The mask returned has only the flags of fields that are not empty. The source never is, and is the newest field.
      if (!(statmount(mountId, wanted).mask & STATMOUNT_SB_SOURCE)) throw new TypeError("no source");
    }),
  pidfdNamespaces: () =>
    works(() => {
      using self = pidfdOpen(Deno.pid);
      new OwnedFd(ioctl(self.fd, PIDFD_GET_USER_NAMESPACE, 0)).close();
    }),
  mountIdMaps: () =>
    hasFeature("statmount") &&
    works(() => {
      const { mountId } = statx(AT_FDCWD, "/", 0, STATX_MNT_ID_UNIQUE);
      if (!(statmount(mountId, STATMOUNT_SUPPORTED_MASK).supportedMask & STATMOUNT_MNT_UIDMAP)) {
        throw new TypeError("no id maps");
      }
    }),
  openTreeAttr: () => !isMissing([SYS_open_tree_attr, -1n, 0n, UNKNOWN_FLAG]),
  mountEvents: () => works(() => fanotifyInit(FAN_REPORT_MNT | FAN_CLOEXEC).close()),
  // An unknown flag fails with EINVAL, a known one with EBADF, for -1 is not a descriptor. Without CAP_SYS_ADMIN, EPERM
  // says nothing.
  mountBeneath: () => {
    const flags = MOVE_MOUNT_BENEATH | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    const attempt = () => moveMount(-1, "", -1, "", flags);
    if (!mayMount()) throwIfNotPermitted(attempt);
    return works(attempt, "ENOSYS", "EINVAL", "EPERM");
  },
  detachedTargets: () => {
    using root = detachedTmpfs();
    using inside = detachedTmpfs();
    mkdir(`/proc/self/fd/${root.fd}/inside`, 0o700);
    using mountpoint = openat(root.fd, "inside", O_PATH);
    const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    return works(() => moveMount(inside.fd, "", mountpoint.fd, "", flags));
  },
};

/** Temporary failures, which do not show whether the kernel has the feature. */
const temporary = ["EMFILE", "ENFILE", "ENOMEM", "EINTR", "EAGAIN", "EBUSY"];
const known = new Map<Feature, boolean>();

/**
 * Whether the kernel has a feature. It is probed at the first call.
 *
 * Needs the permission `ffi`. The overlay features can only be probed with CAP_SYS_ADMIN; without it they count as missing,
 * and are probed again at the next call.
 *
 * @param feature the feature.
 * @returns true if it works for this process.
 *
 * @example
 * ```ts
 * import { hasFeature } from "@denomount/mount/linux";
 *
 * console.log(hasFeature("statmount") ? "lookupMount() uses statmount(2)" : "lookupMount() reads the mount table");
 * ```
 */
export function hasFeature(feature: Feature): boolean {
  const result = known.get(feature);
  if (result !== undefined) return result;
  try {
    const found = probes[feature]();
    known.set(feature, found);
    return found;
  } catch (error) {
    if (isErrno(error, "EPERM", "EACCES", "ENODEV", ...temporary)) return false; // probe again at the next call
    // A call that the probe needs, by the default seccomp filter of Docker and Podman.
    if (!isErrno(error, "ENOSYS")) throw error;
    known.set(feature, false);
    return false;
  }
}

/**
 * The features of the kernel. A missing one is replaced by a fallback, or the error of the call that needs it names the
 * Linux version.
 *
 * Needs the permission `ffi`. The overlay features can only be probed with CAP_SYS_ADMIN; without it they count as missing.
 *
 * @returns true for each feature that works for this process.
 *
 * @example
 * ```ts
 * import { kernelFeatures } from "@denomount/mount";
 *
 * const { overlayLayers, mountSetattr } = kernelFeatures();
 * console.log({ overlayLayers, mountSetattr });
 * ```
 */
export function kernelFeatures(): Record<Feature, boolean> {
  return {
    openat2: hasFeature("openat2"),
    mountApi: hasFeature("mountApi"),
    mountSetattr: hasFeature("mountSetattr"),
    nosymfollow: hasFeature("nosymfollow"),
    overlayLayers: hasFeature("overlayLayers"),
    overlayDescriptors: hasFeature("overlayDescriptors"),
    detachedLayers: hasFeature("detachedLayers"),
    statmount: hasFeature("statmount"),
    pidfdNamespaces: hasFeature("pidfdNamespaces"),
    mountIdMaps: hasFeature("mountIdMaps"),
    openTreeAttr: hasFeature("openTreeAttr"),
    mountEvents: hasFeature("mountEvents"),
    mountBeneath: hasFeature("mountBeneath"),
    detachedTargets: hasFeature("detachedTargets"),
  };
}

/**
 * Makes features count as missing, to test the fallbacks on a newer kernel.
 *
 * @param features the features.
 * @returns an object that restores them at the end of its `using` scope.
 *
 * @example
 * ```ts
 * import { hasFeature, pretendMissing } from "@denomount/mount/linux";
 *
 * using _missing = pretendMissing("openat2");
 * if (hasFeature("openat2")) throw new Error("openat2 should count as missing");
 * ```
 */
export function pretendMissing(...features: Feature[]): Disposable {
  const before = features.map((feature) => [feature, known.get(feature)] as const);
  for (const feature of features) known.set(feature, false);
  return {
    [Symbol.dispose]() {
      for (const [feature, result] of before) {
        if (result === undefined) known.delete(feature);
        else known.set(feature, result);
      }
    },
  };
}

/**
 * Whether mount_setattr(2) can change a mount by its descriptor: while it is detached, or in another mount namespace.
 *
 * Needs the permission `ffi`.
 *
 * @returns false before Linux 5.12.
 */
export function usesMountSetattr(): boolean {
  return hasFeature("mountApi") && hasFeature("mountSetattr");
}

/**
 * Throws if the kernel has no id-mapped mounts.
 *
 * Needs the permission `ffi`.
 *
 * @throws {TypeError} before Linux 5.12.
 */
export function requireIdMapping(): void {
  if (!usesMountSetattr()) throw new TypeError(`id-mapped mounts need ${whatSetattrNeeds()}`);
}

/**
 * What {@linkcode usesMountSetattr} asks for, for an error message.
 *
 * Needs the permission `ffi`.
 *
 * @returns the calls, and why they may be missing.
 */
export function whatSetattrNeeds(): string {
  const needed = "mount_setattr(2), which came with Linux 5.12";
  return hasFeature("mountApi")
    ? `${needed} and which a seccomp filter may forbid`
    : `${needed}, and the calls of Linux 5.2, such as open_tree(2), one of which a seccomp filter forbids`;
}

/**
 * The number of a system call, and arguments that make it fail: no descriptor, an address in no memory, a flag that no
 * kernel knows.
 */
type FailingCall = readonly [number: number, ...args: bigint[]];

/** The calls of the mount API that look at their arguments before they look for a capability. */
const MOUNT_API: readonly FailingCall[] = [[SYS_fsconfig, -1n], [SYS_open_tree, -1n, 0n, UNKNOWN_FLAG]];

/** The others. */
const PRIVILEGED_MOUNT_API: readonly FailingCall[] = [
  [SYS_move_mount, -1n, 0n, -1n, 0n, UNKNOWN_FLAG],
  [SYS_fsopen, 0n, UNKNOWN_FLAG],
  [SYS_fsmount, -1n, UNKNOWN_FLAG],
  [SYS_fspick, -1n, 0n, UNKNOWN_FLAG],
];

/** Whether the kernel lacks a call that needs no capability, or a seccomp filter blocks it. */
function isMissing(call: FailingCall): boolean {
  return ["ENOSYS", "EPERM"].includes(failureOf(call));
}

/**
 * Whether the kernel lacks a call that needs CAP_SYS_ADMIN, or a seccomp filter blocks it. Without the capability, EPERM
 * does not tell which; then no mount can be made in any way, and the call counts as allowed.
 */
function isMissingOrForbidden(call: FailingCall): boolean {
  const code = failureOf(call);
  return code === "ENOSYS" || code === "EPERM" && mayMount();
}

/** The code of the error of a call. All have one binding: each takes a quarter of a millisecond. */
function failureOf([number, a = 0n, b = 0n, c = 0n, d = 0n, e = 0n]: FailingCall): string {
  const result = libc().syscall(number, a, b, c, d, e);
  const own = errno[0];
  if (result >= 0) throw new Error(`the system call ${number} succeeds without arguments`);
  const failure = errnoOfCall(own);
  const code = errnoName(failure);
  if (temporary.includes(code)) throw new SyscallError({ syscall: `system call ${number}`, errno: failure });
  return code;
}

/**
 * Whether this process may mount at all.
 *
 * Needs the permission `ffi`.
 *
 * @returns false without CAP_SYS_ADMIN in the user namespace of its mount namespace, and if a seccomp filter forbids mount(2).
 */
export function mayMount(): boolean {
  // mount(2) checks the capability before it sees that there is no type: do_new_mount() of fs/namespace.c.
  return works(() => mount(null, "/", null, 0, null), "EPERM");
}

function throwIfNotPermitted(attempt: () => void): void {
  try {
    attempt();
  } catch (error) {
    if (isErrno(error, "EPERM")) throw error;
  }
}

/** Whether a call succeeds; with codes, whether it succeeds or fails with another code. */
function works(attempt: () => void, ...missing: string[]): boolean {
  try {
    attempt();
    return true;
  } catch (error) {
    if (isErrno(error, ...temporary)) throw error;
    if (missing.length > 0) return !isErrno(error, ...missing);
    return false;
  }
}

/** A detached tmpfs. The kernel frees it when its descriptor is closed. */
function detachedTmpfs(): OwnedFd {
  using context = fsopen("tmpfs");
  fsconfigCreate(context.fd);
  return fsmount(context.fd, 0);
}

function overlayAccepts(set: (context: number) => void): boolean {
  using context = fsopen("overlay");
  return works(() => set(context.fd));
}
