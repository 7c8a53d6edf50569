/**
 * Directories that an entry needs: the `mkdir/` modifier.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { quote } from "../../ffi/text.ts";
import { procFdPath } from "../path/mount_target.ts";
import { AT_EMPTY_PATH, O_DIRECTORY, O_NOFOLLOW, O_PATH, S_IFDIR, S_IFMT } from "../syscalls/constants.ts";
import { chmod, fchownat, mkdir, openat, type Statx } from "../syscalls/mod.ts";
import { openPlace, type Place, statPlace } from "./allowed_roots.ts";
import { FailedPreconditionError } from "./errors.ts";
import { callAt, type Making } from "./made.ts";
import type { MkdirRequest } from "./mkdir_options.ts";

/**
 * Makes a directory. Its parent must exist.
 *
 * @param request the directory.
 * @param making where it may be made, and the log.
 * @throws {FailedPreconditionError} if a file has the name, or a directory with another mode or owner than asked for.
 * @throws {TypeError} for a path that is not in an allowed root.
 */
export async function makeDirectory(request: MkdirRequest, making: Making): Promise<void> {
  using place = await openPlace(making.roots, request.path, "mkdir", making.wait);
  const found = statPlace(place);
  if (found !== undefined) return checkExisting(request, found);
  await making.log.add({ kind: "directory", path: request.path, isOwned: true });
  if (!tryMkdir(place)) {
    await making.log.remove(request.path);
    const other = statPlace(place);
    if (other !== undefined) checkExisting(request, other);
    return;
  }
  using directory = openat(place.parent.fd, place.name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  const { mode = 0o700, uid, gid } = request;
  if (uid !== undefined && gid !== undefined) fchownat(directory.fd, "", uid, gid, AT_EMPTY_PATH);
  chmod(procFdPath(directory), mode); // the umask has cleared bits
}

/** False if another process has made it first. */
function tryMkdir(place: Place): boolean {
  try {
    callAt(place, (path) => mkdir(path, 0o700));
    return true;
  } catch (error) {
    if (isErrno(error, "EEXIST")) return false;
    throw error;
  }
}

function checkExisting({ path, mode, uid, gid }: MkdirRequest, found: Statx): void {
  if ((found.mode & S_IFMT) !== S_IFDIR) {
    throw new FailedPreconditionError(`mkdir ${quote(path)}: what is there is no directory`);
  }
  const has = found.mode & 0o7777;
  if (mode !== undefined && has !== mode) {
    throw new FailedPreconditionError(
      `mkdir ${quote(path)}: the directory has mode ${octal(has)}, not ${octal(mode)}`,
    );
  }
  if (uid !== undefined && gid !== undefined && (found.uid !== uid || found.gid !== gid)) {
    const owner = `${found.uid}:${found.gid}`;
    throw new FailedPreconditionError(
      `mkdir ${quote(path)}: the directory belongs to ${owner}, not ${uid}:${gid}`,
    );
  }
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}
