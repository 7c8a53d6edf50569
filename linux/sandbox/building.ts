/**
 * Where the root directory of a box is made, and what all steps use.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOSUID,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  MS_PRIVATE,
  MS_UNBINDABLE,
  O_CREAT,
  O_DIRECTORY,
  O_PATH,
  O_WRONLY,
  OPEN_TREE_CLONE,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
} from "../syscalls/constants.ts";
import {
  fsconfigCreate,
  fsconfigSetString,
  fsmount,
  fsopen,
  mkdir,
  mountSetattr,
  moveMount,
  open,
  openat2,
  openTree,
  readKernelMessages,
} from "../syscalls/mod.ts";
import type { mountAll } from "../mount/mount.ts";
import type { HeldOverlay, Plan, Step } from "./steps.ts";
import { BoxRoot } from "./target.ts";

/** The attributes that every mount of a box has. */
export const SAFE_ATTRIBUTES: number = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/** Loads `mountAll()`, and all of the library with it. */
export type LoadMountAll = () => Promise<typeof mountAll>;

/** Where the root directory is made, and what the steps share. */
export class Building {
  /** The root directory of the box. */
  readonly root: BoxRoot;
  /** A tmpfs beside it, which the box never sees. */
  readonly base: string;
  /** The plan. */
  readonly plan: Plan;
  /** Descriptors that are open for as long as the box exists: locks. */
  readonly kept: OwnedFds = new OwnedFds();
  /** The overlays so far. */
  readonly overlays: (HeldOverlay & { upper: OwnedFd; made: string[] })[] = [];
  /** Mountpoints of the box's own proc. */
  readonly procs: string[] = [];
  /** Loads `mountAll()`. */
  readonly loadMountAll: LoadMountAll;

  /**
   * Mounts the tmpfs, and in it another one as the root directory.
   *
   * @param plan the plan.
   * @param loadMountAll loads `mountAll()`.
   */
  constructor(
    plan: Plan,
    loadMountAll: LoadMountAll = () => Promise.reject(new Error("the stage has no mountAll()")),
  ) {
    this.plan = plan;
    this.loadMountAll = loadMountAll;
    this.base = chooseBase(plan.steps);
    {
      using base = newTmpfs(0o755);
      moveMount(base.fd, "", AT_FDCWD, this.base, MOVE_MOUNT_F_EMPTY_PATH);
      // A recursive bind of the host's root directory leaves it out.
      mountSetattr(base.fd, "", AT_EMPTY_PATH, { propagation: MS_UNBINDABLE });
    }
    for (const name of ["root", "empty"]) {
      mkdir(`${this.base}/${name}`, 0o755);
      using tmpfs = newTmpfs(0o755);
      moveMount(tmpfs.fd, "", AT_FDCWD, `${this.base}/${name}`, MOVE_MOUNT_F_EMPTY_PATH);
    }
    mkdir(`${this.base}/empty/directory`, 0o555);
    open(`${this.base}/empty/file`, O_WRONLY | O_CREAT, 0o444).close();
    this.root = new BoxRoot(`${this.base}/root`, (target) => this.#noteMade(target));
  }

  /** A directory that an overlay got is no change of its command. */
  #noteMade(target: string): void {
    for (const { path, made } of this.overlays) {
      if (path === "/" || target.startsWith(`${path}/`)) {
        made.push(target.slice(path.length).replace(/^\//, ""));
      }
    }
  }

  /**
   * Attaches a detached mount to a path of the box.
   *
   * @param mounted the mount.
   * @param target the open mountpoint.
   */
  attach(mounted: OwnedFd, target: OwnedFd): void {
    moveMount(mounted.fd, "", target.fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  }
}

/** A directory that no source of a step is in: what is mounted there hides what is below. */
function chooseBase(steps: readonly Step[]): string {
  const used = JSON.stringify(steps.filter(({ kind }) => ["bind", "overlay", "mount"].includes(kind)));
  const found = BASES.find((directory) => {
    if (used.includes(`"${directory}"`) || used.includes(`${directory}/`)) return false;
    try {
      open(directory, O_PATH | O_DIRECTORY).close();
      return true;
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return false;
      throw error;
    }
  });
  if (found !== undefined) return found;
  throw new Error(`a box is made at one of ${BASES.join(", ")}, and its mounts use all that exist`);
}

const BASES = [
  "/sys/kernel",
  "/sys/fs",
  "/dev/shm",
  "/run",
  "/tmp",
  "/mnt",
  "/media",
  "/srv",
  "/opt",
  "/var",
];

/**
 * A new detached tmpfs.
 *
 * @param mode the mode of its root directory.
 * @param size its size in bytes; half of the memory if left out.
 * @returns the detached mount.
 */
export function newTmpfs(mode: number, size?: number): OwnedFd {
  using context = fsopen("tmpfs");
  fsconfigSetString(context.fd, "source", "tmpfs");
  fsconfigSetString(context.fd, "mode", mode.toString(8));
  if (size !== undefined) fsconfigSetString(context.fd, "size", String(size));
  createFilesystem(context);
  return fsmount(context.fd, SAFE_ATTRIBUTES);
}

/**
 * Creates a configured file system; an error has the kernel's messages.
 *
 * @param context the context.
 */
export function createFilesystem(context: OwnedFd): void {
  try {
    fsconfigCreate(context.fd);
  } catch (error) {
    const messages = readKernelMessages(context.fd).join("; ");
    if (!(error instanceof SyscallError) || messages === "") throw error;
    throw new SyscallError({ syscall: error.syscall, errno: error.errno, reason: messages });
  }
}

/**
 * Opens a path of the host.
 *
 * @param path the path.
 * @param exact whether a symbolic link in it is an error.
 * @returns its O_PATH descriptor.
 */
export function openSource(path: string, exact: boolean): OwnedFd {
  if (!exact) return open(path, O_PATH);
  return openat2(AT_FDCWD, path, O_PATH, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

/**
 * Clones a tree of mounts of the host, with attributes.
 *
 * @param source the open path.
 * @param attributes the attributes that all mounts of the clone get.
 * @returns the detached clone.
 */
export function cloneTree(source: OwnedFd, attributes: number): OwnedFd {
  using opened = new DisposableStack();
  const tree = opened.use(openTree(source.fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE));
  mountSetattr(tree.fd, "", AT_EMPTY_PATH | AT_RECURSIVE, { set: attributes, propagation: MS_PRIVATE });
  opened.move();
  return tree;
}
