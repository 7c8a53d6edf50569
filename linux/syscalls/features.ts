/**
 * What this kernel can do, found by trying once and never by its version: a distribution's 4.18 may know what
 * another's 5.10 does not, and a container's seccomp filter may forbid what the kernel has.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_FDCWD,
  FAN_CLOEXEC,
  FAN_REPORT_MNT,
  O_PATH,
  PIDFD_GET_USER_NAMESPACE,
  STATMOUNT_FS_SUBTYPE,
  STATMOUNT_MNT_OPTS,
  STATMOUNT_SB_SOURCE,
  STATX_MNT_ID_UNIQUE,
} from "./constants.ts";
import {
  fanotifyInit,
  fsconfigCreate,
  fsconfigSetFd,
  fsconfigSetFlag,
  fsconfigSetString,
  fsmount,
  fsopen,
  ioctl,
  mkdir,
  mountSetattr,
  open,
  openat,
  openat2,
  pidfdOpen,
  statmount,
  statx,
} from "./mod.ts";

/** What may be missing, each with the kernel that brought it. */
export type Feature =
  /** openat2(2), Linux 5.6. */
  | "openat2"
  /** open_tree(2), move_mount(2), fsopen(2) and their kin, Linux 5.2. */
  | "mountApi"
  /** mount_setattr(2), Linux 5.12. */
  | "mountSetattr"
  /** Overlay layers one by one, `lowerdir+`, Linux 6.5. */
  | "overlayLayers"
  /** Overlay layers as descriptors, Linux 6.13. */
  | "overlayDescriptors"
  /** Overlay layers that are attached nowhere, Linux 6.15. */
  | "detachedLayers"
  /** statmount(2) with options, subtype and source, Linux 6.13. */
  | "statmount"
  /** The namespaces of a pidfd's process, Linux 6.11. */
  | "pidfdNamespaces"
  /** fanotify events of a mount namespace, Linux 6.15. */
  | "mountEvents";

/**
 * The Linux version that brought each feature; a distribution may have it in an older one, or forbid it in a newer.
 *
 * @example
 * ```ts
 * import { featureVersions, kernelFeatures } from "@denomount/mount";
 *
 * for (const [name, here] of Object.entries(kernelFeatures())) if (!here) console.log(`no ${name}`);
 * console.log(featureVersions.statmount); // "6.13"
 * ```
 */
export const featureVersions: Readonly<Record<Feature, string>> = {
  openat2: "5.6",
  mountApi: "5.2",
  mountSetattr: "5.12",
  overlayLayers: "6.5",
  overlayDescriptors: "6.13",
  detachedLayers: "6.15",
  statmount: "6.13",
  pidfdNamespaces: "6.11",
  mountEvents: "6.15",
};

const UNKNOWN_FLAG = 0x40000000;

const probes: Record<Feature, () => boolean> = {
  openat2: () => works(() => openat2(AT_FDCWD, "/", O_PATH, 0).close()),
  // No descriptor is -1, so a kernel that has the call says EINVAL or EBADF whatever the user may do.
  mountApi: () => exists(() => fsconfigSetFlag(-1, "ro")),
  // So does it with an unknown flag. Asked for nothing, it would say EPERM where the right is missing: that this counts
  // as a missing call would be remembered when the right is there.
  mountSetattr: () => exists(() => mountSetattr(AT_FDCWD, "/", UNKNOWN_FLAG, {})),
  overlayLayers: () =>
    overlayTakes((context) => fsconfigSetString(context, "lowerdir+", "/")) &&
    // Before 6.5 overlay took every string unseen until the file system was made.
    !overlayTakes((context) => fsconfigSetString(context, "denomount-probe", "1")),
  overlayDescriptors: () =>
    overlayTakes((context) => {
      using root = open("/", O_PATH);
      fsconfigSetFd(context, "lowerdir+", root.fd);
    }),
  detachedLayers: () => {
    using root = detachedTmpfs();
    for (const name of ["above", "below"]) mkdir(`/proc/self/fd/${root.fd}/${name}`, 0o700);
    using above = openat(root.fd, "above", O_PATH);
    using below = openat(root.fd, "below", O_PATH);
    return overlayTakes((context) => {
      for (const layer of [above, below]) fsconfigSetFd(context, "lowerdir+", layer.fd); // one alone is none
      fsconfigCreate(context);
    });
  },
  statmount: () =>
    works(() => {
      const wanted = STATMOUNT_MNT_OPTS | STATMOUNT_FS_SUBTYPE | STATMOUNT_SB_SOURCE;
      const { mask, mountId } = statx(AT_FDCWD, "/", 0, STATX_MNT_ID_UNIQUE);
      if (!(mask & STATX_MNT_ID_UNIQUE)) throw new TypeError("no unique mount id");
      // A bit comes back only where there is something to tell, so the source alone decides: it came last.
      if (!(statmount(mountId, wanted).mask & STATMOUNT_SB_SOURCE)) throw new TypeError("no source");
    }),
  pidfdNamespaces: () =>
    works(() => {
      using self = pidfdOpen(Deno.pid);
      new OwnedFd(ioctl(self.fd, PIDFD_GET_USER_NAMESPACE, 0)).close();
    }),
  mountEvents: () => works(() => fanotifyInit(FAN_REPORT_MNT | FAN_CLOEXEC).close()),
};

/** Failures of the moment, which may be gone at the next question. */
const passing = ["EMFILE", "ENFILE", "ENOMEM", "EINTR", "EAGAIN", "EBUSY"];
const known = new Map<Feature, boolean>();

/**
 * Whether this kernel has a feature, tried at the first question.
 *
 * Needs the permission `ffi`. The overlay features can only be tried with CAP_SYS_ADMIN; without it they count as
 * missing, and are tried again at the next question.
 *
 * @param feature which one.
 * @returns true where it works here.
 *
 * @example
 * ```ts
 * import { hasFeature } from "@denomount/mount/linux";
 *
 * console.log(hasFeature("statmount") ? "constant-time lookup" : "lookup reads the mount table");
 * ```
 */
export function hasFeature(feature: Feature): boolean {
  const answer = known.get(feature);
  if (answer !== undefined) return answer;
  try {
    const found = probes[feature]();
    known.set(feature, found);
    return found;
  } catch (error) {
    if (isErrno(error, "EPERM", "EACCES", "ENODEV", ...passing)) return false; // ask again later
    throw error;
  }
}

/**
 * What this kernel can do, each feature tried at the first question. Whatever is missing is done in an older way, or its
 * error says what it needs.
 *
 * Needs the permission `ffi`. The overlay features can only be tried with CAP_SYS_ADMIN: without it they count as missing.
 *
 * @returns true for each feature that works here.
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
    overlayLayers: hasFeature("overlayLayers"),
    overlayDescriptors: hasFeature("overlayDescriptors"),
    detachedLayers: hasFeature("detachedLayers"),
    statmount: hasFeature("statmount"),
    pidfdNamespaces: hasFeature("pidfdNamespaces"),
    mountEvents: hasFeature("mountEvents"),
  };
}

/**
 * Says that features are missing, until disposed of: the older ways can then be tried on a newer kernel.
 *
 * @param features which ones.
 * @returns gives them back at the end of its `using` scope.
 *
 * @example
 * ```ts
 * import { hasFeature, pretendMissing } from "@denomount/mount/linux";
 *
 * using _older = pretendMissing("openat2");
 * if (hasFeature("openat2")) throw new Error("it should be missing");
 * ```
 */
export function pretendMissing(...features: Feature[]): Disposable {
  const before = features.map((feature) => [feature, known.get(feature)] as const);
  for (const feature of features) known.set(feature, false);
  return {
    [Symbol.dispose]() {
      for (const [feature, answer] of before) {
        if (answer === undefined) known.delete(feature);
        else known.set(feature, answer);
      }
    },
  };
}

/**
 * Whether a mount can be given its attributes by a descriptor: before it is attached, and from another namespace.
 *
 * @returns false before Linux 5.12.
 */
export function usesMountSetattr(): boolean {
  return hasFeature("mountApi") && hasFeature("mountSetattr");
}

/**
 * Refuses to go on where this kernel has no id-mapped mounts.
 *
 * @throws {TypeError} before Linux 5.12.
 */
export function requireIdMapping(): void {
  if (usesMountSetattr()) return;
  throw new TypeError("id-mapped mounts need mount_setattr(2), which came with Linux 5.12");
}

/** Whether a call is there, though it may fail: a missing one says ENOSYS, a seccomp filter ENOSYS or EPERM. */
function exists(attempt: () => void): boolean {
  return works(attempt, "ENOSYS", "EPERM");
}

/** Whether an attempt works; with codes, whether it fails with none of them. */
function works(attempt: () => void, ...missing: string[]): boolean {
  try {
    attempt();
    return true;
  } catch (error) {
    if (isErrno(error, ...passing)) throw error; // says nothing about the kernel
    if (missing.length > 0) return !isErrno(error, ...missing);
    return false;
  }
}

/** A file system in memory that is mounted nowhere, and gone with its descriptor. */
function detachedTmpfs(): OwnedFd {
  using context = fsopen("tmpfs");
  fsconfigCreate(context.fd);
  return fsmount(context.fd, 0);
}

function overlayTakes(set: (context: number) => void): boolean {
  using context = fsopen("overlay");
  return works(() => set(context.fd));
}
