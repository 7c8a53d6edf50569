/**
 * Writes tar archives by hand, so that a layer can have entries that this machine's file system or user can't: device nodes,
 * owners, extended attributes, and names that are no UTF-8.
 *
 * @module
 */

/** An entry of an archive. */
export interface Entry {
  /** Its path, without a slash at the beginning; bytes if it is no UTF-8. */
  path: string | Uint8Array;
  /** What it is. */
  type: "file" | "directory" | "symlink" | "hardlink" | "char" | "block" | "fifo";
  /** The permissions; 0755 for a directory and 0644 for others if left out. */
  mode?: number;
  /** The user. */
  uid?: number;
  /** The group. */
  gid?: number;
  /** When it was modified, in seconds since 1970. */
  mtime?: number;
  /** The content of a file. */
  content?: string | Uint8Array;
  /** Where a link leads. */
  target?: string;
  /** The numbers of a device. */
  device?: [major: number, minor: number];
  /** The extended attributes. */
  xattrs?: Record<string, string>;
}

const BLOCK = 512;
const flags = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  char: "3",
  block: "4",
  directory: "5",
  fifo: "6",
} as const;
const encoder = new TextEncoder();
const bytesOf = (text: string | Uint8Array) => typeof text === "string" ? encoder.encode(text) : text;

/**
 * Writes an archive in the pax format.
 *
 * @param entries the entries, parents first.
 * @returns the archive.
 */
export function tar(entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
  const blocks = entries.flatMap((entry) => {
    const xattrs = Object.entries(entry.xattrs ?? {}).map(([name, value]) =>
      record(`SCHILY.xattr.${name}`, value)
    );
    const content = bytesOf(entry.content ?? "");
    const own = [header(entry, flags[entry.type], content.length), content, padding(content.length)];
    if (xattrs.length === 0) return own;
    const records = encoder.encode(xattrs.join(""));
    return [
      header({ path: "pax", type: "file" }, "x", records.length),
      records,
      padding(records.length),
      ...own,
    ];
  });
  return join([...blocks, new Uint8Array(2 * BLOCK)]);
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const padding = (length: number) => new Uint8Array((BLOCK - length % BLOCK) % BLOCK);

/** A line of a pax header, which begins with its own length. */
function record(name: string, value: string): string {
  const rest = ` ${name}=${value}\n`;
  const { length } = encoder.encode(rest);
  const digits = String(length + String(length).length).length;
  return `${length + digits}${rest}`;
}

function header(entry: Entry, flag: string, size: number): Uint8Array {
  const { mode = entry.type === "directory" ? 0o755 : 0o644, uid = 0, gid = 0, mtime = 0, target = "" } =
    entry;
  const [major, minor] = entry.device ?? [0, 0];
  const block = new Uint8Array(BLOCK);
  const put = (at: number, value: string | Uint8Array) => block.set(bytesOf(value), at);
  const octal = (value: number, width: number) => value.toString(8).padStart(width - 1, "0") + "\0";
  const path = bytesOf(entry.path);
  if (path.length > 100 || target.length > 100) throw new Error("a path is too long for this writer");
  put(0, path);
  put(100, octal(mode, 8));
  put(108, octal(uid, 8));
  put(116, octal(gid, 8));
  put(124, octal(size, 12));
  put(136, octal(mtime, 12));
  put(148, " ".repeat(8));
  put(156, flag);
  put(157, target);
  put(257, "ustar\x0000");
  put(329, octal(major, 8));
  put(337, octal(minor, 8));
  put(148, octal(block.reduce((sum, byte) => sum + byte, 0), 7) + " ");
  return block;
}
