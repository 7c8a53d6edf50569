/**
 * Images that an entry needs: the `mkfs/` modifier.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { quote, shown } from "../../ffi/text.ts";
import { findProgram, runHelper } from "../path/program.ts";
import { dirname, join } from "../path/path.ts";
import {
  AT_EMPTY_PATH,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_RDWR,
  S_IFMT,
  S_IFREG,
  STATX_BASIC_STATS,
} from "../syscalls/constants.ts";
import { ftruncate, link, lseekStart, open, read, readlink, statx, unlink } from "../syscalls/mod.ts";
import { openPlace, type Place, statPlace } from "./allowed_roots.ts";
import { FailedPreconditionError } from "./errors.ts";
import { callAt, fileId, type Making, pathOf } from "./made.ts";
import type { MkfsRequest } from "./mkfs_options.ts";

/** A program that makes a file system, and how to know that it did. */
interface Maker {
  readonly program: string;
  readonly package: string;
  readonly args: readonly string[];
  readonly uuid: (uuid: string) => string[];
  /** The superblock's magic number, and where it is in the image. */
  readonly magic: { readonly at: number; readonly bytes: readonly number[] };
}

const EXT_MAGIC = { at: 1024 + 56, bytes: [0x53, 0xef] }; // fs/ext4/ext4.h, s_magic

function ext(type: string): Maker {
  return {
    program: `mkfs.${type}`,
    package: "e2fsprogs",
    args: ["-q"],
    uuid: (uuid) => ["-U", uuid],
    magic: EXT_MAGIC,
  };
}

const MAKERS: Readonly<Record<MkfsRequest["fs"], Maker>> = {
  ext2: ext("ext2"),
  ext3: ext("ext3"),
  ext4: ext("ext4"),
  xfs: {
    program: "mkfs.xfs",
    package: "xfsprogs",
    args: ["-q"],
    uuid: (uuid) => ["-m", `uuid=${uuid}`],
    magic: { at: 0, bytes: [0x58, 0x46, 0x53, 0x42] }, // fs/xfs/libxfs/xfs_format.h, XFS_SB_MAGIC
  },
  btrfs: {
    program: "mkfs.btrfs",
    package: "btrfs-progs",
    args: ["-q"],
    uuid: (uuid) => ["-U", uuid],
    magic: { at: 0x10040, bytes: [0x5f, 0x42, 0x48, 0x52, 0x66, 0x53, 0x5f, 0x4d] }, // fs/btrfs, BTRFS_MAGIC
  },
};

/**
 * Makes an image with a file system unless its file exists. The image gets its name when it is complete.
 *
 * @param path the file.
 * @param request the file system.
 * @param making where it may be made, and the log.
 * @throws {FailedPreconditionError} if what has the name is no regular file.
 * @throws {TypeError} for a path that is not in an allowed root.
 * @throws {Error} if the program is not installed, with its package, or fails, with its message.
 */
export async function makeImage(path: string, request: MkfsRequest, making: Making): Promise<void> {
  using place = await openPlace(making.roots, path, "mkfs", making.wait);
  await making.log.add({ kind: "file", path, isOwned: false }); // before the look: see unlinkUnused()
  if (exists(place)) return;
  const program = requireProgram(MAKERS[request.fs]);
  const temporary = { ...place, name: `.${place.name.slice(0, 100)}.${making.unique}` };
  const temporaryPath = join(dirname(path), temporary.name);
  await making.log.add({ kind: "file", path: temporaryPath, isOwned: true });
  {
    using file = callAt(place, () => open(pathOf(temporary), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o640));
    try {
      ftruncate(file.fd, request.size, path);
      await format(file, path, program, request, making);
      await making.log.add({ kind: "file", path, isOwned: true, file: fileId(statFile(file)) });
      if (!tryLink(temporary, place)) await making.log.add({ kind: "file", path, isOwned: false });
    } finally {
      unlink(pathOf(temporary));
    }
  }
  await making.log.remove(temporaryPath); // not after a failure: what is in the log is removed then
  if (!exists(place)) {
    throw new FailedPreconditionError(`mkfs ${quote(path)}: another process has removed the image`);
  }
}

function exists(place: Place): boolean {
  const found = statPlace(place);
  if (found === undefined) return false;
  if ((found.mode & S_IFMT) === S_IFREG) return true;
  throw new FailedPreconditionError(`mkfs ${quote(place.path)}: what is there is no regular file`);
}

/** False if another process has made a file of that name first: it stays as it is. */
function tryLink(temporary: Place, place: Place): boolean {
  try {
    callAt(place, (path) => link(pathOf(temporary), path));
    return true;
  } catch (error) {
    if (isErrno(error, "EEXIST")) return false;
    throw error;
  }
}

function requireProgram({ program, package: name }: Maker): string {
  const found = findProgram(program);
  if (found === undefined) throw new Error(`${program} is not installed: install the package ${name}`);
  return found;
}

async function format(
  file: OwnedFd,
  path: string,
  program: string,
  { fs, uuid }: MkfsRequest,
  { wait: { signal } }: Making,
): Promise<void> {
  const { args, uuid: uuidArgs, magic, program: name } = MAKERS[fs];
  const given = uuid === undefined ? [] : uuidArgs(uuid);
  const { code, said } = await runHelper(program, [...args, ...given, pathForOthers(file)], {
    timeout: Infinity,
    signal,
  });
  // Without an exit status, in a process that ignores SIGCHLD, the superblock tells whether it worked.
  if ((code ?? 0) === 0 && hasMagic(file, magic)) return;
  const [sentence = ""] = said.split(/\n*Usage:/, 1);
  const reason = sentence === "" ? `its exit status is ${code ?? "not known"}` : shown(sentence, 1000);
  throw new Error(`${name} can't make the image ${quote(path)}: ${reason}`);
}

function hasMagic(file: OwnedFd, { at, bytes }: Maker["magic"]): boolean {
  const start = new Uint8Array(at + bytes.length);
  lseekStart(file.fd);
  return read(file.fd, start) === start.length && bytes.every((byte, index) => start[at + index] === byte);
}

/**
 * A path by which a child process opens this process's descriptor: the image has no path that another user could not
 * replace. /proc may count processes in another PID namespace.
 */
function pathForOthers(file: OwnedFd): string {
  const path = `/proc/${readlink("/proc/self")}/fd/${file.fd}`;
  const same = fileId(statx(-1, path, 0, STATX_BASIC_STATS)) === fileId(statFile(file));
  if (!same) throw new Error("/proc shows the processes of another PID namespace");
  return path;
}

function statFile(file: OwnedFd) {
  return statx(file.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS);
}
