/**
 * The open directories of a walk, from its root to the current one. A path would be too long for a system call below
 * some thousand directories, and a rename could lead it elsewhere.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../../ffi/errno.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  STATX_INO,
} from "../../syscalls/constants.ts";
import { openat2, statx } from "../../syscalls/mod.ts";

const MOST_OPEN = 64; // directories; a process may have 1,024 descriptors

/** Resolution of one name, or of names below a directory: no link is followed, no mount is entered. */
export const RESOLVE_INSIDE: number = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
  RESOLVE_NO_XDEV;

/** A directory of the stack; its descriptor is closed if many are below it. */
interface Level {
  fd: OwnedFd | undefined;
  readonly name: string;
  readonly inode: string;
}

/** The directories from the root of a walk to the current one, of which the root and the last 64 are open. */
export class DirectoryStack implements Disposable {
  readonly #flags: number;
  readonly #levels: Level[] = [];

  /**
   * Begins a walk.
   *
   * @param root its directory, which this object closes.
   * @param flags the `O_…` flags that directories are opened with, besides O_DIRECTORY.
   */
  constructor(root: OwnedFd, flags: number) {
    this.#flags = flags | O_DIRECTORY | O_NOFOLLOW;
    this.#levels.push({ fd: root, name: "", inode: inodeOf(root) });
  }

  /** How many directories are between the root and the current one, itself included; 0 at the root. */
  get depth(): number {
    return this.#levels.length - 1;
  }

  /** The descriptor of the current directory. */
  get fd(): number {
    const top = this.#levels.at(-1)?.fd;
    if (top === undefined) throw new TypeError("the directory is closed");
    return top.fd;
  }

  /** The descriptor of the root. */
  get root(): number {
    const root = this.#levels[0]?.fd;
    if (root === undefined) throw new TypeError("the directory is closed");
    return root.fd;
  }

  /**
   * Opens a directory in the current one, and makes it the current one.
   *
   * @param name its name.
   * @throws {SyscallError} if it is gone, or no directory.
   */
  enter(name: string): void {
    this.push(openat2(this.fd, name, this.#flags, RESOLVE_INSIDE), name);
  }

  /**
   * Makes a directory the current one.
   *
   * @param directory a directory in the current one, which this object closes.
   * @param name its name.
   */
  push(directory: OwnedFd, name: string): void {
    this.#levels.push({ fd: directory, name, inode: inodeOf(directory) });
    const far = this.#levels.at(-1 - MOST_OPEN);
    if (far === this.#levels[0]) return;
    far?.fd?.close();
    if (far) far.fd = undefined;
  }

  /**
   * Goes back to the directory above.
   *
   * @throws {SyscallError} ESTALE if it was closed, and is neither above the current one nor at its path any more:
   * another process has moved or removed it. Its parent is then the next to go back to.
   */
  leave(): void {
    const left = this.#levels.pop();
    using _below = left?.fd; // closed after `..` is opened
    const level = this.#levels.at(-1);
    if (level === undefined || level.fd !== undefined) return;
    level.fd = this.#reopen(left?.fd, level);
  }

  #reopen(below: OwnedFd | undefined, level: Level): OwnedFd {
    const ways = [
      () => below && openat2(below.fd, "..", this.#flags, RESOLVE_NO_SYMLINKS),
      () => openBelow(this.root, this.#levels.slice(1).map(({ name }) => name), this.#flags),
    ];
    for (const open of ways) {
      const found = tryOpen(open);
      if (found && inodeOf(found) === level.inode) return found;
      found?.close();
    }
    throw new SyscallError({ syscall: "openat2", errno: errnoNumber("ESTALE"), path: level.name });
  }

  /** Closes all directories. */
  [Symbol.dispose](): void {
    for (const { fd } of this.#levels.splice(0)) fd?.close();
  }
}

function tryOpen(open: () => OwnedFd | undefined): OwnedFd | undefined {
  try {
    return open();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return undefined;
  }
}

function inodeOf(directory: OwnedFd): string {
  const { devMajor, devMinor, inode } = statx(
    directory.fd,
    "",
    AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
    STATX_INO,
  );
  return `${devMajor}:${devMinor}:${inode}`;
}

/**
 * Opens what is below a directory, name by name: a path may be longer than a system call takes.
 *
 * @param root the directory.
 * @param names the names that lead to it; none for the directory itself.
 * @param flags the `O_…` flags of the last.
 * @returns its descriptor.
 * @throws {SyscallError} if a name is gone, or one before the last is no directory.
 */
export function openBelow(root: number, names: readonly string[], flags: number): OwnedFd {
  let at = openat2(root, ".", names.length === 0 ? flags : O_PATH | O_DIRECTORY, RESOLVE_INSIDE);
  for (const [index, name] of names.entries()) {
    using parent = at;
    const isLast = index === names.length - 1;
    at = openat2(parent.fd, name, isLast ? flags : O_PATH | O_DIRECTORY | O_NOFOLLOW, RESOLVE_INSIDE);
  }
  return at;
}
