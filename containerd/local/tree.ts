/**
 * Measuring and deleting the trees of snapshots, by descriptors: no link is followed, and no mount is entered.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  S_IFDIR,
  S_IFMT,
  STATX_BASIC_STATS,
} from "../../linux/syscalls/constants.ts";
import { getdents64, openat2, type Statx, statx, unlinkat } from "../../linux/syscalls/mod.ts";
import type { SnapshotUsage } from "../snapshotter.ts";

const BLOCK = 512; // bytes of a unit of st_blocks
const TURN = 500; // entries, some milliseconds, until other calls get their turn

/**
 * Measures a tree.
 *
 * @param path its directory.
 * @param signal ends the walk.
 * @returns what it takes on the disk: the blocks and the inodes, a file with several names once.
 */
export async function usageOf(path: string, signal?: AbortSignal): Promise<SnapshotUsage> {
  const seen = new Set<string>();
  const usage = { size: 0, inodes: 0 };
  const turns = new Turns(signal);
  const count = ({ devMajor, devMinor, inode, links, mode, blocks }: Statx) => {
    if (links > 1 && !isDirectory(mode)) {
      const file = `${devMajor}:${devMinor}:${inode}`;
      if (seen.has(file)) return;
      seen.add(file);
    }
    usage.size += blocks * BLOCK;
    usage.inodes++;
  };
  const visit = async (directory: OwnedFd): Promise<void> => {
    for (const name of getdents64(directory.fd)) {
      await turns.next();
      const stat = present(() => statx(directory.fd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS));
      if (stat === undefined) continue; // a container that runs has removed it
      count(stat);
      if (!isDirectory(stat.mode)) continue;
      using child = present(() => openDirectory(directory.fd, name));
      if (child !== undefined) await visit(child);
    }
  };
  using top = openDirectory(AT_FDCWD, path);
  count(statx(top.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS));
  await visit(top);
  return usage;
}

/**
 * Deletes a tree.
 *
 * @param parent the directory that it is in.
 * @param name its name.
 * @throws {SyscallError} EXDEV or EBUSY if something is mounted in it, which stays; with another errno of unlinkat(2).
 */
export async function removeTree(parent: OwnedFd, name: string): Promise<void> {
  const turns = new Turns();
  const remove = async (parent: OwnedFd, name: string): Promise<void> => {
    {
      using directory = openDirectory(parent.fd, name);
      for (const child of getdents64(directory.fd)) {
        await turns.next();
        if (isDirectory(statx(directory.fd, child, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS).mode)) {
          await remove(directory, child);
        } else unlinkat(directory.fd, child, 0);
      }
    }
    unlinkat(parent.fd, name, AT_REMOVEDIR);
  };
  await remove(parent, name);
}

function openDirectory(dirfd: number, name: string): OwnedFd {
  const resolve = dirfd === AT_FDCWD ? RESOLVE_NO_SYMLINKS : RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  return openat2(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, resolve);
}

const isDirectory = (mode: number) => (mode & S_IFMT) === S_IFDIR;

/** Undefined for what is gone, or has become another file, or a mount. */
function present<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ENOTDIR", "ELOOP", "EXDEV")) throw error;
    return undefined;
  }
}

/** Lets the event loop run on during a long walk. */
class Turns {
  readonly #signal: AbortSignal | undefined;
  #count = 0;

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  async next(): Promise<void> {
    if (++this.#count % TURN !== 0) return;
    await new Promise((resolve) => setTimeout(resolve));
    this.#signal?.throwIfAborted();
  }
}
