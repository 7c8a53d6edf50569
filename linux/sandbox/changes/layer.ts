/**
 * An upper directory as a layer of an OCI image.
 *
 * @module
 */

import { SEEK_SET } from "../../syscalls/constants.ts";
import { isErrno } from "../../../ffi/errno.ts";
import { getxattr, lseek, read, readlinkat, readOffThread } from "../../syscalls/mod.ts";
import { openFile } from "./contents.ts";
import { UnsupportedEntryError } from "./error.ts";
import { dataOf } from "./extents.ts";
import { attributeNames, lookAt, overlayPrefix, procPath } from "./marks.ts";
import { type TarEntry, TarWriter } from "./tar_writer.ts";
import { Turns } from "./turns.ts";
import type { FileType, Upper, UpperOptions } from "./types.ts";
import { openUpper, type UpperEntry, walkUpper, withPath } from "./upper.ts";

/** How a layer is written. */
export interface ExportLayerOptions extends UpperOptions {
  /** Leaves the stream open at the end, and not aborted after an error. */
  readonly preventClose?: boolean | undefined;
}

/** What a layer has. */
export interface ExportedLayer {
  /** The number of its entries, whiteouts included. */
  entries: number;
  /** Its size in bytes, not compressed. */
  bytes: number;
  /** The paths of sockets, which are left out: an archive has no form for them, and they serve nothing without their process. */
  sockets: string[];
}

/**
 * Writes the changes of an overlay as a layer of an OCI image: an uncompressed tar archive in the pax format, with
 * whiteouts as `.wh.NAME` and opaque directories as `.wh..wh..opq`.
 *
 * Owners, modes, times with nanoseconds, hard links, devices, names of any bytes and extended attributes are kept. Left
 * out are sockets, overlay's own attributes, any other attribute with the name of one, and SELinux' label. A hole is
 * written as zeros. The memory does not grow with the files: it holds the names of the directories that lead to the
 * current file, and a path for each file with several names. Files that change meanwhile are written with the size that
 * they had when they were opened.
 *
 * Needs the permission `ffi`, access to the files, and for an overlay without `userxattr` CAP_SYS_ADMIN.
 *
 * @param upper the upper directory: its path, or a descriptor.
 * @param writable gets the archive; it is closed at the end, or aborted with the error.
 * @param options `userxattr`, `preventClose`, the signal, and the timeout for the path of `upper` in milliseconds.
 * @returns what the layer has.
 * @throws {UnsupportedEntryError} for a name that begins with `.wh.`, which would remove another file where the layer is
 * unpacked; for a file without its content, of an overlay mounted with `metacopy=on`.
 * @throws {SyscallError} for a file that can't be read, with its path below the upper directory.
 *
 * @example
 * ```ts
 * import { exportLayer } from "@denomount/mount/sandbox";
 *
 * const directory = await Deno.makeTempDir();
 * await Deno.mkdir(`${directory}/upper`); // of an overlay
 * const file = await Deno.create(`${directory}/layer.tar`);
 * const { entries, sockets } = await exportLayer(`${directory}/upper`, file.writable); // closes the file
 * console.log(entries, sockets);
 * await Deno.remove(directory, { recursive: true });
 * ```
 */
export async function exportLayer(
  upper: Upper,
  writable: WritableStream<Uint8Array>,
  options: ExportLayerOptions = {},
): Promise<ExportedLayer> {
  const writer = writable.getWriter();
  try {
    using root = await openUpper(upper, options);
    const { TarHeader } = await import("../deps.ts");
    const layer = new Layer(new TarWriter(writer, TarHeader, new Turns(options.signal)), options);
    for await (const entry of walkUpper(root.fd, options)) {
      if (entry.step === "enter") await layer.add(entry);
      else layer.leave();
    }
    const result = await layer.end();
    if (!options.preventClose) await writer.close();
    return result;
  } catch (error) {
    if (!options.preventClose) await writer.abort(error).catch(() => {}); // the stream may be the cause
    throw error;
  } finally {
    writer.releaseLock();
  }
}

const tarTypes: ReadonlyMap<FileType | "whiteout", TarEntry["type"]> = new Map([
  ["file", "File"],
  ["directory", "Directory"],
  ["symlink", "SymbolicLink"],
  ["fifo", "FIFO"],
  ["char", "CharacterDevice"],
  ["block", "BlockDevice"],
]);

const MARK = ".wh."; // of a whiteout, OCI image-spec layer.md
const OPAQUE = ".wh..wh..opq";
const SMALL = 256 * 1024; // bytes that are read on this thread
const CHUNK = 1024 * 1024;

/** The entries of a layer. */
class Layer {
  readonly #tar: TarWriter;
  readonly #prefix: string;
  readonly #links = new Map<string, string>();
  /** For each directory that leads to the current file, whether nothing below it is of the lower directory. */
  readonly #hides: boolean[] = [];
  readonly #buffer = new Uint8Array(CHUNK);
  readonly #result: ExportedLayer = { entries: 0, bytes: 0, sockets: [] };

  constructor(tar: TarWriter, options: ExportLayerOptions) {
    this.#tar = tar;
    this.#prefix = overlayPrefix(options.userxattr);
  }

  async end(): Promise<ExportedLayer> {
    await this.#tar.end();
    return { ...this.#result, bytes: this.#tar.bytes };
  }

  leave(): void {
    this.#hides.pop();
  }

  async add(entry: UpperEntry): Promise<void> {
    const isHidden = this.#hides.at(-1) ?? false;
    if (entry.type === "directory") this.#hides.push(isHidden || entry.isOpaque && entry.path !== "");
    if (entry.name.startsWith(MARK)) {
      throw new UnsupportedEntryError(
        entry.path,
        `would be a whiteout in a layer, because its name begins with "${MARK}"`,
      );
    }
    if (entry.type === "whiteout") return await this.#mark(entry.path, MARK + entry.name);
    if (entry.type === "socket") {
      this.#result.sockets.push(entry.path);
      // It hides what the lower directory may have. In a directory of this layer alone, overlay would list a whiteout.
      return isHidden ? undefined : await this.#mark(entry.path, MARK + entry.name);
    }
    const first = this.#firstName(entry);
    if (first !== undefined) return await this.#header(entry, "Link", 0, { target: first });
    if (entry.type === "file") return await this.#file(entry);
    const { rdevMajor, rdevMinor } = entry.stat;
    await this.#header(entry, tarTypes.get(entry.type) ?? "File", 0, {
      attributes: this.#attributes(entry),
      ...entry.type === "symlink" ? { target: readlinkat(entry.fd, "") } : {},
      ...entry.type === "char" || entry.type === "block" ? { device: [rdevMajor, rdevMinor] } : {},
    });
    if (entry.isOpaque && entry.path !== "") await this.#mark(`${entry.path}/`, OPAQUE);
  }

  /** The first name of a file with several; undefined for the first itself. */
  #firstName({ type, path, stat }: UpperEntry): string | undefined {
    if (type === "directory" || stat.links < 2) return undefined;
    const key = `${stat.devMajor}:${stat.devMinor}:${stat.inode}`;
    const first = this.#links.get(key);
    if (first === undefined) this.#links.set(key, path);
    return first;
  }

  async #mark(path: string, name: string): Promise<void> {
    const parent = path.slice(0, path.lastIndexOf("/") + 1);
    this.#result.entries++;
    const none = { mode: 0, uid: 0, gid: 0, size: 0, mtime: 0, mtimeNsec: 0 };
    await this.#tar.header({ path: parent + name, type: "File", ...none });
  }

  async #header(
    { path, type, stat }: UpperEntry,
    tarType: TarEntry["type"],
    size: number,
    more: Partial<TarEntry>,
  ): Promise<void> {
    const { uid, gid, mtime, mtimeNsec } = stat;
    this.#result.entries++;
    await this.#tar.header({
      path: type === "directory" ? `${path || "."}/` : path,
      type: tarType,
      mode: stat.mode & 0o7777,
      uid,
      gid,
      size,
      mtime,
      mtimeNsec,
      ...more,
    });
  }

  async #file(entry: UpperEntry): Promise<void> {
    const attributes = this.#attributes(entry);
    using file = withPath(entry.path, () => openFile(entry.fd));
    const stat = lookAt(file.fd);
    await this.#header({ ...entry, stat }, "File", stat.size, { attributes });
    let at = 0;
    for (const { offset, end } of dataOf(file.fd, stat.size)) {
      await this.#tar.zeros(offset - at);
      at = offset + await this.#data(file.fd, offset, end);
      if (at < end) break; // another process has cut the file
    }
    await this.#tar.zeros(stat.size - at);
    await this.#tar.pad(stat.size);
  }

  /** Writes a part of a file; returns how many bytes it had. */
  async #data(fd: number, offset: number, end: number): Promise<number> {
    lseek(fd, offset, SEEK_SET);
    let at = offset;
    while (at < end) {
      const part = this.#buffer.subarray(0, Math.min(end - at, CHUNK));
      const length = part.length <= SMALL ? read(fd, part) : await readOffThread(fd, part);
      if (length < 0) read(fd, part); // throws: this thread has the errno
      if (length <= 0) break;
      await this.#tar.write(part.subarray(0, length));
      at += length;
    }
    return at - offset;
  }

  #attributes({ fd, path }: UpperEntry): Map<string, Uint8Array<ArrayBuffer>> {
    const found = new Map<string, Uint8Array<ArrayBuffer>>();
    for (const name of withPath(path, () => attributeNames(fd))) {
      if (name === `${this.#prefix}metacopy`) {
        throw new UnsupportedEntryError(path, "has no content: mount the overlay with metacopy=off");
      }
      if (isLeftOut(name)) continue;
      if (name.includes("=")) {
        throw new UnsupportedEntryError(
          path,
          "has an attribute with a = in its name, which a layer can't have",
        );
      }
      const value = attributeOf(fd, name, path);
      if (value) found.set(name, value);
    }
    return found;
  }
}

/** A layer with attributes of overlay would be read as one that was written by overlay itself. */
function isLeftOut(name: string): boolean {
  return name.startsWith("trusted.overlay.") || name.startsWith("user.overlay.") ||
    name === "security.selinux";
}

/** Undefined if it was removed meanwhile. */
function attributeOf(fd: number, name: string, path: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return withPath(path, () => getxattr(procPath(fd), name));
  } catch (error) {
    if (!isErrno(error, "ENODATA")) throw error;
    return undefined;
  }
}
