/**
 * Every word of an option list that is not a file system's own, and what it says. docs/options.md has the same words; a
 * test compares the two.
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

/** Attributes to set and to clear on a mount (`MOUNT_ATTR_…`). */
export interface AttributeChange {
  /** To set. */
  readonly set: number;
  /** To clear; the access time field is always cleared as a whole. */
  readonly clear: number;
}

/** What a word says about a mount's attributes. */
export interface AttributeWord extends AttributeChange {
  /** The access time modes that it only takes back, and no others: `atime` takes back `noatime`, not `strictatime`. */
  readonly takesBack?: readonly number[];
}

/** What one word says. */
export interface OptionSpec {
  /** The attributes that it changes. */
  readonly attribute?: AttributeWord;
  /** Whether the attribute is changed on every mount below too. */
  readonly tree?: boolean;
  /** Its name as a flag of the superblock, for fsconfig(2). */
  readonly superFlag?: string;
  /** `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`. */
  readonly propagation?: number;
  /** Whether the bind, or the change of propagation, takes the mounts below too. */
  readonly recursive?: boolean;
  /** What it asks for as a whole. */
  readonly kind?: "bind" | "remount" | "loop" | "idmap";
  /** Words that it stands for. */
  readonly implied?: readonly string[];
  /** A word before it that it takes back, with all that it stands for. */
  readonly takesBack?: string;
}

/**
 * Attributes of a mount. Each name with an r before it changes the whole tree, as in the OCI runtime specification, and
 * with "=recursive" after it, as in mount(8).
 */
export const ATTRIBUTES: Readonly<Record<string, AttributeWord>> = {
  ro: { set: MOUNT_ATTR_RDONLY, clear: 0 },
  rw: { set: 0, clear: MOUNT_ATTR_RDONLY },
  nosuid: { set: MOUNT_ATTR_NOSUID, clear: 0 },
  suid: { set: 0, clear: MOUNT_ATTR_NOSUID },
  nodev: { set: MOUNT_ATTR_NODEV, clear: 0 },
  dev: { set: 0, clear: MOUNT_ATTR_NODEV },
  noexec: { set: MOUNT_ATTR_NOEXEC, clear: 0 },
  exec: { set: 0, clear: MOUNT_ATTR_NOEXEC },
  nosymfollow: { set: MOUNT_ATTR_NOSYMFOLLOW, clear: 0 },
  symfollow: { set: 0, clear: MOUNT_ATTR_NOSYMFOLLOW },
  nodiratime: { set: MOUNT_ATTR_NODIRATIME, clear: 0 },
  diratime: { set: 0, clear: MOUNT_ATTR_NODIRATIME },
  noatime: { set: MOUNT_ATTR_NOATIME, clear: MOUNT_ATTR__ATIME },
  strictatime: { set: MOUNT_ATTR_STRICTATIME, clear: MOUNT_ATTR__ATIME },
  relatime: { set: MOUNT_ATTR_RELATIME, clear: MOUNT_ATTR__ATIME },
  // The kernel's default is relatime; it holds where the mode that a word takes back was the one in force.
  atime: { set: MOUNT_ATTR_RELATIME, clear: MOUNT_ATTR__ATIME, takesBack: [MOUNT_ATTR_NOATIME] },
  norelatime: { set: MOUNT_ATTR_RELATIME, clear: MOUNT_ATTR__ATIME, takesBack: [MOUNT_ATTR_RELATIME] },
  nostrictatime: {
    set: MOUNT_ATTR_RELATIME,
    clear: MOUNT_ATTR__ATIME,
    takesBack: [MOUNT_ATTR_STRICTATIME],
  },
};

/** The attributes that forbid something; those of access times forbid nothing. */
export const RESTRICTIONS = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
  MOUNT_ATTR_NOSYMFOLLOW;

/** Flags of the superblock: the names that vfs_parse_sb_flag() of fs/fs_context.c knows. */
export const SUPER_FLAGS: readonly string[] = [
  "ro",
  "rw",
  "sync",
  "async",
  "dirsync",
  "lazytime",
  "nolazytime",
  "mand",
  "nomand",
];

/** Propagation types; each name with an r before it changes the whole tree. */
export const PROPAGATIONS: Readonly<Record<string, number>> = {
  shared: MS_SHARED,
  slave: MS_SLAVE,
  private: MS_PRIVATE,
  unbindable: MS_UNBINDABLE,
};

/** Words for boot scripts, systemd and people, which say nothing about the mount. */
export const USERSPACE_OPTIONS: readonly string[] = [
  "",
  "defaults",
  "auto",
  "noauto",
  "nofail",
  "_netdev",
  "nouser",
  "nousers",
  "noowner",
  "nogroup",
  "silent",
  "loud",
];

/** mount(8): whoever may mount as an ordinary user does so without these. */
export const USER_MOUNTS: Readonly<Record<string, readonly string[]>> = {
  user: ["nosuid", "nodev", "noexec"],
  users: ["nosuid", "nodev", "noexec"],
  owner: ["nosuid", "nodev"],
  group: ["nosuid", "nodev"],
};

/** Words that begin with `X-mount.`, mount(8)'s instructions, each with what follows it. */
export const X_MOUNT: Readonly<Record<string, "value" | "optional" | "none">> = {
  mkdir: "optional",
  subdir: "value",
  idmap: "value",
  owner: "value",
  group: "value",
  mode: "value",
  noloop: "none",
  nocanonicalize: "optional",
  "auto-fstypes": "value",
};

/** Every word without a value, so that an option is looked up once. */
export const WORDS: ReadonlyMap<string, OptionSpec> = makeWords();

function makeWords(): Map<string, OptionSpec> {
  const words = new Map<string, OptionSpec>();
  const define = (name: string, spec: OptionSpec) => words.set(name, { ...words.get(name), ...spec });
  for (const name of USERSPACE_OPTIONS) define(name, {});
  for (const name of SUPER_FLAGS) define(name, { superFlag: name });
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    define(name, { attribute });
    define(`r${name}`, { attribute, tree: true });
  }
  for (const name of ["ro", "rw"]) define(`r${name}`, { superFlag: name });
  for (const [name, propagation] of Object.entries(PROPAGATIONS)) {
    define(name, { propagation });
    define(`r${name}`, { propagation, recursive: true });
  }
  for (const [name, implied] of Object.entries(USER_MOUNTS)) {
    define(name, { implied });
    define(`no${name}`, { takesBack: name });
  }
  define("bind", { kind: "bind" });
  define("rbind", { kind: "bind", recursive: true });
  define("remount", { kind: "remount" });
  define("loop", { kind: "loop" });
  define("idmap", { kind: "idmap" });
  define("ridmap", { kind: "idmap", recursive: true });
  return words;
}
