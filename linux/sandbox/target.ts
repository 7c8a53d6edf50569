/**
 * Paths in the root directory that a box is to have: opened and made so that no symbolic link leads out of it.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  O_CREAT,
  O_EXCL,
  O_PATH,
  O_WRONLY,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  S_IFDIR,
  S_IFMT,
  STATX_BASIC_STATS,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { mkdir, open, openat2, statx } from "../syscalls/mod.ts";

/** The modes of what is made on the way to a path. */
export interface Modes {
  /** That of the directories above; 0755 if left out. */
  readonly above?: number;
  /** That of the last directory, if it is made; 0755 if left out. A file has 0444: something is mounted on it. */
  readonly last?: number;
}

/** The root directory of a box while it is made. */
export class BoxRoot {
  /** Its path, as the stage sees it. */
  readonly path: string;
  readonly #onMake: (target: string) => void;

  /**
   * Takes a directory as the root.
   *
   * @param path its path.
   * @param onMake gets each path in the box that is made to mount on.
   */
  constructor(path: string, onMake: (target: string) => void) {
    this.path = path;
    this.#onMake = onMake;
  }

  /**
   * Opens a path in the box.
   *
   * @param target the path, absolute in the box.
   * @param exact whether a symbolic link in it is an error; else it leads to where it leads in the box.
   * @returns its O_PATH descriptor, of what is mounted topmost.
   * @throws {SyscallError} ENOENT if it does not exist, ELOOP for a symbolic link.
   */
  open(target: string, exact = false): OwnedFd {
    using root = open(this.path, O_PATH); // again each time: a step may have mounted on it
    const resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (exact ? RESOLVE_NO_SYMLINKS : 0);
    for (let tries = 0;; tries++) {
      try {
        return openat2(root.fd, `./${target}`, O_PATH, resolve);
      } catch (error) {
        // A rename or mount anywhere on the machine makes a lookup in a root fail now and then.
        if (!isErrno(error, "EAGAIN") || tries >= MAX_TRIES) throw error;
      }
    }
  }

  /**
   * Opens a path in the box, and makes what is missing of it: directories, and at its end a directory or an empty file.
   *
   * @param target the path, absolute in the box.
   * @param isDirectory what is made at its end.
   * @param exact as for {@linkcode open}.
   * @param modes the modes of what is made.
   * @returns its O_PATH descriptor.
   * @throws {SyscallError} EROFS or EACCES if the file system of the box does not permit it.
   */
  make(target: string, isDirectory: boolean, exact = false, modes: Modes = {}): OwnedFd {
    const found = this.tryOpen(target, exact);
    if (found) return found;
    const names = target.split("/").filter((name) => name !== "");
    for (let depth = 1; depth <= names.length; depth++) {
      const path = `/${names.slice(0, depth).join("/")}`;
      using existing = this.tryOpen(path, exact);
      if (existing) continue;
      using parent = this.open(`/${names.slice(0, depth - 1).join("/")}`, exact);
      const name = `${fdPath(parent)}/${names[depth - 1]}`;
      if (depth < names.length) makeEntry(name, true, modes.above ?? 0o755);
      else makeEntry(name, isDirectory, isDirectory ? modes.last ?? 0o755 : 0o444);
      this.#onMake(path);
    }
    return this.open(target, exact);
  }

  /**
   * Opens the directory that a path is in, and makes what is missing of it.
   *
   * @param target the path, absolute in the box.
   * @param mode the mode of directories that are made; 0755 if left out.
   * @returns the directory, and the last name of the path.
   */
  makeParent(target: string, mode?: number): { parent: OwnedFd; name: string } {
    const end = target.replace(/\/+$/, "").lastIndexOf("/");
    const modes = mode === undefined ? {} : { above: mode, last: mode };
    const parent = this.make(target.slice(0, Math.max(end, 0)) || "/", true, false, modes);
    return { parent, name: target.replace(/\/+$/, "").slice(end + 1) };
  }

  /**
   * Opens a path in the box, if it exists.
   *
   * @param target the path, absolute in the box.
   * @param exact as for {@linkcode open}.
   * @returns its O_PATH descriptor; undefined if it does not exist.
   */
  tryOpen(target: string, exact = false): OwnedFd | undefined {
    try {
      return this.open(target, exact);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }
}

const MAX_TRIES = 100;

function makeEntry(path: string, isDirectory: boolean, mode: number): void {
  try {
    if (isDirectory) mkdir(path, mode);
    else open(path, O_WRONLY | O_CREAT | O_EXCL, mode).close();
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error; // another process has just made it; or a link that leads to nothing
  }
}

/**
 * The path of a descriptor in /proc, for a call that takes none.
 *
 * @param file the descriptor.
 * @returns its path.
 */
export function fdPath({ fd }: OwnedFd): string {
  return `/proc/self/fd/${fd}`;
}

/**
 * Identifies a file on this machine.
 *
 * @param file the descriptor.
 * @returns its device and inode number.
 */
export function fileId({ fd }: Pick<OwnedFd, "fd">): string {
  const { devMajor, devMinor, inode } = statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS);
  return `${devMajor}:${devMinor}:${inode}`;
}

/**
 * Whether a descriptor is that of a directory.
 *
 * @param file the descriptor.
 * @returns false for another file.
 */
export function isDirectory({ fd }: OwnedFd): boolean {
  return (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT) === S_IFDIR;
}
