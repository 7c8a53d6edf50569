/**
 * fstab-style options, read once into a value that says what to do.
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
  MOUNT_ATTR_RELATIME,
  MOUNT_ATTR_STRICTATIME,
  MS_PRIVATE,
  MS_SHARED,
  MS_SLAVE,
  MS_UNBINDABLE,
} from "../syscalls/constants.ts";
import { quote } from "../../ffi/text.ts";
import { mapFileText } from "./id_mapping.ts";

/** Attributes to set and to clear on a mount (`MOUNT_ATTR_…`). */
export interface AttributeChange {
  /** To set. */
  set: number;
  /** To clear; the access time field is always cleared as a whole. */
  clear: number;
}

/** A step that changes a mount's propagation. */
export interface PropagationStep {
  /** `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`. */
  type: number;
  /** The whole tree of mounts. */
  recursive: boolean;
}

/** How to attach a loop device for a mount. */
export interface LoopOption {
  /** Past the page cache. */
  direct: boolean;
  /** Where the data begins in the backing file, in bytes. */
  offset?: number;
  /** How much of the backing file is used, in bytes. */
  sizeLimit?: number;
}

/** Id maps, as the kernel's uid_map and gid_map files take them. */
export interface IdMaps {
  /** The user ids. */
  uid: string;
  /** The group ids. */
  gid: string;
}

/** What a list of options says. */
export interface ParsedOptions {
  /** A bind mount. */
  bind: boolean;
  /** A bind of the whole tree of mounts. */
  recursive: boolean;
  /** A change of an existing mount. */
  remount: boolean;
  /** The mount's attributes. */
  attributes: AttributeChange;
  /** Attributes of the mount and of all below it. */
  recursiveAttributes: AttributeChange;
  /** What the file system itself is told, as fsconfig(2) names it: "ro", "sync", … */
  superFlags: string[];
  /** Steps after the mount is in place. */
  propagation: PropagationStep[];
  /** The file system's own options, one to an entry. */
  data: string[];
  /** Present where a loop device is wanted. */
  loop?: LoopOption;
  /** Present where the mount is to be id-mapped. */
  idMaps?: IdMaps;
}

type AttributeOption = readonly [set: number, clear: number];

// What each name sets and clears. The same names with an r before them are recursive, as in the OCI runtime
// specification and, for rro, in mount(8).
const attributes: Record<string, AttributeOption> = {
  ro: [MOUNT_ATTR_RDONLY, 0],
  rw: [0, MOUNT_ATTR_RDONLY],
  nosuid: [MOUNT_ATTR_NOSUID, 0],
  suid: [0, MOUNT_ATTR_NOSUID],
  nodev: [MOUNT_ATTR_NODEV, 0],
  dev: [0, MOUNT_ATTR_NODEV],
  noexec: [MOUNT_ATTR_NOEXEC, 0],
  exec: [0, MOUNT_ATTR_NOEXEC],
  nosymfollow: [MOUNT_ATTR_NOSYMFOLLOW, 0],
  symfollow: [0, MOUNT_ATTR_NOSYMFOLLOW],
  nodiratime: [MOUNT_ATTR_NODIRATIME, 0],
  diratime: [0, MOUNT_ATTR_NODIRATIME],
  noatime: [MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME],
  strictatime: [MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME],
  relatime: [MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME],
  // Without a say of its own the kernel's default holds, which is relatime.
  atime: [MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME],
  norelatime: [MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME],
  nostrictatime: [MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME],
};

// Names that vfs_parse_sb_flag() in the kernel's fs/fs_context.c knows.
const superFlags = ["ro", "rw", "sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"];

const propagations = { shared: MS_SHARED, slave: MS_SLAVE, private: MS_PRIVATE, unbindable: MS_UNBINDABLE };

// Words for mount -a, systemd and people, which say nothing about the mount itself.
const USERSPACE_OPTIONS = ["", "defaults", "auto", "noauto", "nofail", "_netdev", "nouser", "silent", "loud"];

// mount(8): who lets users mount takes these away from them.
const userMounts = {
  user: ["nosuid", "nodev", "noexec"],
  users: ["nosuid", "nodev", "noexec"],
  owner: ["nosuid", "nodev"],
  group: ["nosuid", "nodev"],
};

/** What one word says. */
interface OptionSpec {
  kind: "bind" | "remount" | "loop" | undefined;
  recursive: boolean;
  own: AttributeOption | undefined;
  tree: AttributeOption | undefined;
  superFlag: string | undefined;
  propagation: number;
  implied: readonly string[];
}

/** Every word that is not a file system's own, so that each option is looked up once. */
const words = new Map<string, OptionSpec>();

function define(name: string, meaning: Partial<OptionSpec> = {}): void {
  const before = words.get(name);
  words.set(name, {
    kind: undefined,
    recursive: false,
    own: undefined,
    tree: undefined,
    superFlag: undefined,
    propagation: 0,
    implied: [],
    ...before,
    ...meaning,
  });
}

for (const name of USERSPACE_OPTIONS) define(name);
for (const [name, attribute] of Object.entries(attributes)) {
  define(name, { own: attribute });
  define(`r${name}`, { tree: attribute });
}
for (const name of superFlags) define(name, { superFlag: name });
for (const name of ["ro", "rw"]) define(`r${name}`, { superFlag: name });
for (const [name, propagation] of Object.entries(propagations)) {
  define(name, { propagation });
  define(`r${name}`, { propagation, recursive: true });
}
for (const [name, implied] of Object.entries(userMounts)) define(name, { implied });
define("bind", { kind: "bind" });
define("rbind", { kind: "bind", recursive: true });
define("remount", { kind: "remount" });
define("loop", { kind: "loop" });

// Options whose value is a path, in which a comma is a comma.
const paths = /^(lowerdir|lowerdir\+|datadir\+|upperdir|workdir)=/;

/**
 * Reads a list of fstab-style options.
 *
 * @param options the options; an entry with commas counts as several.
 * @returns what they say.
 * @throws {TypeError} for what this library can't do, or what contradicts itself.
 */
export function parseOptions(options: readonly string[]): ParsedOptions {
  const parsed: ParsedOptions = {
    bind: false,
    recursive: false,
    remount: false,
    attributes: { set: 0, clear: 0 },
    recursiveAttributes: { set: 0, clear: 0 },
    superFlags: [],
    propagation: [],
    data: [],
  };
  const seen: Seen = { loop: false, uid: undefined, gid: undefined };
  for (const entry of options) {
    if (!entry.includes(",")) readOption(entry, parsed, seen);
    else for (const option of splitOptions(entry)) readOption(option, parsed, seen);
  }
  if (seen.uid !== undefined || seen.gid !== undefined) parsed.idMaps = idMapsOf(seen);
  if (seen.loop) takeLoopOptions(parsed);
  else if (parsed.data.includes("direct-io")) {
    throw new TypeError('"direct-io" says how a loop device works: add "loop"');
  }
  return parsed;
}

/** What counts when all options are read. */
interface Seen {
  loop: boolean;
  uid: string | undefined;
  gid: string | undefined;
}

function readOption(option: string, parsed: ParsedOptions, seen: Seen): void {
  const word = words.get(option);
  if (word === undefined) {
    if (isIdMap(option)) seen[option.startsWith("u") ? "uid" : "gid"] = option.slice("uidmap=".length);
    else if (!isUserspaceComment(option)) parsed.data.push(option);
    return;
  }
  const { kind, recursive, own, tree, superFlag, propagation, implied } = word;
  if (own) apply(parsed.attributes, own);
  if (tree) apply(parsed.recursiveAttributes, tree);
  if (superFlag !== undefined) parsed.superFlags.push(superFlag);
  if (propagation !== 0) parsed.propagation.push({ type: propagation, recursive });
  if (kind === "bind") {
    parsed.bind = true;
    parsed.recursive ||= recursive;
  } else if (kind === "remount") parsed.remount = true;
  else if (kind === "loop") seen.loop = true;
  for (const name of implied) readOption(name, parsed, seen);
}

/** Whether an option is a comment; the kernel never sees those. */
function isUserspaceComment(option: string): boolean {
  if (option.startsWith("X-containerd.")) {
    throw new TypeError(
      `${quote(option)} is for a mount manager and says nothing to the kernel: activate the mount first`,
    );
  }
  if (option.startsWith("loop=")) {
    throw new TypeError(`${quote(option)} names a loop device: say "loop", and a free one is taken`);
  }
  return option.startsWith("x-") || option.startsWith("X-") || option.startsWith("comment=");
}

function apply(change: AttributeChange, [set, clear]: AttributeOption): void {
  // A later option has the last word over an earlier one.
  change.set = (change.set & ~(clear | set)) | set;
  change.clear = (change.clear & ~set) | clear;
}

function takeLoopOptions(parsed: ParsedOptions): void {
  const value = (key: string) => parsed.data.findLast((option) => option.startsWith(key))?.slice(key.length);
  parsed.loop = { direct: parsed.data.includes("direct-io") };
  const offset = value("offset=");
  const sizeLimit = value("sizelimit=");
  if (offset !== undefined) parsed.loop.offset = parseSize("offset", offset);
  if (sizeLimit !== undefined) parsed.loop.sizeLimit = parseSize("sizelimit", sizeLimit);
  parsed.data = parsed.data.filter((option) => !/^(offset=|sizelimit=|direct-io$)/.test(option));
}

/** A number of bytes as losetup takes it: with K, M, G or T, with or without iB, for powers of 1024. */
function parseSize(name: string, text: string): number {
  const match = /^(\d+)(?:([KMGT])(?:iB)?)?$/.exec(text);
  const size = Number(match?.[1]) * 1024 ** ("KMGT".indexOf(match?.[2] ?? "") + 1);
  if (!match || !Number.isSafeInteger(size)) {
    throw new TypeError(`${quote(`${name}=${text}`)} is not a number of bytes`);
  }
  return match[2] === undefined ? Number(match[1]) : size;
}

function idMapsOf({ uid, gid }: Seen): IdMaps {
  if (gid === undefined) throw new TypeError('"uidmap=" needs a "gidmap=" beside it');
  if (uid === undefined) throw new TypeError('"gidmap=" needs a "uidmap=" beside it');
  return { uid: mapFileText(uid), gid: mapFileText(gid) };
}

/**
 * Whether an option is one half of an id map.
 *
 * @param option the option.
 * @returns true for `uidmap=` and `gidmap=`.
 */
export function isIdMap(option: string): boolean {
  return option.startsWith("uidmap=") || option.startsWith("gidmap=");
}

/**
 * Splits an entry at its commas, but not inside a path, the quotes that a security context may stand in, or between
 * the ranges of an id map.
 *
 * @param entry such as "ro,nosuid".
 * @returns the options, one to an entry.
 */
export function splitOptions(entry: string): string[] {
  if (!entry.includes(",") || paths.test(entry)) return [entry];
  const split: string[] = [];
  let idMap: string[] = []; // the one that came last, by its ranges
  const endIdMap = () => {
    if (idMap.length > 0) split.push(idMap.join(","));
    idMap = [];
  };
  for (const option of commaParts(entry)) {
    if (idMap.length > 0 && /^[^=]*:[^=]*$/.test(option)) idMap.push(option);
    else {
      endIdMap();
      if (isIdMap(option)) idMap.push(option);
      else split.push(option);
    }
  }
  endIdMap();
  return split;
}

/** A regular expression would do, but for a long text its engine runs out of stack. */
function commaParts(entry: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at <= entry.length; at++) {
    const code = entry.charCodeAt(at);
    if (code === QUOTE) quoted = !quoted;
    if (at < entry.length && (code !== COMMA || quoted)) continue;
    if (at > start) parts.push(entry.slice(start, at));
    start = at + 1;
  }
  return parts;
}

const QUOTE = 34; // ASCII
const COMMA = 44;
