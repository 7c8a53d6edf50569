/**
 * Which paths a mount will change that is not attached yet: those that lead through its mountpoint, there and wherever
 * else the mount will be visible by propagation.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { OwnedFd, withDisposable } from "../../ffi/fd.ts";
import { listMountsInSteps } from "../mountinfo/list_mounts.ts";
import { statmountBy } from "../mountinfo/lookup.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { mountIdAt, statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { tryOpenCached } from "../path/cached_lookup.ts";
import type { MountTarget } from "../path/mount_target.ts";
import { isAtOrBelow, join, resolution } from "../path/path.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_STATX_DONT_SYNC,
  MS_SHARED,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_NO_MAGICLINKS,
  S_IFLNK,
  S_IFMT,
  STATMOUNT_MNT_BASIC,
  STATX_INO,
  STATX_TYPE,
} from "../syscalls/constants.ts";
import { readlink, type Statx, statx } from "../syscalls/mod.ts";

/** A component of a path. */
interface Component {
  /** Whether it is the directory that the mount will cover. */
  readonly isCovered: boolean;
  /** What a symbolic link leads to. */
  readonly link: string | undefined;
}

/** The paths that a mount will change. */
export class CoveredPaths {
  readonly #directory: string; // the inode
  readonly #components = new Map<string, Component | undefined>();
  #places: readonly string[] | undefined;

  /**
   * The paths that lead through a mountpoint.
   *
   * @param mountpoint the open directory that a mount will be attached on.
   * @param path its path, in its mount namespace.
   * @param isElsewhere whether that is another namespace than the one of the paths.
   */
  constructor(
    readonly mountpoint: MountTarget,
    readonly path: string,
    readonly isElsewhere: boolean,
  ) {
    this.#directory = inodeOf(look(mountpoint.fd));
  }

  /**
   * Whether what a path leads to will be the same once the mount is attached. The path is looked up in the dentry cache,
   * component by component: the mount will be visible wherever the inode of its mountpoint is on the way, at most.
   *
   * @param path the path.
   * @param recursive whether the mounts below the path matter too. Then the mount table may be read, in steps.
   * @returns false if it will be another file, or is not known: a path that is missing or not cached, or with a magic link.
   */
  *isUnaffected(path: string, recursive: boolean): Generator<void, boolean> {
    const found = this.#resolve(path);
    if (found === undefined || !recursive) return found !== undefined;
    const places = this.#places ??= yield* this.#findPlaces();
    return !places.some((place) => isAtOrBelow(place, found));
  }

  /** The path without symbolic links; undefined if it will be another file, or is not known. */
  #resolve(path: string): string | undefined {
    if (!path.startsWith("/")) return undefined;
    const whole = tryOpenCached(AT_FDCWD, path, O_PATH, RESOLVE_NO_MAGICLINKS);
    if (whole < 0) return undefined;
    new OwnedFd(whole).close();
    const steps = resolution("/", path);
    let step = steps.next();
    while (!step.done) {
      const component = this.#component(step.value);
      if (component === undefined || component.isCovered) return undefined;
      step = steps.next(component.link);
    }
    return step.value;
  }

  #component(path: string): Component | undefined {
    if (!this.#components.has(path)) this.#components.set(path, this.#lookUp(path));
    return this.#components.get(path);
  }

  #lookUp(path: string): Component | undefined {
    const fd = tryOpenCached(AT_FDCWD, path, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) return undefined;
    try {
      const found = withDisposable(new OwnedFd(fd), ({ fd }) => look(fd));
      // The kernel has just followed the link without waiting for a server.
      const link = (found.mode & S_IFMT) === S_IFLNK ? readlink(path) : undefined;
      return { isCovered: inodeOf(found) === this.#directory, link };
    } catch (error) {
      if (isErrno(error, "EACCES", "ENOENT", "EINVAL")) return undefined; // another user's FUSE mount; a link that is gone
      throw error;
    }
  }

  /** Where the mount will be visible: more places than that, but none less. */
  *#findPlaces(): Generator<void, readonly string[]> {
    const { mountpoint, path } = this;
    const mount = statxMountUniqueFd(mountpoint);
    const fields = mountpoint.run(() => statmountBy(mount, STATMOUNT_MNT_BASIC));
    if (fields && (fields.propagation & MS_SHARED) === 0) return [path];
    if (this.isElsewhere) return ["/"]; // its propagation can't be followed through other namespaces
    const table = yield* listMountsInSteps();
    const mountId = mountIdAt(mountpoint.fd, "");
    const own = table.find(({ id }) => id === mountId);
    if (own === undefined || !isAtOrBelow(path, own.mountpoint)) return ["/"];
    const inside = join(own.root, relative(path, own.mountpoint));
    const others = table.filter(({ major, minor }) => major === own.major && minor === own.minor);
    return [path, ...others.flatMap((other) => placeIn(other, inside))];
  }
}

/** Where a path of a file system is in one of its mounts. */
function placeIn({ root, mountpoint }: MountInfo, path: string): string[] {
  if (root.startsWith("/..")) return [mountpoint]; // fs/namespace.c: a root outside of what the reader's mount shows
  return isAtOrBelow(path, root) ? [join(mountpoint, relative(path, root))] : [];
}

function relative(path: string, above: string): string {
  return above === "/" ? path : path.slice(above.length) || "/";
}

function look(fd: number): Statx {
  return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO | STATX_TYPE);
}

function inodeOf({ devMajor, devMinor, inode }: Statx): string {
  return `${devMajor}:${devMinor}:${inode}`;
}
