/**
 * The options of the `mkfs/` modifier.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import type { Mount } from "../spec/mount.ts";
import { splitOptions } from "../spec/options.ts";

/** The file systems that an image is made with. */
export const MKFS_TYPES = ["ext2", "ext3", "ext4", "xfs", "btrfs"] as const;

/** An image that is made if its file does not exist. */
export interface MkfsRequest {
  /** The size of the image, in bytes. */
  readonly size: number;
  /** The file system. */
  readonly fs: typeof MKFS_TYPES[number];
  /** The UUID of the file system; a random one if left out. */
  readonly uuid: string | undefined;
}

const PREFIX = "X-containerd.mkfs.";
const UUID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/**
 * Reads the options of the `mkfs/` modifier: `X-containerd.mkfs.size=`, `.fs=` and `.uuid=`. Without `fs`, the file system is
 * that of the mount's type, or ext4.
 *
 * @param mount the mount.
 * @returns what to make, and the mount without these options.
 * @throws {TypeError} for an option or a value that is not known, and without a size.
 */
export function readMkfs(mount: Mount): { request: MkfsRequest; mount: Mount } {
  const values: Record<string, string> = {};
  const options: string[] = [];
  for (const option of (mount.options ?? []).flatMap(splitOptions)) {
    if (!option.startsWith(PREFIX)) {
      options.push(option);
      continue;
    }
    const [, key = "", value] = /^([^=]*)(?:=(.*))?$/s.exec(option.slice(PREFIX.length)) ?? [];
    if (!["size", "fs", "uuid"].includes(key)) throw new TypeError(`${quote(option)} is no option of mkfs`);
    if (!value) throw new TypeError(`${quote(option)} has no value`);
    values[key] = value;
  }
  const { size, fs = isMkfsType(mount.type) ? mount.type : "ext4", uuid } = values;
  if (size === undefined) throw new TypeError(`the modifier "mkfs" needs the option "${PREFIX}size="`);
  if (!isMkfsType(fs)) throw new TypeError(`mkfs makes ${MKFS_TYPES.join(", ")}, not ${quote(fs)}`);
  if (uuid !== undefined && !UUID.test(uuid)) throw new TypeError(`${quote(uuid)} is no UUID`);
  return { request: { size: parseBytes(size), fs, uuid }, mount: { ...mount, options } };
}

function isMkfsType(fs: string): fs is typeof MKFS_TYPES[number] {
  return (MKFS_TYPES as readonly string[]).includes(fs);
}

/** A number with a unit of powers of 1024, as containerd takes it: "64MiB", "64mb", "1.5 G". */
function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?(?:([kmgtp])i?)?b?$/i.exec(text);
  const unit = match?.[2]?.toLowerCase();
  const size = Math.floor(Number(match?.[1]) * 1024 ** (unit === undefined ? 0 : "kmgtp".indexOf(unit) + 1));
  if (!match || !Number.isSafeInteger(size) || size === 0) {
    throw new TypeError(
      `${quote(text)} is no size: write a number of bytes, or one with KiB, MiB, GiB or TiB`,
    );
  }
  return size;
}
