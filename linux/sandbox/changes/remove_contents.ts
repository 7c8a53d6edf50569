/**
 * Empties a directory, by descriptors.
 *
 * @module
 */

import { isErrno } from "../../../ffi/errno.ts";
import { AT_REMOVEDIR, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY } from "../../syscalls/constants.ts";
import { chmod, getdents64Once, lseekStart, openat2, unlinkat } from "../../syscalls/mod.ts";
import { DirectoryStack, RESOLVE_INSIDE } from "./directory_stack.ts";
import { procPath } from "./marks.ts";
import { Turns } from "./turns.ts";

/**
 * Removes everything in a directory. No link is followed, and no mount is entered.
 *
 * @param fd the directory.
 * @throws {SyscallError} for what can't be removed.
 */
export async function removeContents(fd: number): Promise<void> {
  const turns = new Turns();
  const names: string[] = []; // of the directories of the stack
  using directories = new DirectoryStack(openat2(fd, ".", O_RDONLY | O_DIRECTORY, RESOLVE_INSIDE), O_RDONLY);
  for (;;) {
    if (turns.isOver) await turns.next();
    lseekStart(directories.fd);
    const some = getdents64Once(directories.fd);
    if (some !== undefined && some.length > 0) {
      const directory = some.find((name) => !tryUnlink(directories.fd, name));
      if (directory !== undefined) names.push(enter(directories, directory));
      continue;
    }
    const name = names.pop();
    if (name === undefined) return;
    directories.leave();
    unlinkat(directories.fd, name, AT_REMOVEDIR);
  }
}

/** Enters a directory whose mode may forbid it. */
function enter(directories: DirectoryStack, name: string): string {
  using found = openat2(directories.fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, RESOLVE_INSIDE);
  chmod(procPath(found.fd), 0o700);
  directories.enter(name);
  return name;
}

/** False for a directory. */
function tryUnlink(dirfd: number, name: string): boolean {
  try {
    unlinkat(dirfd, name, 0);
    return true;
  } catch (error) {
    if (!isErrno(error, "EISDIR")) throw error;
    return false;
  }
}
