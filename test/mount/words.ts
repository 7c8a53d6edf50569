/**
 * Every word of an option list, and what the man pages say that it does: what the mount table has to show, or why the
 * word is refused. None of it is derived from the code under test.
 *
 * @module
 */

/** What a word does to a new mount or to an existing one. */
export interface Effect {
  /** Attributes of the mount: "+nosuid" sets, "-nosuid" clears, "=noatime" is the access time mode. */
  readonly attributes?: readonly string[];
  /** Whether the attributes count for the mounts below too. */
  readonly tree?: boolean;
  /** Flags of the superblock: "+ro", "-ro", "+sync", … */
  readonly superblock?: readonly string[];
  /** What the mount has to be in its propagation; "shared" and "slave" as mountinfo's fields say it. */
  readonly propagation?: "shared" | "slave" | "private" | "unbindable";
  /** The owner, group and mode of its root. */
  readonly root?: { readonly uid?: number; readonly gid?: number; readonly mode?: number };
  /** The directory below the root that is mounted instead. */
  readonly subdir?: string;
  /** The mounts whose owners are mapped by 100000. */
  readonly mapped?: "top" | "tree";
  /** The word needs special care: it changes what the list is. */
  readonly is?: "bind" | "remount" | "loop" | "mkdir";
  /** The word is refused by every way; the message matches this. */
  readonly refused?: RegExp;
}

/** A word and what it does. */
export interface Word {
  /** The option. */
  readonly option: string;
  /** What it does; empty for a comment. */
  readonly effect: Effect;
  /** What the message of a refusal matches; else it has the option's key in it. */
  readonly named?: RegExp;
  /** It speaks about the superblock alone, so that a way which only has a mount has to refuse it. */
  readonly onlySuperblock?: boolean;
  /** The kind of mounts for which it says something else, which the tests of loop devices hold. */
  readonly except?: "ext4";
  /** Ids that a user namespace has not: for root only. */
  readonly root?: boolean;
}

/** mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS; mount_setattr(2) for the access time modes. */
const attributes: Readonly<Record<string, string>> = {
  ro: "+ro",
  rw: "-ro",
  nosuid: "+nosuid",
  suid: "-nosuid",
  nodev: "+nodev",
  dev: "-nodev",
  noexec: "+noexec",
  exec: "-noexec",
  nosymfollow: "+nosymfollow",
  symfollow: "-nosymfollow",
  nodiratime: "+nodiratime",
  diratime: "-nodiratime",
  noatime: "=noatime",
  strictatime: "=strictatime",
  relatime: "=relatime",
  // Alone, they ask for the kernel's default.
  atime: "=relatime",
  norelatime: "=relatime",
  nostrictatime: "=relatime",
};

const isSuperFlag = (name: string) => name === "ro" || name === "rw";

function attributeWords(): Word[] {
  return Object.entries(attributes).flatMap(([name, change]): Word[] => {
    const own = { attributes: [change], ...(isSuperFlag(name) ? { superblock: [change] } : {}) };
    const named = new RegExp(`"r?${name}(=recursive)?"`);
    return [
      { option: name, effect: own },
      { option: `r${name}`, effect: { ...own, tree: true }, named },
      { option: `${name}=vfs`, effect: { attributes: [change] } },
      { option: `${name}=recursive`, effect: { ...own, tree: true }, named },
      {
        option: `${name}="vfs,recursive"`,
        effect: { attributes: [change], tree: true },
        named: new RegExp(`"?${name}=`),
      },
      isSuperFlag(name)
        ? { option: `${name}=fs`, effect: { superblock: [change] }, onlySuperblock: true }
        : { option: `${name}=fs`, effect: { refused: new RegExp(`["\`]${name}=fs\\b`) } },
      { option: `${name}=bogus`, effect: { refused: new RegExp(`["\`]${name}=bogus\\b`) } },
    ];
  });
}

/** Flags that the superblock alone has. Their opposites are the default, and say nothing about a superblock without them. */
const superFlags: Word[] = [
  ...["sync", "dirsync", "lazytime", "mand"].map((option): Word => ({
    option,
    effect: { superblock: [`+${option}`] },
    onlySuperblock: true,
  })),
  ...["async", "nolazytime", "nomand"].map((option): Word => ({ option, effect: {} })),
];

const propagations = (["shared", "slave", "private", "unbindable"] as const).flatMap((
  propagation,
): Word[] => [
  { option: propagation, effect: { propagation } },
  { option: `r${propagation}`, effect: { propagation, tree: true } },
]);

/** systemd.mount(5), fstab(5), mount(8): for boot scripts and people. */
const comments = [
  ...["", "defaults", "auto", "noauto", "nofail", "_netdev", "nouser", "nousers", "noowner", "nogroup"],
  ...["silent", "loud", "x-systemd.automount", "x-anything=1", "X-fstrim.notrim", "comment=anything"],
  ...["X-mount.nocanonicalize", "X-mount.nocanonicalize=source"],
  ...["X-mount.nocanonicalize=target"],
  // Without SELinux, as on a machine that mounts what an SELinux machine wrote down.
  ...["context=a:b:c:s0", 'context="a:b:c:s0:c1,c2"', "fscontext=a:b:c:s0", "defcontext=a:b:c:s0"],
  ...["rootcontext=a:b:c:s0", "seclabel"],
].map((option): Word => ({ option, effect: {} }));

/** mount(8): "implies noexec, nosuid, and nodev", "implies nosuid and nodev". */
const users: Word[] = [
  ...["user", "users", "user=alice"].map((option): Word => ({
    option,
    effect: { attributes: ["+nosuid", "+nodev", "+noexec"] },
  })),
  ...["owner", "group"].map((option): Word => ({ option, effect: { attributes: ["+nosuid", "+nodev"] } })),
];

const maps = "uidmap=0:100000:65536,gidmap=0:100000:65536";
const mapNames = /id map|id-map|uidmap|X-mount\.idmap/;

const mapped = (option: string, which: "top" | "tree"): Word => ({
  option,
  effect: { mapped: which },
  named: mapNames,
  root: true,
});

const others: Word[] = [
  { option: "bind", effect: { is: "bind" }, named: /bind/ },
  { option: "rbind", effect: { is: "bind", tree: true }, named: /bind/ },
  { option: "remount", effect: { is: "remount" }, named: /remount/ },
  { option: "loop", effect: { is: "loop" }, named: /loop|Is a directory/ },
  { option: "loop=/dev/loop7", effect: { refused: /["`]loop=\/dev\/loop7/ } },
  { option: "idmap", effect: { refused: /"idmap" needs the maps/ } },
  { option: "ridmap", effect: { refused: /"ridmap" needs the maps/ } },
  { option: "uidmap=0:100000:65536", effect: { refused: /"uidmap=" needs a "gidmap="/ } },
  { option: "gidmap=0:100000:65536", effect: { refused: /"gidmap=" needs a "uidmap="/ } },
  mapped(maps, "tree"),
  mapped(`ridmap,${maps}`, "tree"),
  mapped(`idmap,${maps}`, "top"),
  mapped("X-mount.idmap=b:0:100000:65536", "tree"),
  mapped("X-mount.idmap=u:0:100000:65536 g:0:100000:65536", "tree"),
  { option: "X-mount.noloop", effect: {}, except: "ext4" },
  { option: "X-mount.mkdir", effect: { is: "mkdir", root: { mode: 0o755 } } },
  { option: "X-mount.mkdir=0711", effect: { is: "mkdir", root: { mode: 0o711 } } },
  { option: "x-mount.mkdir=0711", effect: { is: "mkdir", root: { mode: 0o711 } } },
  { option: "X-mount.subdir=d", effect: { subdir: "d" }, named: /X-mount\.subdir|\bd'? does not exist/ },
  { option: "X-mount.owner=1234", effect: { root: { uid: 1234 } }, root: true },
  { option: "X-mount.group=2345", effect: { root: { gid: 2345 } }, named: /group=/, root: true },
  { option: "X-mount.mode=0710", effect: { root: { mode: 0o710 } }, named: /mode=/ },
  { option: "X-mount.auto-fstypes=ext4", effect: { refused: /X-mount\.auto-fstypes=ext4/ } },
  { option: "X-mount.bogus", effect: { refused: /X-mount\.bogus/ } },
  { option: "X-mount.mode=9", effect: { refused: /X-mount\.mode=9/ } },
  { option: "X-containerd.mkfs.fs=ext4", effect: { refused: /X-containerd\.mkfs\.fs=ext4/ } },
  { option: "X-bogus", effect: { refused: /X-bogus/ } },
  { option: "bogusword", effect: { refused: /bogusword/ } },
  { option: "bogus=value", effect: { refused: /bogus/ } },
  { option: "offset=4096", effect: { refused: /offset/ }, except: "ext4" },
  { option: "sizelimit=4096", effect: { refused: /sizelimit/ }, except: "ext4" },
  { option: "direct-io", effect: { refused: /direct-io/ }, except: "ext4" },
];

/** The words, each once. */
export const words: readonly Word[] = [
  ...attributeWords(),
  ...superFlags,
  ...propagations,
  ...comments,
  ...users,
  ...others,
];

/**
 * What the message of a refusal has to match: it names the word.
 *
 * @param word the word.
 * @returns the pattern.
 */
export function namePattern({ option, effect, named }: Word): RegExp {
  if (effect.refused) return effect.refused;
  if (named) return named;
  const [key = ""] = option.split("=");
  return new RegExp(`["\`]${key.replaceAll(".", "\\.")}\\b`);
}
