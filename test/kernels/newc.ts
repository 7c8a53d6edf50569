/**
 * The initramfs that a kernel unpacks as its first root directory: cpio's "newc" format, see
 * Documentation/driver-api/early-userspace/buffer-format.rst.
 *
 * @module
 */

const S_IFDIR = 0o40000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const PERMISSIONS = 0o7777;

/** Writes an archive. Root owns every file in it. */
export class CpioWriter implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #directories = new Set<string>([""]);
  #inode = 0;
  #offset = 0;

  /**
   * Creates the archive's file.
   *
   * @param path the file's path.
   */
  constructor(path: string) {
    this.#file = Deno.openSync(path, { write: true, create: true, truncate: true });
  }

  /**
   * Adds a directory, and its parents.
   *
   * @param path its path, without a leading slash, as for every method.
   */
  directory(path: string): void {
    if (this.#directories.has(path)) return;
    this.#parents(path);
    this.#directories.add(path);
    this.#entry(path, S_IFDIR | 0o755, new Uint8Array());
  }

  /** Adds a file. */
  file(path: string, content: Uint8Array | string, mode = 0o644): void {
    this.#parents(path);
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    this.#entry(path, S_IFREG | mode, bytes);
  }

  /** Adds a symbolic link. */
  link(path: string, destination: string): void {
    this.#parents(path);
    this.#entry(path, S_IFLNK | 0o777, new TextEncoder().encode(destination));
  }

  /**
   * Adds the contents of a directory on this machine.
   *
   * @param source the directory.
   * @param path the directory's path in the archive.
   * @param wanted returns true for the paths in the directory to add; every path if left out.
   */
  tree(source: string, path: string, wanted: (path: string) => boolean = () => true): void {
    const visit = (below: string) => {
      for (const { name, isDirectory, isSymlink } of Deno.readDirSync(`${source}/${below}`)) {
        const inside = below + name;
        if (!wanted(inside)) continue;
        const [from, to] = [`${source}/${inside}`, path === "" ? inside : `${path}/${inside}`];
        if (isDirectory) {
          this.directory(to);
          visit(`${inside}/`);
        } else if (isSymlink) this.link(to, Deno.readLinkSync(from));
        else this.file(to, Deno.readFileSync(from), (Deno.lstatSync(from).mode ?? 0o644) & PERMISSIONS);
      }
    };
    visit("");
  }

  /** Writes the archive's trailer, and closes the file. */
  [Symbol.dispose](): void {
    using _file = this.#file;
    this.#entry("TRAILER!!!", 0, new Uint8Array());
  }

  #parents(path: string): void {
    const slash = path.lastIndexOf("/");
    if (slash > 0) this.directory(path.slice(0, slash));
  }

  #entry(path: string, mode: number, content: Uint8Array): void {
    const name = new TextEncoder().encode(path + "\0");
    const links = 1;
    // ino, mode, uid, gid, nlink, mtime, filesize, major, minor, rmajor, rminor, namesize, chksum
    const fields = [++this.#inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const header = "070701" + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
    this.#write(new TextEncoder().encode(header));
    this.#write(name);
    this.#pad();
    this.#write(content);
    this.#pad();
  }

  #pad(): void {
    this.#write(new Uint8Array(-this.#offset & 3));
  }

  #write(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) done += this.#file.writeSync(bytes.subarray(done));
    this.#offset += bytes.length;
  }
}
