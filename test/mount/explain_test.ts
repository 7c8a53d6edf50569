import { explain, type Mount, mountAll, MountError, type Step } from "../../mod.ts";
import { AT_RECURSIVE } from "../../linux/syscalls/constants.ts";
import { type Feature, pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertStringIncludes, assertThrows } from "../assert.ts";
import { kernelHas } from "../feature.ts";
import { kernelTest } from "../harness.ts";

const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
const CALLS =
  "open_tree,open_tree_attr,move_mount,fsopen,fsconfig,fsmount,fspick,mount_setattr,mount,umount2";
const features = [
  "openat2",
  "mountApi",
  "mountSetattr",
  "overlayLayers",
  "overlayDescriptors",
  "detachedLayers",
  "pidfdNamespaces",
  "statmount",
  "mountBeneath",
  "detachedTargets",
  "openTreeAttr",
] as const;

/** Every way that a mount can take, by what the kernel lacks. */
const ways: Record<string, readonly Feature[]> = {
  "with every call": [],
  "without detached targets (before 6.15)": ["detachedTargets"],
  "without detached layers (before 6.15)": ["detachedLayers", "openTreeAttr"],
  "without lowerdir+ (before 6.5)": ["overlayLayers", "overlayDescriptors", "detachedLayers", "openTreeAttr"],
  "without mount_setattr (before 5.12)": [
    "mountSetattr",
    "overlayLayers",
    "overlayDescriptors",
    "detachedLayers",
    "openTreeAttr",
    "statmount",
  ],
  "without the mount API (before 5.2, or a seccomp filter)": [
    "mountApi",
    "mountSetattr",
    "overlayLayers",
    "overlayDescriptors",
    "detachedLayers",
    "openTreeAttr",
    "statmount",
  ],
};

/** A list for every kind, all of them mounted at one directory and unmounted again. */
function lists(dir: string, missing: readonly Feature[]): Mount[][] {
  const overlay = (...options: string[]): Mount => ({ type: "overlay", source: "o", options });
  const bind = (...options: string[]): Mount => ({ type: "bind", source: `${dir}/source`, options });
  const tmpfs = (...options: string[]): Mount => ({ type: "tmpfs", source: "tmpfs", options });
  const layers = `lowerdir=${dir}/lower:${dir}/other`;
  const upper = [`upperdir=${dir}/upper`, `workdir=${dir}/work`];
  const remount = (...options: string[]): Mount => ({
    type: "",
    source: "",
    options: ["remount", ...options],
  });
  const inside = (target: string, ...options: string[]): Mount => ({
    ...tmpfs("X-mount.mkdir", ...options),
    target,
  });
  const all: Mount[][] = [
    [bind("bind")],
    [bind("rbind")],
    [bind("bind", "ro", "noatime")],
    [bind("rbind", "nosuid", "rprivate")],
    // Before 5.12, explain() can't look at a target without waiting for a server.
    ...kernelHas("mountSetattr")
      ? [[{ type: "bind", source: `${dir}/image`, target: "/file", options: ["bind", "ro"] }]]
      : [],
    [bind("rbind", "nosuid", "rshared")],
    [tmpfs("size=1m", "nosuid", "ro")],
    [tmpfs("private")],
    [{ type: "tmpfs", source: "s".repeat(300), options: ["noexec"] }], // too long for fsconfig(2)
    [overlay(layers)],
    [overlay(layers, ...upper, "index=off", "nodev")],
    [{ type: "ext4", source: `${dir}/image`, options: ["loop", "ro"] }],
    [tmpfs(), remount("bind", "nosuid", "ro")],
    [tmpfs(), remount("size=2m", "noexec")],
    [tmpfs(), inside("/a"), {
      ...bind("rbind", "ro"),
      target: "/a/b",
      options: ["rbind", "ro", "X-mount.mkdir"],
    }],
    [bind("bind"), inside("/a"), { ...remount("bind", "ro"), target: "/a" }, inside("/b"), inside("/b/c")],
    [tmpfs(), inside("/a"), {
      ...bind("bind"),
      source: `${dir}/root/a`,
      target: "/b",
      options: ["X-mount.mkdir"],
    }],
    [bind("bind"), inside("/a", "private"), inside("/b")],
    [overlay(layers, ...upper), { ...overlay(layers), target: "/a", options: [layers, "X-mount.mkdir"] }],
    [tmpfs(), { type: "none", source: "", options: ["rshared"] }],
    [{ type: "fuse3.bindfs", source: `${dir}/source`, target: "/empty", options: ["ro"] }],
  ];
  if (missing.includes("mountSetattr")) return all;
  return [...all, [bind("rbind", "rro", "noexec")], [bind("bind", ...maps)], [bind("rbind", ...maps)], [
    overlay(layers, ...maps),
  ], [{ type: "ext4", source: `${dir}/image`, options: ["loop", "ro", ...maps] }]];
}

for (const [way, missing] of Object.entries(ways)) {
  kernelTest(`explain() describes the calls that strace sees, ${way}`, {
    root: true,
    tools: ["strace", "mkfs.ext4", "mount.fuse3", "bindfs"],
    features: features.filter((feature) =>
      !missing.includes(feature) && feature !== "statmount" && feature !== "pidfdNamespaces" &&
      feature !== "openat2" && feature !== "mountBeneath" && feature !== "detachedTargets"
    ),
    permissions: { run: true },
  }, async (t) => {
    t.make("root/empty", "lower", "other", "upper", "work", "source");
    Deno.writeTextFileSync(`${t.dir}/root/file`, "");
    await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "1M"] }).output();
    const given = lists(t.dir, missing);
    const traced = await trace(t.dir, given, missing);
    using _ = pretendMissing(...missing);
    for (const [index, list] of given.entries()) {
      const steps = explain(list, `${t.dir}/root`).filter(({ call }) => CALLS.split(",").includes(call));
      assertEquals(steps.map(summary), traced[index], JSON.stringify(list));
    }
  });
}

for (const missing of [[], ["detachedTargets", "openTreeAttr"]] satisfies Feature[][]) {
  kernelTest(
    `explain() describes the calls that strace sees when a list replaces what is mounted${
      missing.length ? ", before 6.15" : ""
    }`,
    {
      root: true,
      tools: ["strace", "mount.fuse3", "bindfs"],
      features: [
        "mountBeneath",
        ...missing.length ? [] : ["detachedTargets" as const, "openTreeAttr" as const],
        "overlayDescriptors",
      ],
      permissions: { run: true },
    },
    async (t) => {
      t.make("root/empty", "root/other", "lower", "other", "upper", "work", "source/in");
      const tmpfs = (target: string, ...options: string[]): Mount => ({
        type: "tmpfs",
        source: "t",
        target,
        options,
      });
      const bind = (...options: string[]): Mount => ({ type: "bind", source: `${t.dir}/source`, options });
      const overlay = {
        type: "overlay",
        source: "o",
        options: [`lowerdir=${t.dir}/lower:${t.dir}/other`, ...maps],
      };
      const given: Mount[][] = [
        [bind("rbind", "ro", "rprivate")],
        [tmpfs("/"), tmpfs("/")],
        [bind("bind"), tmpfs("/in", "private")],
        [overlay],
        [tmpfs("/empty"), tmpfs("/other")],
        [{ type: "tmpfs", source: "s".repeat(300), options: ["noexec"] }], // too long for fsconfig(2)
        [{ type: "fuse3.bindfs", source: `${t.dir}/source`, target: "/empty", options: ["ro"] }],
      ];
      const old = [tmpfs("/"), tmpfs("/empty", "X-mount.mkdir"), tmpfs("/other", "X-mount.mkdir")];
      const traced = await trace(t.dir, given, missing, old);
      using _way = pretendMissing(...missing);
      await using _old = await mountAll(old, `${t.dir}/root`);
      for (const [index, list] of given.entries()) {
        const steps = explain(list, `${t.dir}/root`, { replace: true });
        const calls = steps.filter(({ call }) => CALLS.split(",").includes(call)).map(summary);
        // An old mount with others below it is busy: it is detached in a second call.
        const busy = list.some(({ target = "/" }) => target === "/") ? ["umount2 MNT_DETACH"] : [];
        const at = calls.findLastIndex((each) => each === "umount2") + 1;
        assertEquals(calls.toSpliced(at, 0, ...busy), traced[index], JSON.stringify(list));
      }
    },
  );
}

/** Mounts each list below strace, and returns the calls of each; with a list to replace, each replaces that. */
async function trace(
  dir: string,
  given: Mount[][],
  missing: readonly Feature[],
  old: Mount[] = [],
): Promise<string[][]> {
  const program = `
    import { mountAll } from "${new URL("../../mod.ts", import.meta.url).href}";
    import { hasFeature, pretendMissing } from "${
    new URL("../../linux/syscalls/features.ts", import.meta.url).href
  }";
    for (const feature of ${JSON.stringify(features)}) hasFeature(feature as never);
    using _ = pretendMissing(...${JSON.stringify(missing)} as never[]);
    const { umount2 } = Deno.dlopen("libc.so.6", { umount2: { parameters: ["buffer", "i32"], result: "i32" } }).symbols;
    const mark = (name: string) => umount2(new TextEncoder().encode(name + "\\0"), 0);
    for (const list of ${JSON.stringify(given)}) {
      const old = await mountAll(${JSON.stringify(old)}, ${JSON.stringify(`${dir}/root`)});
      mark("/begin");
      const handle = await mountAll(list, ${JSON.stringify(`${dir}/root`)}, { replace: ${old.length > 0} });
      mark("/end");
      await handle.unmount();
      await old.unmount();
    }`;
  Deno.writeTextFileSync(`${dir}/program.ts`, program);
  const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${dir}/program.ts`];
  const { code, stderr } = await new Deno.Command("strace", {
    args: [
      "-f",
      "-qq",
      "--seccomp-bpf",
      "-o",
      `${dir}/trace`,
      "--trace=!futex,mmap,munmap,madvise",
      ...deno,
    ],
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  // The helper of a FUSE mount makes calls of its own, in another process.
  const lines = Deno.readTextFileSync(`${dir}/trace`).match(TRACED) ?? [];
  const helpers = new Set(lines.flatMap((line) => line.includes('"fuse') ? [line.split(" ")[0]] : []));
  const text = lines.filter((line) => !helpers.has(line.split(" ")[0])).join("\n");
  return [...text.matchAll(/umount2\("\/begin".*\n([^]*?)umount2\("\/end"/g)].map(([, calls = ""]) =>
    [...calls.matchAll(TRACED)].map(([, name = "", args = ""]) =>
      name === OPEN_TREE_ATTR ? openTreeAttrLine(Number(args.split(", ")[2])) : line(name, args)
    )
  );
}

const OPEN_TREE_ATTR = "syscall_0x1d3"; // 467, asm-generic/unistd.h: strace 6.1 has no name for it, and shows no attributes
const TRACED = new RegExp(`^\\d+ +(${CALLS.replaceAll(",", "|")}|${OPEN_TREE_ATTR})\\((.*)$`, "gm");

function openTreeAttrLine(flags: number): string {
  return line("open_tree_attr", `OPEN_TREE_CLONE ${flags & AT_RECURSIVE ? "AT_RECURSIVE" : ""}`);
}

/** A call by its name and those of its arguments that are flags. */
function summary({ call, arguments: args }: Step): string {
  return line(call, call === "open_tree_attr" ? args.replace(/\{.*\}/, "") : args);
}

/** strace 6.1 writes the field of access times in parts, and a remount passes the access time that the mount had. */
function line(name: string, args: string): string {
  const names = args.replace(/attr_clr=[^0][^,}]*|attr_clr=0x[^,}]*/, "ATTR_CLR").match(
    /\b(MS_(?!SILENT|RELATIME)\w+|MNT_\w+|AT_RECURSIVE|OPEN_TREE_CLONE\b|FSCONFIG_\w+|MOUNT_ATTR_\w+|ATTR_CLR)\b/g,
  );
  return [name, ...[...new Set(names)].sort()].join(" ");
}

if (kernelHas("mountSetattr")) {
  Deno.test("explain() shows the arguments", { permissions: { ffi: true } }, () => {
    const lines = explain(
      [{ type: "bind", source: "/usr", target: "b", options: ["rbind", "rro", "noatime"] }],
      "/mnt",
    )
      .map((step) => `${step.call}(${step.arguments})`);
    assertEquals(lines, [
      ...kernelHas("openTreeAttr")
        ? [
          'open_tree_attr(AT_FDCWD, "/usr", OPEN_TREE_CLONE|AT_RECURSIVE, ' +
          "{attr_set=MOUNT_ATTR_RDONLY, propagation=MS_SLAVE})",
        ]
        : [
          'open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE|AT_RECURSIVE)',
          "mount_setattr(tree, AT_EMPTY_PATH|AT_RECURSIVE, {attr_set=MOUNT_ATTR_RDONLY, propagation=MS_SLAVE})",
        ],
      "mount_setattr(tree, AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_NOATIME, attr_clr=MOUNT_ATTR__ATIME})",
      'move_mount(tree, "/mnt/b")',
    ]);
    const [first] = explain([{ type: "bind", source: "/usr", options: ["bind", ...maps] }], "/mnt");
    assertEquals(first?.call, "clone");
  });
}

Deno.test("explain() refuses an invalid mount, and an id map before Linux 5.12", {
  permissions: { ffi: true },
}, () => {
  assertThrows(() => explain([{ type: "overlay", source: "o" }], "/mnt"), MountError, "at least one layer");
  using _older = pretendMissing("mountSetattr");
  assertStringIncludes(
    assertThrows(
      () => explain([{ type: "bind", source: "/usr", options: ["bind", ...maps] }], "/mnt"),
      MountError,
    ).message,
    "Linux 5.12",
  );
});
