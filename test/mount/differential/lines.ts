/**
 * Random option lines, as a person writes them after `mount -o`: words of the option table and of the file systems, with
 * repeats and contradictions.
 *
 * @module
 */

import {
  ATTRIBUTES,
  PROPAGATIONS,
  SUPER_FLAGS,
  USER_MOUNTS,
  USERSPACE_OPTIONS,
} from "../../../linux/spec/option_table.ts";
import { Random } from "../../soak/random.ts";

/** What is mounted. */
export type Kind = "bind" | "rbind" | "tmpfs" | "ext4" | "overlay";

/** One mount; `DIR` in a word stands for the directory that has its sources, layers and mountpoint. */
export interface Line {
  /** What is mounted. */
  readonly kind: Kind;
  /** The type, as mount(8) takes it after -t. */
  readonly type: string;
  /** The source. */
  readonly source: string;
  /** The options. */
  readonly words: readonly string[];
  /** Whether the mountpoint is missing. */
  readonly missing: boolean;
}

const ATTRIBUTE_WORDS = Object.keys(ATTRIBUTES);
const PROPAGATION_WORDS = Object.keys(PROPAGATIONS).flatMap((name) => [name, `r${name}`]);
const LAYERED = ["ro", "rw", "nosuid", "nodev", "noexec", "exec", "noatime", "nosymfollow"].flatMap((name) =>
  ["vfs", "fs", "recursive"].map((layer) => `${name}=${layer}`)
);
const SILENT = [
  ...USERSPACE_OPTIONS.filter((word) => word !== ""),
  ...Object.keys(USER_MOUNTS),
  "user=root",
  "x-foo",
  "x-foo=bar",
  "x-systemd.automount",
  "comment=text",
  "X-fstrim.notrim",
  'context="system_u:object_r:tmp_t:s0"',
];
const X_MOUNT = [
  "X-mount.mkdir",
  "x-mount.mkdir",
  "X-mount.mkdir=700",
  "X-mount.mkdir=1777",
  "X-mount.subdir=sub",
  "X-mount.subdir=sub/deep",
  "X-mount.subdir=missing",
  "X-mount.idmap=b:0:1000:10",
  "X-mount.idmap=u:0:1000:10 g:0:2000:10",
  "X-mount.owner=1000",
  "X-mount.owner=nobody",
  "X-mount.group=1000",
  "X-mount.group=daemon",
  "X-mount.mode=1755",
  "X-mount.mode=640",
  "X-mount.noloop",
  "X-mount.nocanonicalize",
  "X-mount.nocanonicalize=source",
  "X-mount.auto-fstypes=ext4",
];

const OWN: Record<Kind, readonly string[]> = {
  bind: [],
  rbind: [],
  tmpfs: [
    ...["size=1m", "size=4096k", "size=10%", "size=x", "mode=750", "mode=1777", "mode=9", "nr_inodes=100"],
    ...["nr_inodes=2k", "uid=1000", "gid=1000", "huge=never", "inode64", "size=", "mode"],
  ],
  ext4: [
    ...["data=ordered", "data=writeback", "data=journal", "errors=continue", "errors=remount-ro"],
    ...["errors=panic", "errors=x", "noload", "discard", "nodiscard", "commit=30", "nobarrier", "barrier=1"],
    ...["acl", "user_xattr", "offset=0", "sizelimit=4M", "sizelimit=4MiB", "noinit_itable", "iversion"],
  ],
  overlay: [
    ...["index=on", "index=off", "metacopy=on", "metacopy=off", "redirect_dir=on", "redirect_dir=off"],
    ...["redirect_dir=nofollow", "redirect_dir=follow", "xino=on", "xino=off", "xino=auto", "volatile"],
    ...["userxattr", "nfs_export=on", "nfs_export=off", "uuid=null", "uuid=on", "default_permissions"],
    "index=x",
  ],
};

/**
 * Draws lines.
 *
 * @param count how many.
 * @param seed the same seed draws the same lines.
 * @param kinds what is mounted.
 * @returns the lines.
 */
export function drawLines(count: number, seed: number, kinds: readonly Kind[]): Line[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, index) => drawLine(random, kinds[index % kinds.length] as Kind));
}

function drawLine(random: Random, kind: Kind): Line {
  const words: string[] = [];
  for (let left = random.below(6); left >= 0; left--) words.push(drawWord(random, kind));
  for (const word of needed(random, kind)) words.splice(random.below(words.length + 1), 0, word);
  const missing = words.some((word) => /^x-mount\.mkdir/i.test(word)) && random.chance(0.7);
  return { kind, ...typeAndSource(random, kind), words, missing };
}

function drawWord(random: Random, kind: Kind): string {
  const drawn = random.next();
  if (drawn < 0.45) return random.pick(ATTRIBUTE_WORDS);
  if (drawn < 0.65 && OWN[kind].length > 0) return random.pick(OWN[kind]);
  if (drawn < 0.72) return random.pick(SUPER_FLAGS);
  if (drawn < 0.79) return random.pick(PROPAGATION_WORDS);
  if (drawn < 0.88) return random.pick(SILENT);
  if (drawn < 0.92) return random.pick(LAYERED);
  if (drawn < 0.99) return random.pick(X_MOUNT);
  return "unknown";
}

/** The words without which it is another kind of mount. */
function needed(random: Random, kind: Kind): string[] {
  switch (kind) {
    case "bind":
    case "rbind":
      return random.chance(0.1) ? ["bind", kind] : [kind];
    case "ext4":
      return ["loop"];
    case "overlay":
      return random.chance(0.3)
        ? ["lowerdir=DIR/lower1:DIR/lower2"]
        : ["lowerdir=DIR/lower1:DIR/lower2", "upperdir=DIR/upper", "workdir=DIR/work"];
    case "tmpfs":
      return [];
  }
}

function typeAndSource(random: Random, kind: Kind): { type: string; source: string } {
  switch (kind) {
    case "bind":
    case "rbind":
      return { type: "none", source: `DIR/../${random.pick(["plain", "restricted"])}` };
    case "ext4":
      return { type: "ext4", source: "DIR/image" };
    default:
      return { type: kind, source: "name" };
  }
}
