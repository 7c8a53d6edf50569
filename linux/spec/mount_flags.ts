/**
 * Attributes as mount_setattr(2) has them, in the flags of mount(2).
 *
 * @module
 */

import {
  MOUNT_ATTR__ATIME,
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_NOSYMFOLLOW,
  MOUNT_ATTR_RDONLY,
  MOUNT_ATTR_STRICTATIME,
  MS_DIRSYNC,
  MS_LAZYTIME,
  MS_MANDLOCK,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_NOSYMFOLLOW,
  MS_RDONLY,
  MS_RELATIME,
  MS_STRICTATIME,
  MS_SYNCHRONOUS,
} from "../syscalls/constants.ts";
import type { AttributeChange } from "./options.ts";

const pairs: readonly (readonly [attribute: number, flag: number])[] = [
  [MOUNT_ATTR_RDONLY, MS_RDONLY],
  [MOUNT_ATTR_NOSUID, MS_NOSUID],
  [MOUNT_ATTR_NODEV, MS_NODEV],
  [MOUNT_ATTR_NOEXEC, MS_NOEXEC],
  [MOUNT_ATTR_NODIRATIME, MS_NODIRATIME],
  [MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW],
];
const MS__ATIME = MS_NOATIME | MS_STRICTATIME | MS_RELATIME;

/**
 * The mount(2) flags that a change of attributes leads to.
 *
 * @param change attributes to set and clear.
 * @param before the mount's flags until now.
 * @returns the flags to mount with.
 */
export function attributesToFlags({ set, clear }: AttributeChange, before = 0): number {
  let flags = before;
  for (const [attribute, flag] of pairs) {
    if (clear & attribute) flags &= ~flag;
    if (set & attribute) flags |= flag;
  }
  if (!(clear & MOUNT_ATTR__ATIME)) return flags;
  const atime = set & MOUNT_ATTR__ATIME;
  flags &= ~MS__ATIME;
  if (atime === MOUNT_ATTR_NOATIME) return flags | MS_NOATIME;
  return flags | (atime === MOUNT_ATTR_STRICTATIME ? MS_STRICTATIME : MS_RELATIME);
}

/**
 * The attributes that mount(2) flags stand for; not the access time.
 *
 * @param flags the flags.
 * @returns the `MOUNT_ATTR_…` flags.
 */
export function flagsToAttributes(flags: number): number {
  return pairs.reduce(
    (attributes, [attribute, flag]) => flags & flag ? attributes | attribute : attributes,
    0,
  );
}

// linux/statfs.h: ST_…, which differ from MS_… for relatime and nosymfollow.
const statfsPairs: readonly (readonly [statfs: number, flag: number])[] = [
  [0x0001, MS_RDONLY],
  [0x0002, MS_NOSUID],
  [0x0004, MS_NODEV],
  [0x0008, MS_NOEXEC],
  [0x0400, MS_NOATIME],
  [0x0800, MS_NODIRATIME],
  [0x1000, MS_RELATIME],
  [0x2000, MS_NOSYMFOLLOW],
];

/**
 * The mount(2) flags of an existing mount.
 *
 * @param statfsFlags `f_flags` of statfs(2).
 * @returns its `MS_…` flags; `MS_STRICTATIME` where access times are always updated.
 */
export function statfsToFlags(statfsFlags: number): number {
  const flags = statfsPairs.reduce((all, [bit, flag]) => statfsFlags & bit ? all | flag : all, 0);
  return flags & MS__ATIME ? flags : flags | MS_STRICTATIME;
}

const superFlagBits: Record<string, number> = {
  ro: MS_RDONLY,
  sync: MS_SYNCHRONOUS,
  dirsync: MS_DIRSYNC,
  lazytime: MS_LAZYTIME,
  mand: MS_MANDLOCK,
};
const opposites: Record<string, string> = { rw: "ro", async: "sync", nolazytime: "lazytime", nomand: "mand" };

/**
 * The mount(2) flags of a superblock.
 *
 * @param names such as "ro" or "sync"; the last word counts.
 * @param before the flags until now.
 * @returns the flags.
 */
export function superFlagsToFlags(names: readonly string[], before = 0): number {
  return names.reduce((flags, name) => {
    const opposite = opposites[name];
    if (opposite !== undefined) return flags & ~(superFlagBits[opposite] ?? 0);
    return flags | (superFlagBits[name] ?? 0);
  }, before);
}

/** What mount(2) makes a new mount of: the superblock's flags, and the mount's attributes. */
export interface NewMountFlags {
  /** The flags for mount(2). */
  readonly flags: number;
  /** The attributes that a remount of the mount alone has to set after it: `ro=vfs` and `ro=fs`. */
  readonly remount: AttributeChange | undefined;
}

/**
 * The flags of a new file system's mount. mount(2) has one flag for a read-only superblock and a read-only mount; if only
 * one of them is to be read-only, the mount is changed by a second call.
 *
 * @param superFlags the superblock's flags, such as "ro" or "sync".
 * @param attributes the mount's attributes.
 * @returns the flags, and what is left to do.
 */
export function newMountFlags(superFlags: readonly string[], attributes: AttributeChange): NewMountFlags {
  const flags = superFlagsToFlags(superFlags);
  const change = attributesToFlags(attributes);
  if ((flags & MS_RDONLY) === (change & MS_RDONLY)) return { flags: flags | change, remount: undefined };
  const remount = change & MS_RDONLY
    ? { set: MOUNT_ATTR_RDONLY, clear: 0 }
    : { set: 0, clear: MOUNT_ATTR_RDONLY };
  return { flags: flags | (change & ~MS_RDONLY), remount };
}
