/**
 * Making the root directory of a box, step by step, in the stage: in new namespaces, with the host's mounts still there.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_RECURSIVE,
  LOCK_NB,
  LOCK_SH,
  MNT_DETACH,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  O_CREAT,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import {
  chmod,
  flock,
  fsmount,
  fsopen,
  ftruncate,
  getdents64,
  lockForReading,
  mountSetattr,
  open,
  openTree,
  pivotRoot,
  readlink,
  symlink,
  umount2,
  writeAll,
} from "../syscalls/mod.ts";
import {
  Building,
  cloneTree,
  createFilesystem,
  type LoadMountAll,
  newTmpfs,
  openSource,
  SAFE_ATTRIBUTES,
} from "./building.ts";
import { mountDev } from "./dev.ts";
import { mountOverlay } from "./overlay.ts";
import { coverHostProcs, mountProc } from "./proc.ts";
import type {
  BindStep,
  FileStep,
  HeldOverlay,
  HideStep,
  LockStep,
  MountStep,
  OverlayStep,
  Plan,
  Step,
} from "./steps.ts";
import { type BoxRoot, fdPath, fileId, isDirectory, type Modes } from "./target.ts";

/** A root directory that is made, and what has to be known of it. */
export interface BuiltRoot {
  /** Its overlays, each with a descriptor of its upper directory. */
  readonly overlays: readonly (HeldOverlay & { readonly upper: OwnedFd })[];
}

/**
 * Makes a root directory, and takes it as this process's.
 *
 * Needs CAP_SYS_ADMIN in the user namespace of this process's mount namespace, which no other process uses, and whose
 * mounts are private; Linux 5.12.
 *
 * @param plan the plan.
 * @param loadMountAll loads `mountAll()`, for a plan with a step that needs it.
 * @returns what was made.
 * @throws {StepError} for the step that failed.
 */
export async function buildRoot(plan: Plan, loadMountAll?: LoadMountAll): Promise<BuiltRoot> {
  const building = new Building(plan, loadMountAll);
  const umask = Deno.umask(0); // what is made has the modes of the steps
  for (const step of plan.steps) {
    try {
      await execute(step, building);
    } catch (error) {
      throw new StepError(step, error);
    }
  }
  Deno.umask(umask);
  Deno.chdir(building.root.path);
  pivotRoot(".", "."); // the old root is mounted on the new one now, and "." is its directory
  umount2(".", MNT_DETACH);
  Deno.chdir("/");
  return building;
}

/** A step that failed. */
export class StepError extends Error {
  /** "StepError". */
  override readonly name = "StepError";

  /**
   * Wraps the error of a step.
   *
   * @param step the step.
   * @param cause its error.
   */
  constructor(readonly step: Step, override readonly cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

async function execute(step: Step, building: Building): Promise<void> {
  const { root } = building;
  switch (step.kind) {
    case "bind":
      return bind(step, building);
    case "tmpfs": {
      using target = root.make(step.target, true);
      using tmpfs = newTmpfs(step.mode ?? 0o755, step.size);
      return building.attach(tmpfs, target);
    }
    case "overlay":
      return overlay(step, building);
    case "directory":
      return root.make(step.target, true, false, modesOf(step.mode)).close();
    case "file":
      return makeFile(step, building);
    case "symlink":
      return makeSymlink(step.target, step.to, root);
    case "chmod": {
      using target = root.open(step.target);
      return chmod(fdPath(target), step.mode);
    }
    case "hide":
      return hide(step, building);
    case "lock":
      return lock(step, building);
    case "pin": {
      using target = step.exact ? root.open(step.target, true) : root.make(step.target, true);
      using tree = openTree(target.fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE);
      return building.attach(tree, target);
    }
    case "lock-file": {
      using path = root.open(step.target);
      return lockForReading(building.kept.add(open(fdPath(path), O_RDONLY)).fd);
    }
    case "remount-readonly": {
      using target = root.open(step.target);
      return mountSetattr(target.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_RDONLY });
    }
    case "mount":
      return await mountOther(step, building);
    case "proc":
      return mountProc(step.target, building);
    case "dev":
      return mountDev(step.target, building, step.writable);
    case "mqueue":
      return mountMqueue(step.target, building);
    case "hide-proc":
      return coverHostProcs(building);
  }
}

function bind(step: BindStep, building: Building): void {
  using source = tryOpenSource(step);
  if (source === undefined) return;
  if (step.file !== undefined && fileId(source) !== step.file) {
    throw new Error("another file is at its path now than the descriptor has open");
  }
  const attributes = MOUNT_ATTR_NOSUID | (step.devices ? 0 : MOUNT_ATTR_NODEV) |
    (step.readonly ? MOUNT_ATTR_RDONLY : 0);
  using tree = cloneTree(source, attributes);
  using target = building.root.make(step.target, isDirectory(source), step.exact);
  building.attach(tree, target);
}

function tryOpenSource({ source, exact = false, optional }: BindStep): OwnedFd | undefined {
  try {
    return openSource(source, exact);
  } catch (error) {
    if (optional && isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

function overlay(step: OverlayStep, building: Building): void {
  const made = mountOverlay(step, building);
  if (made) building.overlays.push({ path: step.target, lower: step.lower, made: [], ...made });
}

function makeFile({ target, content, mode = 0o666, how = "create" }: FileStep, building: Building): void {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  if (how === "create") {
    const { parent, name } = building.root.makeParent(target, modesOf(mode).above);
    using _parent = parent;
    return writeFile(`${fdPath(parent)}/${name}`, bytes, mode);
  }
  const path = `${building.base}/empty/${crypto.randomUUID()}`;
  writeFile(path, bytes, mode);
  using source = open(path, O_PATH);
  using tree = cloneTree(source, SAFE_ATTRIBUTES | (how === "bind-readonly" ? MOUNT_ATTR_RDONLY : 0));
  using mountpoint = building.root.make(target, false, false, modesOf(mode));
  building.attach(tree, mountpoint);
}

/** What group and others may not enter, they need not reach. */
function modesOf(mode = 0o755): Modes {
  const withheld = ((mode & 0o070) === 0 ? 0o050 : 0) | ((mode & 0o007) === 0 ? 0o005 : 0);
  return { above: 0o755 & ~withheld, last: mode };
}

function writeFile(path: string, bytes: Uint8Array<ArrayBuffer>, mode: number): void {
  using file = open(path, O_WRONLY | O_CREAT, mode);
  ftruncate(file.fd, 0);
  writeAll(file.fd, bytes);
  chmod(path, mode);
}

function makeSymlink(target: string, to: string, root: BoxRoot): void {
  const { parent, name } = root.makeParent(target);
  using _parent = parent;
  const path = `${fdPath(parent)}/${name}`;
  try {
    symlink(to, path);
  } catch (error) {
    if (!isErrno(error, "EEXIST") || readlink(path) !== to) throw error;
  }
}

function hide({ target, held = false, optional = false, exact }: HideStep, building: Building): void {
  using mountpoint = held
    ? building.root.make(target, true, exact)
    : optional
    ? building.root.tryOpen(target, exact)
    : building.root.open(target, exact);
  if (mountpoint === undefined) return;
  const kind = isDirectory(mountpoint) ? "directory" : "file";
  using source = open(`${building.base}/empty/${kind}`, O_PATH);
  using tree = cloneTree(source, SAFE_ATTRIBUTES | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY);
  building.attach(tree, mountpoint);
}

/** Without the permission to read it, it can't be seen whether it is empty, and it can't be locked. */
function lock({ target, exact }: LockStep, building: Building): void {
  using directory = building.root.tryOpen(target, exact);
  if (directory === undefined || !isDirectory(directory)) return;
  try {
    const file = building.kept.add(open(fdPath(directory), O_RDONLY | O_DIRECTORY));
    if (getdents64(file.fd).length > 0) file.close();
    else flock(file.fd, LOCK_SH | LOCK_NB);
  } catch (error) {
    if (!isErrno(error, "EACCES", "EMFILE", "ENFILE", "EAGAIN")) throw error;
  }
}

async function mountOther({ mount }: MountStep, building: Building): Promise<void> {
  const mountAll = await building.loadMountAll();
  const target = mount.target ?? "/";
  building.root.make(target, true).close();
  await mountAll([mount], building.root.path);
  using mounted = building.root.open(target);
  mountSetattr(mounted.fd, "", AT_EMPTY_PATH | AT_RECURSIVE, { set: SAFE_ATTRIBUTES });
}

function mountMqueue(path: string, building: Building): void {
  using target = building.root.make(path, true);
  using context = fsopen("mqueue");
  createFilesystem(context);
  using mounted = fsmount(context.fd, SAFE_ATTRIBUTES | MOUNT_ATTR_NOEXEC);
  building.attach(mounted, target);
}
