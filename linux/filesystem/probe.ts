/**
 * What is on a block device or in an image file, found out by blkid(8) and partx(8) of util-linux.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { shown } from "../../ffi/text.ts";
import { openBackingFile } from "../loop/backing_file.ts";
import { canonicalizePath } from "../path/path.ts";
import { findProgram, type HelperResult, runHelper } from "../path/program.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";

/** A partition of a disk or of an image. */
export interface Partition {
  /** Its number, as in /dev/sda1. */
  number: number;
  /** Where it begins, in bytes. */
  offset: number;
  /** Its size in bytes. */
  size: number;
  /** The code of its type: a UUID for GPT, such as "0x83" for DOS. */
  type: string;
  /** Its name (GPT); undefined if it has none. */
  name?: string;
  /** Its identity, which PARTUUID= names. */
  uuid?: string;
}

/** What {@linkcode probe} finds. */
export interface ProbeResult {
  /** The type of the file system, as mount() takes it, or of what else there is, such as "swap" or "crypto_LUKS". */
  type?: string;
  /** Whether it is a file system: "filesystem", or else "raid", "crypto" or "other". */
  usage?: string;
  /** Its label. */
  label?: string;
  /** Its identity, which UUID= names. */
  uuid?: string;
  /** The kind of its partition table, such as "gpt" or "dos". */
  partitionTable?: string;
  /** Its partitions, in the order of the table. */
  partitions: Partition[];
}

/** Which part of the file is probed, and how long. */
export interface ProbeOptions extends WaitOptions {
  /** The first byte. */
  offset?: number | undefined;
  /** The number of bytes; up to the end if left out. */
  size?: number | undefined;
}

const PROGRAM_TIMEOUT = 30_000; // ms: a disk may have to start first

/** The exit statuses of blkid(8) with -p. */
const NOTHING = 2;
const AMBIVALENT = 8;

/**
 * Finds out what is on a block device or in an image file: its type for {@linkcode Mount.type}, label, UUID, partitions.
 *
 * Needs the permissions `ffi`, and `run` for blkid and partx of util-linux, which are looked for in the directories of the
 * system and in the absolute ones of PATH.
 *
 * @param path the block device or regular file, which must be readable.
 * @param options the part of it, in bytes; the timeout of each wait in milliseconds (2500 for the path and 30,000
 * for the programs if left out) and the signal.
 * @returns what was found; without a type if it is nothing that blkid knows.
 * @throws {TypeError} for what is neither a block device nor a regular file, and for a bad offset or size.
 * @throws {SyscallError} if it can't be opened; ETIMEDOUT after the timeout.
 * @throws {Error} if several file systems are found in the same place, or a program is not installed.
 *
 * @example
 * ```ts ignore
 * import { mount, probe } from "@denomount/mount";
 *
 * const { type, partitions } = await probe("disk.img");
 * if (type !== undefined) await mount({ type, source: "disk.img", options: ["loop", "ro"] }, "/mnt");
 * console.log(partitions.map(({ number, offset, size }) => `${number}: ${size} bytes from ${offset}`));
 * ```
 */
export async function probe(path: string, options: ProbeOptions = {}): Promise<ProbeResult> {
  const { offset = 0, size, timeout, signal } = options;
  const wait = { timeout, signal };
  checkWait(wait);
  for (const [name, value] of Object.entries({ offset, size })) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0)) {
      throw new TypeError(`"${name}" must be a number of bytes, got ${shown(String(value))}`);
    }
  }
  const file = await readable(path, wait);
  const range = ["--offset", `${offset}`, ...size === undefined ? [] : ["--size", `${size}`]];
  const result = await runProgram("blkid", ["--probe", "--output", "udev", ...range, "--", file], wait);
  if (result.code === AMBIVALENT) {
    throw new Error(`${shown(path)} has the signatures of several file systems: name its type`);
  }
  if (result.code !== 0 && result.code !== NOTHING) throw failure("blkid", result);
  const found = parseUdev(result.output);
  if (found.partitionTable !== undefined && offset === 0 && size === undefined) {
    found.partitions = await readPartitions(file, wait);
  }
  return found;
}

/** blkid can't tell a file that it can't read from one with nothing in it. */
async function readable(path: string, wait: WaitOptions): Promise<string> {
  if (!path.isWellFormed()) throw new TypeError("the path is not valid UTF-8");
  (await openBackingFile(path, true, wait)).close();
  return await canonicalizePath(path, wait); // absolute, so it is no option
}

async function runProgram(name: string, args: string[], wait: WaitOptions): Promise<HelperResult> {
  const program = findProgram(name);
  if (program === undefined) throw new Error(`${name} is not installed: install the package util-linux`);
  return await runHelper(program, args, { timeout: wait.timeout ?? PROGRAM_TIMEOUT, signal: wait.signal });
}

function failure(program: string, { code, said }: HelperResult): Error {
  const status = code === undefined ? "another part of the process reaped it" : `exit status ${code}`;
  return new Error(`${program} failed (${status})${said && `: ${shown(said.replace(/\s*\n\s*/g, "; "))}`}`);
}

function parseUdev(output: string): ProbeResult {
  const values = new Map(
    output.split("\n").map((line) => {
      const [, name = "", value = ""] = /^([A-Z0-9_]+)=(.*)$/.exec(line) ?? [];
      return [name, unescapeUdev(value)];
    }),
  );
  const found: ProbeResult = { partitions: [] };
  const names = {
    type: "ID_FS_TYPE",
    usage: "ID_FS_USAGE",
    label: "ID_FS_LABEL_ENC",
    uuid: "ID_FS_UUID_ENC",
    partitionTable: "ID_PART_TABLE_TYPE",
  } as const;
  for (const [key, name] of Object.entries(names) as [keyof typeof names, string][]) {
    const value = values.get(name);
    if (value !== undefined && value !== "") found[key] = value;
  }
  return found;
}

/** udev's encoding: bytes outside of a safe set as \xHH, in UTF-8. */
function unescapeUdev(text: string): string {
  if (!text.includes("\\x")) return text;
  const bytes = text.replace(/\\x([0-9a-f]{2})|[^\0-\x7f]/gi, (part, hex: string | undefined) => {
    if (hex !== undefined) return String.fromCharCode(parseInt(hex, 16));
    return String.fromCharCode(...new TextEncoder().encode(part));
  });
  return new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
}

const SECTOR = 512; // partx counts in these, whatever the device's own size

async function readPartitions(file: string, wait: WaitOptions): Promise<Partition[]> {
  const result = await runProgram("partx", [
    "--pairs",
    "--output",
    "NR,START,SECTORS,TYPE,NAME,UUID",
    "--",
    file,
  ], wait);
  if (result.code !== 0) throw failure("partx", result);
  return result.output.split("\n").filter((line) => line !== "").map(parsePartition);
}

function parsePartition(line: string): Partition {
  const fields = [...line.matchAll(/(\w+)="([^"]*)"/g)];
  const values = new Map(fields.map(([, name = "", value = ""]) => [name, unescapeUdev(value)]));
  const value = (name: string) => values.get(name) ?? "";
  const [name, uuid] = [value("NAME"), value("UUID")];
  return {
    number: Number(value("NR")),
    offset: Number(value("START")) * SECTOR,
    size: Number(value("SECTORS")) * SECTOR,
    type: value("TYPE"),
    ...name === "" ? {} : { name },
    ...uuid === "" ? {} : { uuid },
  };
}

/** The tags of fstab(5), and udev's directories of links for them. */
const TAGS: Readonly<Record<string, string>> = {
  LABEL: "by-label",
  UUID: "by-uuid",
  PARTLABEL: "by-partlabel",
  PARTUUID: "by-partuuid",
};

const TAG = /^(LABEL|UUID|PARTLABEL|PARTUUID)=(?:"(.*)"|(.*))$/s;

/**
 * Finds the block device that a tag such as `LABEL=data` names: by udev's links in /dev/disk, else by blkid(8).
 *
 * Needs the permissions `ffi`, and `run` for blkid if there is no such link.
 *
 * @param source a source, as fstab(5) takes it.
 * @param wait the timeout of each wait in milliseconds, and the signal.
 * @returns the path of the device; undefined if the source is no tag.
 * @throws {Error} if no device has it.
 */
export async function findTagged(source: string, wait: WaitOptions = {}): Promise<string | undefined> {
  const [, tag = "", quoted, plain] = TAG.exec(source) ?? [];
  const value = quoted ?? plain;
  if (value === undefined) return undefined;
  if (value === "") throw new TypeError(`${tag}= names no device: it is empty`);
  const link = `/dev/disk/${TAGS[tag]}/${encodeUdev(value)}`;
  return await resolved(link, wait) ?? await askBlkid(tag, value, wait);
}

async function resolved(link: string, wait: WaitOptions): Promise<string | undefined> {
  try {
    return await canonicalizePath(link, wait);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

async function askBlkid(tag: string, value: string, wait: WaitOptions): Promise<string> {
  const args = ["--cache-file", "/dev/null", "--list-one", "--output", "device", "--match-token"];
  const result = await runProgram("blkid", [...args, `${tag}=${value}`], wait);
  if (result.code === NOTHING) throw new Error(`no block device has ${tag}=${shown(value)}`);
  if (result.code !== 0 || !result.output.startsWith("/")) throw failure("blkid", result);
  return result.output;
}

/** As udev writes the names of its links. */
function encodeUdev(value: string): string {
  return value.replace(
    /[^\w#+\-.:=@\u0080-\u{10ffff}]/gu,
    (character) =>
      Array.from(new TextEncoder().encode(character), (byte) => `\\x${byte.toString(16).padStart(2, "0")}`)
        .join(""),
  );
}
