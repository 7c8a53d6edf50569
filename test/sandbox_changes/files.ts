/**
 * System calls on paths of any bytes, to make and change trees; independent of the library under test.
 *
 * @module
 */

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  rmdir: { parameters: ["buffer"], result: "i32" },
  unlink: { parameters: ["buffer"], result: "i32" },
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
  link: { parameters: ["buffer", "buffer"], result: "i32" },
  symlink: { parameters: ["buffer", "buffer"], result: "i32" },
  mknodat: { name: "syscall", parameters: ["i32", "i32", "buffer", "u32", "u32"], result: "i32" },
  chmod: { parameters: ["buffer", "u32"], result: "i32" },
  lchown: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  lsetxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  lremovexattr: { parameters: ["buffer", "buffer"], result: "i32" },
  utimensat: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  opendir: { parameters: ["buffer"], result: "pointer" },
  readdir: { parameters: ["pointer"], result: "pointer" },
  closedir: { parameters: ["pointer"], result: "i32" },
});

/** The bytes of a path. */
export type Bytes = Uint8Array<ArrayBuffer>;

const AT_FDCWD = -100; // linux/fcntl.h
const AT_SYMLINK_NOFOLLOW = 0x100; // linux/fcntl.h
const O_NOFOLLOW = Deno.build.arch === "aarch64" ? 0o100000 : 0o400000; // asm/fcntl.h
const SYS_mknodat = Deno.build.arch === "aarch64" ? 33 : 259; // asm/unistd.h

/** File types of a mode, linux/stat.h. */
export const types = { fifo: 0o10000, char: 0o20000, block: 0o60000, socket: 0o140000 } as const;

/** The bytes of a text. */
export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

/** Joins parts to a path. */
export function join(...parts: (string | Bytes)[]): Bytes {
  return Uint8Array.from(
    parts.flatMap((part, index) => [
      ...(index === 0 ? [] : [0x2f]),
      ...(typeof part === "string" ? utf8(part) : part),
    ]),
  );
}

const c = (path: string | Bytes) => Uint8Array.from([...(typeof path === "string" ? utf8(path) : path), 0]);

type Path = string | Bytes;

/** Each call returns whether it succeeded. */
export const files = {
  /** Writes at an offset, and creates the file. */
  write(path: Path, content: Bytes, offset = 0): boolean {
    const fd = libc.open(c(path), 0o101 | 0o2000000 | O_NOFOLLOW | 0o4000, 0o644);
    if (fd < 0) return false;
    const written = content.length === 0
      ? 0
      : libc.pwrite(fd, content, BigInt(content.length), BigInt(offset));
    libc.close(fd);
    return Number(written) === content.length;
  },
  truncate(path: Path, size: number): boolean {
    const fd = libc.open(c(path), 0o1 | 0o2000000 | O_NOFOLLOW | 0o4000, 0);
    if (fd < 0) return false;
    const result = libc.ftruncate(fd, BigInt(size));
    libc.close(fd);
    return result === 0;
  },
  mkdir: (path: Path, mode = 0o755) => libc.mkdir(c(path), mode) === 0,
  rmdir: (path: Path) => libc.rmdir(c(path)) === 0,
  unlink: (path: Path) => libc.unlink(c(path)) === 0,
  rename: (from: Path, to: Path) => libc.rename(c(from), c(to)) === 0,
  link: (path: Path, name: Path) => libc.link(c(path), c(name)) === 0,
  symlink: (target: Path, path: Path) => libc.symlink(c(target), c(path)) === 0,
  /** Makes a device, FIFO or socket. */
  mknod: (path: Path, type: number, major = 0, minor = 0) =>
    libc.mknodat(SYS_mknodat, AT_FDCWD, c(path), type | 0o640, major << 8 | minor) === 0,
  chmod: (path: Path, mode: number) => libc.chmod(c(path), mode) === 0,
  chown: (path: Path, uid: number, gid: number) => libc.lchown(c(path), uid, gid) === 0,
  setxattr: (path: Path, name: Path, value: Bytes) =>
    libc.lsetxattr(c(path), c(name), value, BigInt(value.length), 0) === 0,
  removexattr: (path: Path, name: Path) => libc.lremovexattr(c(path), c(name)) === 0,
  utimens(path: Path, seconds: number, nanoseconds: number): boolean {
    const times = new BigInt64Array([1n, 2n, BigInt(seconds), BigInt(nanoseconds)]);
    return libc.utimensat(AT_FDCWD, c(path), new Uint8Array(times.buffer), AT_SYMLINK_NOFOLLOW) === 0;
  },
  /** The names in a directory. */
  names(path: Path): Bytes[] {
    const directory = libc.opendir(c(path));
    if (directory === null) return [];
    const found: Bytes[] = [];
    for (let entry = libc.readdir(directory); entry !== null; entry = libc.readdir(directory)) {
      const view = new Deno.UnsafePointerView(entry);
      const name: number[] = [];
      for (let at = 19; view.getUint8(at) !== 0; at++) name.push(view.getUint8(at)); // d_name of struct dirent
      found.push(Uint8Array.from(name));
    }
    libc.closedir(directory);
    return found.filter((name) => !(name.every((byte) => byte === 0x2e) && name.length <= 2));
  },
  /** Removes a file or a tree. */
  remove(path: Path): boolean {
    if (libc.unlink(c(path)) === 0) return true;
    for (const name of files.names(path)) files.remove(join(path, name));
    return libc.rmdir(c(path)) === 0;
  },
};
