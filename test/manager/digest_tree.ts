/**
 * Describes a whole tree, so that two trees can be compared; independent of the library under test. Names are bytes.
 *
 * @module
 */

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  opendir: { parameters: ["buffer"], result: "pointer" },
  readdir: { parameters: ["pointer"], result: "pointer" },
  closedir: { parameters: ["pointer"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
});

type Bytes = Uint8Array<ArrayBuffer>;

const AT_FDCWD = -100; // linux/fcntl.h
const AT_SYMLINK_NOFOLLOW = 0x100; // linux/fcntl.h
const STATX_BASIC_STATS = 0x7ff; // linux/stat.h
const O_CLOEXEC_NOFOLLOW_NONBLOCK = 0o2000000 | (Deno.build.arch === "x86_64" ? 0o400000 : 0o100000) | 0o4000;
const LARGEST = 65_536; // bytes of a list of attributes, or of a value: XATTR_LIST_MAX and XATTR_SIZE_MAX

const types: Record<number, string> = {
  1: "fifo",
  2: "char",
  4: "directory",
  6: "block",
  8: "file",
  10: "symlink",
  12: "socket",
};

/**
 * Describes a tree.
 *
 * @param root its directory.
 * @returns a line for each entry, in the order of the names' bytes: type, mode, owner, time, name, and then its content's
 * digest, target or device numbers, its extended attributes, and the first name of the same file.
 */
export async function describeTree(root: string): Promise<string[]> {
  const lines: string[] = [];
  const links = new Map<string, string>();
  const base = new TextEncoder().encode(root);
  const visit = async (below: Bytes): Promise<void> => {
    const path = Uint8Array.from([...base, ...below]);
    const { type, line, inode, links: count } = stat(path);
    const name = latin1(below) || "/";
    const parts = [line, name, ...await content(path, type), ...attributes(path)];
    if (type !== "directory" && count > 1) {
      const first = links.get(inode);
      if (first === undefined) links.set(inode, name);
      parts.push(`same file as ${first ?? name}`);
    }
    lines.push(parts.join(" "));
    if (type !== "directory") return;
    for (const child of entries(path)) await visit(Uint8Array.from([...below, 0x2f, ...child]));
  };
  await visit(new Uint8Array());
  return lines;
}

/**
 * The digest of a tree: of the names, types, modes, owners, times, contents, extended attributes, targets, device numbers
 * and hard links of everything in it.
 *
 * @param root its directory.
 * @returns the digest.
 */
export async function digestTree(root: string): Promise<string> {
  return await sha256(new TextEncoder().encode((await describeTree(root)).join("\n")));
}

const sha256 = async (bytes: Bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();

const c = (bytes: Bytes) => Uint8Array.from([...bytes, 0]);

/** Bytes as text that keeps each of them, with everything that is not printable ASCII escaped. */
function latin1(bytes: Uint8Array): string {
  return [...bytes].map((byte) =>
    byte > 0x20 && byte < 0x7f && byte !== 0x5c
      ? String.fromCharCode(byte)
      : `\\x${byte.toString(16).padStart(2, "0")}`
  ).join("");
}

function failed(call: string, path: Bytes): Error {
  return new Error(`${call} of ${latin1(path)} failed`);
}

/** The fields of struct statx, in linux/stat.h. */
function stat(path: Bytes): { type: string; line: string; inode: string; links: number } {
  const buffer = new DataView(new ArrayBuffer(256));
  const result = libc.statx(
    AT_FDCWD,
    c(path),
    AT_SYMLINK_NOFOLLOW,
    STATX_BASIC_STATS,
    new Uint8Array(buffer.buffer),
  );
  if (result !== 0) throw failed("statx", path);
  const u32 = (at: number) => buffer.getUint32(at, true);
  const mode = buffer.getUint16(28, true); // stx_mode
  const type = types[mode >> 12] ?? "unknown";
  const [uid, gid] = [u32(20), u32(24)]; // stx_uid, stx_gid
  const time = `${buffer.getBigInt64(112, true)}.${String(u32(120)).padStart(9, "0")}`; // stx_mtime
  const device = type === "char" || type === "block" ? ` ${u32(128)}:${u32(132)}` : ""; // stx_rdev_major, _minor
  return {
    type,
    line: `${type}${device} ${(mode & 0o7777).toString(8).padStart(4, "0")} ${uid}:${gid} ${time}`,
    inode: `${u32(136)}:${u32(140)}:${buffer.getBigUint64(32, true)}`, // stx_dev_major, _minor, stx_ino
    links: u32(16), // stx_nlink
  };
}

async function content(path: Bytes, type: string): Promise<string[]> {
  if (type === "symlink") {
    const buffer = new Uint8Array(4096);
    const length = Number(libc.readlink(c(path), buffer, 4096n));
    if (length < 0) throw failed("readlink", path);
    return [`-> ${latin1(buffer.subarray(0, length))}`];
  }
  if (type !== "file") return [];
  const bytes = read(path);
  return [`${bytes.length} bytes`, await sha256(bytes)];
}

function read(path: Bytes): Bytes {
  const fd = libc.open(c(path), O_CLOEXEC_NOFOLLOW_NONBLOCK, 0);
  if (fd < 0) throw failed("open", path);
  try {
    const chunks: Bytes[] = [];
    for (;;) {
      const chunk = new Uint8Array(LARGEST);
      const length = Number(libc.read(fd, chunk, BigInt(LARGEST)));
      if (length < 0) throw failed("read", path);
      if (length === 0) break;
      chunks.push(chunk.subarray(0, length));
    }
    const whole = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
    chunks.reduce((at, chunk) => (whole.set(chunk, at), at + chunk.length), 0);
    return whole;
  } finally {
    libc.close(fd);
  }
}

function attributes(path: Bytes): string[] {
  const list = new Uint8Array(LARGEST);
  const length = Number(libc.llistxattr(c(path), list, BigInt(LARGEST)));
  if (length < 0) throw failed("llistxattr", path);
  return split(list.subarray(0, length)).map((name) => {
    const value = new Uint8Array(LARGEST);
    const size = Number(libc.lgetxattr(c(path), c(name), value, BigInt(LARGEST)));
    if (size < 0) throw failed("lgetxattr", path);
    return `${latin1(name)}=${latin1(value.subarray(0, size))}`;
  }).sort();
}

/** The names of a list that ends each with a NUL. */
function split(list: Bytes): Bytes[] {
  const names: Bytes[] = [];
  for (let at = 0; at < list.length;) {
    const end = list.indexOf(0, at);
    names.push(list.slice(at, end));
    at = end + 1;
  }
  return names;
}

function entries(path: Bytes): Bytes[] {
  const directory = libc.opendir(c(path));
  if (directory === null) throw failed("opendir", path);
  const found: Bytes[] = [];
  for (let entry = libc.readdir(directory); entry !== null; entry = libc.readdir(directory)) {
    const view = new Deno.UnsafePointerView(entry);
    const name: number[] = [];
    for (let at = 19; view.getUint8(at) !== 0; at++) name.push(view.getUint8(at)); // d_name of struct dirent
    found.push(Uint8Array.from(name));
  }
  libc.closedir(directory);
  return found.filter((name) => ![".", ".."].includes(latin1(name))).sort((a, b) =>
    latin1(a) < latin1(b) ? -1 : 1
  );
}
