/**
 * A copy of an upper directory, which can be a layer of another overlay.
 *
 * @module
 */

import { tryMkdir } from "../../path/try_mkdir.ts";
import { errnoNumber, SyscallError } from "../../../ffi/errno.ts";
import { ensureAnswers, openMayWait } from "../../path/cached_lookup.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  S_IFCHR,
  S_IFMT,
} from "../../syscalls/constants.ts";
import {
  chmod,
  fchownat,
  ftruncate,
  getdents64Once,
  getxattr,
  linkat,
  mkdirat,
  mknodat,
  openat,
  openat2,
  readlinkat,
  rmdir,
  setxattr,
  type Statx,
  symlinkat,
  utimensat,
} from "../../syscalls/mod.ts";
import { openFile } from "./contents.ts";
import { copyContent } from "./copy_content.ts";
import { DirectoryStack, openBelow, RESOLVE_INSIDE } from "./directory_stack.ts";
import { UnsupportedEntryError } from "./error.ts";
import { attributeNames, lookAt, overlayPrefix, procPath } from "./marks.ts";
import { removeContents } from "./remove_contents.ts";
import type { Upper, UpperOptions } from "./types.ts";
import { openUpper, type UpperEntry, walkUpper, withPath } from "./upper.ts";

/**
 * Copies an overlay's upper directory into a new or empty directory, with owners, modes, times, extended attributes, hard
 * links, holes, devices and sockets.
 *
 * The copy has overlay's own form, so that it can be the lower or upper layer of another overlay: a whiteout is a
 * character device 0:0, or an empty file with overlay's attribute `whiteout`; an opaque directory has overlay's attribute
 * `opaque`. Mount it with `userxattr` if the upper directory was. Overlay's other attributes are left out. Files that
 * change meanwhile may be a mixture.
 *
 * Needs the permission `ffi`, access to the files, the capabilities to make what the upper directory has (CAP_CHOWN,
 * CAP_MKNOD, CAP_SYS_ADMIN for `trusted.` attributes), and Linux 5.8 to make whiteouts without CAP_MKNOD.
 *
 * @param upper the upper directory: its path, or a descriptor.
 * @param directory the directory to copy into: an empty one, or a new one in an existing directory.
 * @param options `userxattr`, the signal, and the timeout for both paths in milliseconds.
 * @throws {SyscallError} ENOTEMPTY if the directory has files; the errno of what failed, with its path below the upper
 * directory. What was copied is then removed again.
 * @throws {UnsupportedEntryError} for a file without its content, of an overlay mounted with `metacopy=on`; for a directory
 * that is inside the upper one.
 *
 * @example
 * ```ts
 * import { keepChanges } from "@denomount/mount/sandbox";
 *
 * const directory = await Deno.makeTempDir();
 * await Deno.mkdir(`${directory}/upper`); // of an overlay
 * await keepChanges(`${directory}/upper`, `${directory}/changes`);
 * await Deno.remove(directory, { recursive: true });
 * ```
 */
export async function keepChanges(
  upper: Upper,
  directory: string,
  options: UpperOptions = {},
): Promise<void> {
  using root = await openUpper(upper, options);
  using target = await openTarget(directory, options);
  try {
    using copy = new Copy(target.fd, options);
    for await (const entry of walkUpper(root.fd, options)) {
      if (entry.step === "leave") copy.leave();
      else await copy.add(entry);
    }
  } catch (error) {
    await target.undo();
    throw error;
  }
}

/** The directory to copy into. */
interface Target extends Disposable {
  readonly fd: number;
  /** Removes what was copied. */
  undo(): Promise<void>;
}

async function openTarget(path: string, options: UpperOptions): Promise<Target> {
  await ensureAnswers(path, options); // before mkdir(2), which would wait without end
  const isNew = tryMkdir(path, 0o700);
  using stack = new DisposableStack();
  if (isNew) stack.defer(() => rmdir(path));
  const fd = stack.use(await openMayWait(path, O_RDONLY | O_DIRECTORY, options));
  const before = lookAt(fd.fd);
  if (!isNew && !isEmpty(fd.fd)) {
    throw new SyscallError({ syscall: "getdents64", errno: errnoNumber("ENOTEMPTY"), path });
  }
  stack.move();
  return {
    fd: fd.fd,
    async undo() {
      await removeContents(fd.fd);
      if (isNew) rmdir(path);
      else setMetadata(fd.fd, before, new Map());
    },
    [Symbol.dispose]: () => fd.close(),
  };
}

function isEmpty(fd: number): boolean {
  for (let some = getdents64Once(fd); some !== undefined; some = getdents64Once(fd)) {
    if (some.length > 0) return false;
  }
  return true;
}

type Attributes = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/** A copy that is being made. */
class Copy implements Disposable {
  readonly #prefix: string;
  readonly #signal: AbortSignal | undefined;
  readonly #to: DirectoryStack;
  readonly #inode: string;
  /** What the directories get when all is in them. */
  readonly #directories: { stat: Statx; attributes: Attributes; path: string }[] = [];
  readonly #links = new Map<string, string>();

  constructor(target: number, options: UpperOptions) {
    this.#prefix = overlayPrefix(options.userxattr);
    this.#signal = options.signal;
    this.#to = new DirectoryStack(openat2(target, ".", O_RDONLY | O_DIRECTORY, RESOLVE_INSIDE), O_RDONLY);
    this.#inode = inodeOf(lookAt(target));
  }

  async add(entry: UpperEntry): Promise<void> {
    const { path, name, type, stat, fd } = entry;
    if (type === "directory") return this.#directory(entry);
    const first = this.#firstName(entry);
    if (first !== undefined) return withPath(path, () => this.#link(first, name));
    const attributes = this.#attributes(entry);
    if (type === "file" || type === "whiteout" && (stat.mode & S_IFMT) !== S_IFCHR) {
      await this.#file(entry);
    } else if (type === "symlink") {
      withPath(path, () => symlinkat(readlinkat(fd, ""), this.#to.fd, name));
    } else {
      const mode = stat.mode & S_IFMT | 0o600;
      withPath(path, () => mknodat(this.#to.fd, name, mode, stat.rdevMajor, stat.rdevMinor));
    }
    withPath(path, () => {
      using made = openat(this.#to.fd, name, O_PATH | O_NOFOLLOW);
      setMetadata(made.fd, stat, attributes);
    });
  }

  leave(): void {
    const made = this.#directories.pop();
    if (made === undefined) throw new TypeError("no directory to leave");
    withPath(made.path, () => setMetadata(this.#to.fd, made.stat, made.attributes));
    if (this.#to.depth > 0) this.#to.leave();
  }

  #directory(entry: UpperEntry): void {
    const { path, name, stat } = entry;
    if (inodeOf(stat) === this.#inode) {
      throw new UnsupportedEntryError(
        path,
        "is the directory to copy into: choose one outside of the upper directory",
      );
    }
    this.#directories.push({ stat, path, attributes: this.#attributes(entry) });
    if (path === "") return;
    withPath(path, () => {
      mkdirat(this.#to.fd, name, 0o700);
      this.#to.enter(name);
    });
  }

  async #file({ path, name, stat, fd }: UpperEntry): Promise<void> {
    using from = withPath(path, () => openFile(fd));
    using to = withPath(
      path,
      () => openat(this.#to.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600),
    );
    withPath(path, () => ftruncate(to.fd, stat.size));
    await copyContent(from.fd, to.fd, { size: stat.size, path, signal: this.#signal });
  }

  /** The first name of a file with several; undefined for the first itself, and for whiteouts: overlay links all of them. */
  #firstName({ type, path, stat }: UpperEntry): string | undefined {
    if (type === "whiteout" || stat.links < 2) return undefined;
    const first = this.#links.get(inodeOf(stat));
    if (first === undefined) this.#links.set(inodeOf(stat), path);
    return first;
  }

  #link(first: string, name: string): void {
    const names = first.split("/");
    using parent = openBelow(this.#to.root, names.slice(0, -1), O_PATH | O_DIRECTORY);
    linkat(parent.fd, names.at(-1) ?? "", this.#to.fd, name);
  }

  #attributes({ fd, path, type }: UpperEntry): Attributes {
    const found = new Map<string, Uint8Array<ArrayBuffer>>();
    if (type === "whiteout" && (lookAt(fd).mode & S_IFMT) === S_IFCHR) return found;
    for (const name of withPath(path, () => attributeNames(fd))) {
      if (name === `${this.#prefix}metacopy`) {
        throw new UnsupportedEntryError(path, "has no content: mount the overlay with metacopy=off");
      }
      if (this.#isKept(name)) found.set(name, withPath(path, () => getxattr(procPath(fd), name)));
    }
    return found;
  }

  /** Overlay's own attributes say where it copied a file from: of another overlay that is not true. */
  #isKept(name: string): boolean {
    if (!name.startsWith(this.#prefix)) return true;
    const own = name.slice(this.#prefix.length);
    return own === "opaque" || own === "whiteout" || own.startsWith("overlay."); // overlay's escape for a user's
  }

  [Symbol.dispose](): void {
    this.#to[Symbol.dispose]();
  }
}

/** Owner, attributes, mode, times: each would change one of those before it. */
function setMetadata(fd: number, stat: Statx, attributes: Attributes): void {
  const now = lookAt(fd);
  const path = procPath(fd);
  if (now.uid !== stat.uid || now.gid !== stat.gid) fchownat(fd, "", stat.uid, stat.gid, AT_EMPTY_PATH);
  for (const [name, value] of attributes) setxattr(path, name, value);
  if (lookAt(fd).mode !== stat.mode) chmod(path, stat.mode & 0o7777);
  utimensat(AT_FDCWD, path, stat, 0);
}

function inodeOf({ devMajor, devMinor, inode }: Statx): string {
  return `${devMajor}:${devMinor}:${inode}`;
}
