/**
 * What an overlay's lower layers have at a path. A layer may be on a server that does not answer, and a name that is not
 * cached costs a read of the disk, so lookups that the dentry cache can't answer run on another thread.
 *
 * @module
 */

import { errnoNumber } from "../../../ffi/errno.ts";
import { OwnedFd, OwnedFds } from "../../../ffi/fd.ts";
import { openMayWait, tryOpenCached } from "../../path/cached_lookup.ts";
import { callOffThread, type WaitOptions } from "../../path/wait.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  S_IFCHR,
  S_IFMT,
  S_IFREG,
  STATX_BASIC_STATS,
} from "../../syscalls/constants.ts";
import { openat2OffThread, type Statx, statx, xattrsOffThread } from "../../syscalls/mod.ts";
import { DirectoryStack } from "./directory_stack.ts";
import { overlayPrefix, procPath, typeOf } from "./marks.ts";
import type { ReadChangesOptions } from "./types.ts";

/** A lower layer, down to the deepest directory of the walk's path that it has. */
interface Layer {
  readonly directories: DirectoryStack;
}

/** What the layers have at a name: the topmost that has it decides. */
export interface LowerEntry {
  /** Its fields. */
  readonly stat: Statx;
  /** The extended attributes of a directory. */
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
    const layers: OwnedFd[] = [];
    for (const path of paths) {
      layers.push(opened.add(await openMayWait(path, O_PATH | O_DIRECTORY, options)));
    }
    opened.release();
    return new Lower(layers.map((fd) => ({ directories: new DirectoryStack(fd, O_PATH) })), options);
  }

  /**
   * What the layers have in the current directory.
   *
   * @param name the name; "" for the directory itself.
   * @returns it; undefined if no layer has the name, or the topmost one that has it hides it.
   */
  async find(name: string): Promise<LowerEntry | undefined> {
    for (const { directories } of this.#current()) {
      using found = await this.#open(directories.fd, name);
      if (found === undefined) continue;
      const stat = lookAt(found.fd);
      const isAsked = typeOf(stat.mode) === "directory" || stat.size === 0;
      const attributes = isAsked ? await xattrsOffThread(procPath(found.fd)) : NONE;
      return this.#isWhiteout(stat, attributes) ? undefined : { stat, attributes };
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
    for (const { directories } of isOpaque ? [] : this.#current()) {
      using opened = new OwnedFds();
      const found = await this.#open(directories.fd, name);
      if (found === undefined) continue;
      opened.add(found);
      const stat = lookAt(found.fd);
      if (typeOf(stat.mode) !== "directory") break; // it hides the layers below
      opened.release();
      directories.push(found, name);
      const mark = (await xattrsOffThread(procPath(found.fd))).get(`${this.#prefix}opaque`);
      if (mark && new TextDecoder().decode(mark) === "y") break;
    }
    this.#depth++;
  }

  /** Leaves the current directory with the walk. */
  leave(): void {
    for (const { directories } of this.#current()) directories.leave();
    this.#depth--;
  }

  /** The layers that have the current directory, from top to bottom. */
  #current(): Layer[] {
    return this.#layers.filter(({ directories }) => directories.depth === this.#depth);
  }

  async #open(dirfd: number, name: string): Promise<OwnedFd | undefined> {
    const [path, flags] = [name || ".", O_PATH | O_NOFOLLOW];
    const cached = tryOpenCached(dirfd, path, flags, RESOLVE);
    if (cached >= 0) return new OwnedFd(cached);
    if (absent.includes(-cached)) return undefined;
    const start = () => openat2OffThread(dirfd, path, flags, RESOLVE);
    const fd = await callOffThread(start, this.#wait, "openat2", path, closeLate);
    return fd >= 0 ? new OwnedFd(fd) : undefined;
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

const NONE: ReadonlyMap<string, Uint8Array<ArrayBuffer>> = new Map();

function lookAt(fd: number): Statx {
  return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS);
}

function closeLate(fd: number): void {
  if (fd >= 0) new OwnedFd(fd).close();
}
