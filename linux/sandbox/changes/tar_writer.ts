/**
 * Writes a tar archive in the pax format to a stream, block by block.
 *
 * node-tar makes the headers. The pax records are made here, because names and attributes are bytes, and it takes text.
 *
 * @module
 */

import { encodeName } from "../../../ffi/text.ts";
import type { TarHeader } from "../deps.ts";
import type { Turns } from "./turns.ts";

/** What a header says. */
export interface TarEntry {
  /** The path, with a slash at its end for a directory. */
  readonly path: string;
  /** What it is, as node-tar names it. */
  readonly type:
    | "File"
    | "Link"
    | "SymbolicLink"
    | "CharacterDevice"
    | "BlockDevice"
    | "Directory"
    | "FIFO";
  /** The permission bits. */
  readonly mode: number;
  /** The owner. */
  readonly uid: number;
  /** The owning group. */
  readonly gid: number;
  /** The size of the content, in bytes. */
  readonly size: number;
  /** When its content last changed, in seconds since 1970. */
  readonly mtime: number;
  /** The nanoseconds of `mtime`. */
  readonly mtimeNsec: number;
  /** Where a link leads. */
  readonly target?: string;
  /** The numbers of a device. */
  readonly device?: readonly [major: number, minor: number];
  /** The extended attributes. */
  readonly attributes?: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

const BLOCK = 512;
const CHUNK = 128 * 1024; // bytes that are given to the stream at once
const ZEROS = new Uint8Array(64 * 1024);
const FIELD = 100; // bytes of a path in a header
const MOST_ID = 0o7777777; // of a header
const MOST_NUMBER = 0o77777777777; // of a header: a size, or a time

/** Writes an archive to a stream, and waits while the stream is full. */
export class TarWriter {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #Header: typeof TarHeader;
  readonly #turns: Turns;
  #chunk = new Uint8Array(CHUNK);
  #length = 0;
  /** How many bytes the archive has until now. */
  bytes = 0;

  /**
   * Begins an archive.
   *
   * @param writer the stream's writer.
   * @param Header node-tar's class of headers.
   * @param turns ends the work when its signal is aborted.
   */
  constructor(writer: WritableStreamDefaultWriter<Uint8Array>, Header: typeof TarHeader, turns: Turns) {
    this.#writer = writer;
    this.#Header = Header;
    this.#turns = turns;
  }

  /**
   * Writes a header, and before it the records for what it has no room for.
   *
   * @param entry what it says.
   */
  async header(entry: TarEntry): Promise<void> {
    const records = paxRecords(entry);
    if (records.length > 0) {
      const { mode, uid, gid, mtime } = PAX;
      await this.#block(
        { path: "PaxHeaders/entry", type: "ExtendedHeader", mode, uid, gid, mtime },
        records.length,
      );
      await this.write(records);
      await this.pad(records.length);
    }
    const [devmaj, devmin] = entry.device ?? [0, 0];
    const isLate = entry.mtime < 0 || entry.mtime > MOST_NUMBER; // in the records
    await this.#block({
      path: asciiField(entry.path),
      type: entry.type,
      mode: entry.mode,
      uid: entry.uid > MOST_ID ? 0 : entry.uid,
      gid: entry.gid > MOST_ID ? 0 : entry.gid,
      mtime: isLate ? new Date(0) : new Date(entry.mtime * 1000),
      devmaj,
      devmin,
      ...entry.target === undefined ? {} : { linkpath: asciiField(entry.target) },
    }, entry.size);
  }

  async #block(data: ConstructorParameters<typeof TarHeader>[0], size: number): Promise<void> {
    const header = new this.#Header({ ...data, size });
    header.encode();
    if (header.block === undefined) throw new TypeError("the header is not encoded");
    await this.write(header.block);
  }

  /**
   * Writes bytes. They are copied.
   *
   * @param bytes the bytes.
   */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const length = Math.min(bytes.length - at, CHUNK - this.#length);
      this.#chunk.set(bytes.subarray(at, at + length), this.#length);
      this.#length += length;
      at += length;
      if (this.#length === CHUNK) await this.#flush();
    }
    this.bytes += bytes.length;
  }

  /**
   * Writes zeros.
   *
   * @param length how many.
   */
  async zeros(length: number): Promise<void> {
    for (let left = length; left > 0; left -= ZEROS.length) {
      await this.write(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
    }
  }

  /**
   * Writes zeros up to the next block.
   *
   * @param length the length of the content before them.
   */
  async pad(length: number): Promise<void> {
    await this.zeros((BLOCK - length % BLOCK) % BLOCK);
  }

  /** Writes the end of the archive. */
  async end(): Promise<void> {
    await this.zeros(2 * BLOCK);
    await this.#flush();
  }

  async #flush(): Promise<void> {
    const chunk = this.#chunk.subarray(0, this.#length);
    this.#chunk = new Uint8Array(CHUNK); // the stream keeps the other
    this.#length = 0;
    if (this.#turns.isOver) await this.#turns.next(); // a stream that takes everything at once would never wait
    await this.#writer.ready;
    await this.#writer.write(chunk);
  }
}

const PAX = { mode: 0o644, uid: 0, gid: 0, mtime: new Date(0) };

/** The records of a pax header (POSIX.1-2001, pax); empty if the header itself says everything. */
function paxRecords(entry: TarEntry): Uint8Array<ArrayBuffer> {
  const records: Uint8Array<ArrayBuffer>[] = [];
  const put = (key: string, value: string | Uint8Array<ArrayBuffer>) => records.push(record(key, value));
  const { path, target = "", mtime, mtimeNsec, attributes = [] } = entry;
  if (![path, target].every((text) => text.isWellFormed())) put("hdrcharset", "BINARY"); // before the others
  if (!fitsField(path)) put("path", path);
  if (!fitsField(target)) put("linkpath", target);
  if (entry.uid > MOST_ID) put("uid", String(entry.uid));
  if (entry.gid > MOST_ID) put("gid", String(entry.gid));
  if (entry.size > MOST_NUMBER) put("size", String(entry.size));
  if (mtimeNsec !== 0 || mtime < 0 || mtime > MOST_NUMBER) put("mtime", decimal(mtime, mtimeNsec));
  for (const [name, value] of attributes) put(`SCHILY.xattr.${name}`, value);
  const whole = new Uint8Array(records.reduce((sum, { length }) => sum + length, 0));
  records.reduce((at, bytes) => (whole.set(bytes, at), at + bytes.length), 0);
  return whole;
}

/** A record begins with its own length in bytes. */
function record(key: string, value: string | Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const [name, content] = [encodeName(` ${key}=`), typeof value === "string" ? encodeName(value) : value];
  const rest = name.length + content.length + 1; // a newline
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  const digits = encodeName(String(length));
  const bytes = new Uint8Array(length);
  bytes.set(digits);
  bytes.set(name, digits.length);
  bytes.set(content, digits.length + name.length);
  bytes[length - 1] = 0x0a;
  return bytes;
}

/** A time as pax has it: negative before 1970. */
function decimal(seconds: number, nanoseconds: number): string {
  const isBefore = seconds < 0 && nanoseconds > 0; // the nanoseconds count towards 1970
  const whole = isBefore ? seconds + 1 : seconds;
  const rest = isBefore ? 1_000_000_000 - nanoseconds : nanoseconds;
  const sign = whole === 0 && isBefore ? "-" : "";
  return `${sign}${whole}.${String(rest).padStart(9, "0")}`;
}

function fitsField(text: string): boolean {
  return text.length < FIELD && asciiField(text) === text;
}

/** A text for a field of a header, where a pax record has the real one. */
function asciiField(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.slice(0, FIELD - 1).replaceAll(/[^\x01-\x7e]/g, "_");
}
