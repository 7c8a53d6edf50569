/**
 * What an overlay's lower layers have at a path. A layer may be on a server that does not answer: there, lookups that the
 * dentry cache can't answer run on another thread.
 *
 * @module
 */

import { errnoNumber } from "../../../ffi/errno.ts";
import { OwnedFd, OwnedFds } from "../../../ffi/fd.ts";
import { openMayWait, tryOpenCached } from "../../path/cached_lookup.ts";
import { callOffThread, type WaitOptions } from "../../path/wait.ts";
import {
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  S_IFCHR,
  S_IFMT,
  S_IFREG,
  TMPFS_MAGIC,
} from "../../syscalls/constants.ts";
import {
  openat2OffThread,
  statfsOffThread,
  type Statx,
  tryOpenat2,
  xattrsOffThread,
} from "../../syscalls/mod.ts";
import { DirectoryStack } from "./directory_stack.ts";
import { lookAt, overlayPrefix, procPath, typeOf } from "./marks.ts";
import type { ReadChangesOptions } from "./types.ts";

/** A lower layer, down to the deepest directory of the walk's path that it has. */
interface Layer {
  readonly directories: DirectoryStack;
  /** For each directory of the stack, whether it is on a file system that no server has to answer for. */
  readonly local: boolean[];
}

/** A file of a layer. */
interface Found {
  readonly fd: OwnedFd;
  readonly isLocal: boolean;
}

/** What the layers have at a name: the topmost that has it decides. */
export interface LowerEntry {
  /** Its fields. */
  readonly stat: Statx;
  /** The extended attributes of a directory that is not the root. */
  readonly attributes: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** The lower layers of an overlay, at the directory in which a walk of its upper directory is. */
export class Lower implements Disposable {
  readonly #layers: Layer[];
  readonly #prefix: string;
  readonly #wait: WaitOptions;
  #depth = 0;

  private constructor(layers: Layer[], options: ReadChangesOptions) {
    this.#layers = layers;
    this.#prefix = overlayPrefix(options.userxattr);
    this.#wait = options;
  }

  /**
   * Opens the layers.
   *
   * @param options the paths, the timeout and the signal.
   * @returns the layers, at their roots; undefined if none is given.
   * @throws {SyscallError} for a layer that can't be opened.
   */
  static async open(options: ReadChangesOptions): Promise<Lower | undefined> {
    if (options.lower === undefined) return undefined;
    const paths = typeof options.lower === "string" ? [options.lower] : options.lower;
    using opened = new OwnedFds();
    const layers: Found[] = [];
    for (const path of paths) {
      const fd = opened.add(await openMayWait(path, O_PATH | O_DIRECTORY, options));
      layers.push({ fd, isLocal: await isLocal(fd.fd, path, options) });
    }
    opened.release();
    const layerOf = ({ fd, isLocal }: Found) => ({
      directories: new DirectoryStack(fd, O_PATH),
      local: [isLocal],
    });
    return new Lower(layers.map(layerOf), options);
  }

  /**
   * What the layers have in the current directory.
   *
   * @param name the name; "" for the directory itself.
   * @returns it; undefined if no layer has the name, or the topmost one that has it hides it.
   */
  async find(name: string): Promise<LowerEntry | undefined> {
    for (const layer of this.#current()) {
      const opened = await this.#open(layer, name);
      if (opened === undefined) continue;
      using found = opened.fd;
      const stat = lookAt(found.fd);
      const isAsked = name !== "" && (typeOf(stat.mode) === "directory" || stat.size === 0);
      const attributes = isAsked ? await this.#attributes(found.fd, name) : NONE;
      return this.#isWhiteout(stat, attributes) ? undefined : { stat, attributes };
    }
    return undefined;
  }

  /**
   * Opens what the layers have in the current directory.
   *
   * @param name the name.
   * @returns an O_PATH descriptor; undefined if {@linkcode find} finds nothing.
   */
  async open(name: string): Promise<OwnedFd | undefined> {
    if (await this.find(name) === undefined) return undefined;
    for (const layer of this.#current()) {
      const found = await this.#open(layer, name);
      if (found) return found.fd;
    }
    return undefined;
  }

  /**
   * Enters a directory with the walk.
   *
   * @param name its name.
   * @param isOpaque whether the upper directory hides what the layers have in it.
   */
  async enter(name: string, isOpaque: boolean): Promise<void> {
    for (const layer of isOpaque ? [] : this.#current()) {
      const found = await this.#open(layer, name);
      if (found === undefined) continue;
      using opened = new OwnedFds();
      opened.add(found.fd);
      if (typeOf(lookAt(found.fd.fd).mode) !== "directory") break; // it hides the layers below
      const mark = (await this.#attributes(found.fd.fd, name)).get(`${this.#prefix}opaque`);
      opened.release();
      layer.directories.push(found.fd, name);
      layer.local.push(found.isLocal);
      if (mark && new TextDecoder().decode(mark) === "y") break;
    }
    this.#depth++;
  }

  /** Leaves the current directory with the walk. */
  leave(): void {
    for (const { directories, local } of this.#current()) {
      directories.leave();
      local.pop();
    }
    this.#depth--;
  }

  /** The layers that have the current directory, from top to bottom. */
  #current(): Layer[] {
    return this.#layers.filter(({ directories }) => directories.depth === this.#depth);
  }

  async #open({ directories, local }: Layer, name: string): Promise<Found | undefined> {
    const [path, flags, dirfd] = [name || ".", O_PATH | O_NOFOLLOW, directories.fd];
    const isLocal = local.at(-1) ?? false;
    const known = isLocal
      ? tryOpenat2(dirfd, path, flags, RESOLVE | RESOLVE_NO_XDEV)
      : tryOpenCached(dirfd, path, flags, RESOLVE);
    if (known >= 0) return { fd: new OwnedFd(known), isLocal };
    if (absent.includes(-known)) return undefined;
    const start = () => openat2OffThread(dirfd, path, flags, RESOLVE);
    const fd = await callOffThread(start, this.#wait, "openat2", path, closeLate);
    return fd >= 0 ? { fd: new OwnedFd(fd), isLocal: false } : undefined;
  }

  #attributes(fd: number, name: string): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
    return callOffThread(() => xattrsOffThread(procPath(fd)), this.#wait, "listxattr", name || ".");
  }

  #isWhiteout(stat: Statx, attributes: ReadonlyMap<string, unknown>): boolean {
    const type = stat.mode & S_IFMT;
    if (type === S_IFCHR) return stat.rdevMajor === 0 && stat.rdevMinor === 0;
    return type === S_IFREG && stat.size === 0 && attributes.has(`${this.#prefix}whiteout`);
  }

  /** Closes the layers. */
  [Symbol.dispose](): void {
    for (const { directories } of this.#layers) directories[Symbol.dispose]();
  }
}

/** Unlike in the upper directory, mounts are entered: a lower directory may show other mounts, as overlay's does not. */
const RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

const absent = ["ENOENT", "ENOTDIR", "EACCES", "ENAMETOOLONG"].map(errnoNumber);

/** Magic numbers of file systems on which a lookup waits for a disk at most (linux/magic.h). */
const LOCAL: readonly number[] = [
  TMPFS_MAGIC,
  0xef53, // EXT4_SUPER_MAGIC
  0x58465342, // XFS_SUPER_MAGIC
  0x9123683e, // BTRFS_SUPER_MAGIC
  0xe0f5e1e2, // EROFS_SUPER_MAGIC_V1
  0x73717368, // SQUASHFS_MAGIC
];

/** Asks on another thread: statfs(2) may wait for a server without end. */
async function isLocal(fd: number, path: string, wait: WaitOptions): Promise<boolean> {
  const found = await callOffThread(() => statfsOffThread(procPath(fd)), wait, "statfs", path);
  return found !== undefined && LOCAL.includes(found.type);
}

const NONE: ReadonlyMap<string, Uint8Array<ArrayBuffer>> = new Map();

function closeLate(fd: number): void {
  if (fd >= 0) new OwnedFd(fd).close();
}
