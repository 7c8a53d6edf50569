/**
 * The overlays of a box: they hold back what commands write below a directory.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { shown, unescapeOctal } from "../../ffi/text.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  MOUNT_ATTR_RDONLY,
  MOVE_MOUNT_F_EMPTY_PATH,
  O_PATH,
  O_RDONLY,
  STATX_BASIC_STATS,
} from "../syscalls/constants.ts";
import {
  chmod,
  fchownat,
  fsconfigSetFlag,
  fsconfigSetString,
  fsmount,
  fsopen,
  mkdir,
  moveMount,
  open,
  readAll,
  statx,
} from "../syscalls/mod.ts";
import {
  type Building,
  cloneTree,
  createFilesystem,
  newTmpfs,
  openSource,
  SAFE_ATTRIBUTES,
} from "./building.ts";
import type { OverlayStep } from "./steps.ts";
import { fdPath, isDirectory } from "./target.ts";

const FEW_LAYERS = 8; // as /proc/self/fd/N, in the 255 bytes of one option

/**
 * Mounts an overlay. An overlay shows its lower layer without the mounts below: those of an exact step are bound
 * read-only at their places.
 *
 * @param step the step.
 * @param building what is made.
 * @returns the upper directory; undefined for an overlay without one.
 */
export function mountOverlay(
  step: OverlayStep,
  building: Building,
): { upper: OwnedFd; usesUserXattr: boolean } | undefined {
  using opened = new OwnedFds();
  const { exact = false } = step;
  const lower = step.lower.map((path) => opened.add(openSource(path, exact)));
  const writable = openUpper(step, lower[0], building, opened);
  const usesUserXattr = step.userxattr ?? isInUserNamespace();
  using context = fsopen("overlay");
  fsconfigSetString(context.fd, "source", "overlay");
  if (lower.length <= FEW_LAYERS) {
    fsconfigSetString(context.fd, "lowerdir", lower.map(fdPath).join(":"));
  } else for (const layer of lower) fsconfigSetString(context.fd, "lowerdir+", fdPath(layer)); // Linux 6.5
  if (writable) {
    fsconfigSetString(context.fd, "upperdir", fdPath(writable.upper));
    fsconfigSetString(context.fd, "workdir", fdPath(writable.work));
  }
  // Without these, the upper directory tells all that has changed, file by file. overlayfs takes "nofollow" beside
  // userxattr, and not "off", which follows redirects if a module parameter says so.
  for (const feature of ["metacopy", "index"]) fsconfigSetString(context.fd, feature, "off");
  fsconfigSetString(context.fd, "redirect_dir", "nofollow");
  if (usesUserXattr) fsconfigSetFlag(context.fd, "userxattr");
  try {
    createFilesystem(context);
  } catch (error) {
    throw explainLocked(error, step, building) ?? error;
  }
  using mounted = fsmount(context.fd, SAFE_ATTRIBUTES);
  {
    using target = building.root.make(step.target, true, exact);
    building.attach(mounted, target);
  }
  for (const path of exact ? step.lower : []) bindMountsBelow(path, building);
  return writable && { upper: open(fdPath(writable.upper), O_PATH), usesUserXattr };
}

/** has_locked_children() of fs/namespace.c: a user namespace must not see what the mounts of its parent cover. */
function explainLocked(error: unknown, { lower }: OverlayStep, building: Building): SyscallError | undefined {
  if (!isErrno(error, "EINVAL") || !isInUserNamespace()) return undefined;
  const below = lower.flatMap((path) => mountpointsBelow(path, building.base))[0];
  if (below === undefined) return undefined;
  const reason = `only root can overlay a directory with mounts in it: ${shown(below)} is a mountpoint`;
  return new SyscallError({ syscall: error.syscall, errno: error.errno, reason });
}

function openUpper(
  { upper }: OverlayStep,
  lower: OwnedFd | undefined,
  building: Building,
  opened: OwnedFds,
): { upper: OwnedFd; work: OwnedFd } | undefined {
  if (upper === undefined) return undefined;
  if (upper !== "memory") {
    return { upper: opened.add(open(upper.upper, O_PATH)), work: opened.add(open(upper.work, O_PATH)) };
  }
  const directory = `${building.base}/overlay-${building.overlays.length}`;
  mkdir(directory, 0o755);
  using tmpfs = newTmpfs(0o755);
  moveMount(tmpfs.fd, "", AT_FDCWD, directory, MOVE_MOUNT_F_EMPTY_PATH);
  const [data, work] = ["upper", "work"].map((name) => {
    mkdir(`${directory}/${name}`, 0o755);
    return opened.add(open(`${directory}/${name}`, O_PATH));
  });
  if (data === undefined || work === undefined) return undefined;
  if (lower) copyOwner(lower, data);
  return { upper: data, work };
}

/** The root directory of an overlay has the mode and the owner of its upper directory. */
function copyOwner(from: OwnedFd, to: OwnedFd): void {
  const { mode, uid, gid } = statx(from.fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS);
  try {
    fchownat(to.fd, "", uid, gid, AT_EMPTY_PATH);
  } catch (error) {
    if (!isErrno(error, "EPERM", "EINVAL")) throw error; // an id that the user namespace does not map
  }
  chmod(fdPath(to), mode & 0o7777);
}

/** Without this, what is mounted below would be missing in the box. */
function bindMountsBelow(path: string, building: Building): void {
  for (const mountpoint of mountpointsBelow(path, building.base)) {
    try {
      using source = openSource(mountpoint, true);
      using target = building.root.open(mountpoint, true);
      if (isDirectory(source) !== isDirectory(target)) continue;
      using tree = cloneTree(source, SAFE_ATTRIBUTES | MOUNT_ATTR_RDONLY);
      building.attach(tree, target);
    } catch (error) {
      // It is hidden by another mount, or not for this user; the box then shows the directory that it is mounted on.
      if (!isErrno(error, "ENOENT", "ENOTDIR", "EACCES", "ELOOP")) throw error;
    }
  }
}

/** The topmost mountpoints below a path: a recursive bind of one brings those below it. */
function mountpointsBelow(path: string, base: string): string[] {
  using table = open("/proc/self/mountinfo", O_RDONLY);
  const prefix = path === "/" ? "/" : `${path}/`;
  const all = new TextDecoder().decode(readAll(table.fd)).split("\n")
    .map((line) => unescapeOctal(line.split(" ")[4] ?? "")) // proc_pid_mountinfo(5)
    .filter((mountpoint) =>
      mountpoint.startsWith(prefix) && mountpoint !== path && mountpoint !== base &&
      !mountpoint.startsWith(`${base}/`)
    );
  const found: string[] = [];
  for (const mountpoint of [...new Set(all)].sort()) {
    if (!found.some((above) => mountpoint.startsWith(`${above}/`))) found.push(mountpoint);
  }
  return found;
}

/** Outside of the initial one, overlayfs may not use trusted.overlay.* attributes. */
function isInUserNamespace(): boolean {
  using map = open("/proc/self/uid_map", O_RDONLY);
  return !/^\s*0\s+0\s+4294967295\s*$/.test(new TextDecoder().decode(readAll(map.fd)));
}
