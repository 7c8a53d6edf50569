/**
 * A minimal /dev: the devices that programs can't do without, terminals of its own, and shared memory.
 *
 * @module
 */

import {
  AT_EMPTY_PATH,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  O_PATH,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import {
  fsconfigSetString,
  fsmount,
  fsopen,
  mountSetattr,
  open,
  openTree,
  symlink,
} from "../syscalls/mod.ts";
import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { type Building, cloneTree, createFilesystem, newTmpfs } from "./building.ts";
import { fdPath } from "./target.ts";

const NODES = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: readonly [name: string, to: string][] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
  ["core", "/proc/kcore"],
  ["ptmx", "pts/ptmx"],
];

/**
 * Mounts a minimal /dev. Nothing can be made in it: it is read-only but for its shm.
 *
 * @param path where, in the box.
 * @param building what is made.
 * @param writable whether files can be made in it all the same.
 */
export function mountDev(path: string, building: Building, writable = false): void {
  const { root } = building;
  const inside = (name: string) => `${path}/${name}`;
  {
    using target = root.make(path, true);
    using tmpfs = newTmpfs(0o755);
    building.attach(tmpfs, target);
  }
  for (const name of NODES) {
    using source = open(`/dev/${name}`, O_PATH);
    using tree = cloneTree(source, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    using target = root.make(inside(name), false);
    building.attach(tree, target);
  }
  using dev = root.open(path);
  for (const [name, to] of LINKS) symlink(to, `${fdPath(dev)}/${name}`);
  {
    using target = root.make(inside("shm"), true);
    using tmpfs = newTmpfs(0o1777);
    building.attach(tmpfs, target);
  }
  {
    using target = root.make(inside("pts"), true);
    using pts = newDevpts(building.plan.devpts);
    building.attach(pts, target);
  }
  if (!writable) mountSetattr(dev.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_RDONLY });
}

/** The kernel mounts a devpts only where the user id 0 is mapped, so an ordinary user's is mounted before the stage starts. */
function newDevpts(mounted: string | undefined): OwnedFd {
  if (mounted !== undefined) {
    using opened = new DisposableStack();
    using source = open(mounted, O_PATH);
    const tree = opened.use(openTree(source.fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH));
    mountSetattr(tree.fd, "", AT_EMPTY_PATH, { set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC });
    opened.move();
    return tree;
  }
  try {
    return createDevpts({ ptmxmode: "0666", mode: "0620", gid: "5" }); // the group tty, as on the host
  } catch (error) {
    if (!isErrno(error, "EINVAL")) throw error;
    return createDevpts({ ptmxmode: "0666", mode: "0620" }); // the user namespace does not map it
  }
}

function createDevpts(options: Record<string, string>): OwnedFd {
  using context = fsopen("devpts");
  fsconfigSetString(context.fd, "source", "devpts");
  for (const [key, value] of Object.entries(options)) fsconfigSetString(context.fd, key, value);
  createFilesystem(context);
  return fsmount(context.fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
}
