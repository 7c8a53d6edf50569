/**
 * The proc file system of a box, and those of the host that a bind has brought in.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { unescapeOctal } from "../../ffi/text.ts";
import {
  AT_EMPTY_PATH,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  OPEN_TREE_CLONE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  STATX_BASIC_STATS,
  STATX_MNT_ID,
} from "../syscalls/constants.ts";
import {
  fsconfigSetString,
  fsmount,
  fsopen,
  getdents64,
  mountSetattr,
  open,
  openat,
  openTree,
  readAll,
  statx,
} from "../syscalls/mod.ts";
import { type Building, cloneTree, createFilesystem, SAFE_ATTRIBUTES } from "./building.ts";
import { fdPath, isDirectory } from "./target.ts";

const PROC_ATTRIBUTES = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/**
 * Mounts a proc of this process's PID namespace. All in it that is not of a process is read-only: root without any
 * capability may write most of /proc/sys, and /proc/sysrq-trigger.
 *
 * @param path where, in the box.
 * @param building what is made.
 */
export function mountProc(path: string, building: Building): void {
  using target = building.root.make(path, true);
  using context = fsopen("proc");
  fsconfigSetString(context.fd, "source", "proc");
  createFilesystem(context);
  using mounted = fsmount(context.fd, PROC_ATTRIBUTES);
  building.attach(mounted, target);
  building.procs.push(path);
  using proc = building.root.open(path);
  using directory = open(fdPath(proc), O_RDONLY | O_DIRECTORY);
  for (const name of getdents64(directory.fd)) {
    if (!/^\d+$/.test(name)) makeReadonly(proc.fd, name, building);
  }
}

function makeReadonly(proc: number, name: string, building: Building): void {
  using entry = openat(proc, name, O_PATH | O_NOFOLLOW);
  const { mode } = statx(entry.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS);
  const type = mode & S_IFMT;
  if (type === S_IFLNK || (type !== S_IFDIR && (mode & 0o222) === 0)) return;
  using tree = openTree(entry.fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
  mountSetattr(tree.fd, "", AT_EMPTY_PATH, { set: PROC_ATTRIBUTES | MOUNT_ATTR_RDONLY });
  building.attach(tree, entry);
}

/**
 * Mounts an empty directory on each proc that is not the box's own. /proc/PID/root of a host process without capabilities
 * leads to the host's root directory, where nothing is read-only.
 *
 * @param building what is made.
 */
export function coverHostProcs(building: Building): void {
  for (const { id, mountpoint } of hostProcs(building)) {
    try {
      using mounted = building.root.open(mountpoint, true);
      if (Number(statx(mounted.fd, "", AT_EMPTY_PATH, STATX_MNT_ID).mountId) !== id) continue; // it is covered already
      const kind = isDirectory(mounted) ? "directory" : "file";
      using source = open(`${building.base}/empty/${kind}`, O_PATH);
      using tree = cloneTree(source, SAFE_ATTRIBUTES | MOUNT_ATTR_RDONLY);
      building.attach(tree, mounted);
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) throw error; // another mount hides the way to it
    }
  }
}

function hostProcs({ root, procs }: Building): { id: number; mountpoint: string }[] {
  using table = open("/proc/self/mountinfo", O_RDONLY);
  const prefix = `${root.path}/`;
  return new TextDecoder().decode(readAll(table.fd)).split("\n").flatMap((line) => {
    const [id = "", , , , escaped = ""] = line.split(" "); // proc_pid_mountinfo(5)
    const path = unescapeOctal(escaped);
    if (!/ - proc /.test(line) || !path.startsWith(prefix)) return [];
    const mountpoint = path.slice(root.path.length);
    return procs.some((own) => mountpoint === own || mountpoint.startsWith(`${own}/`))
      ? []
      : [{ id: Number(id), mountpoint }];
  });
}
