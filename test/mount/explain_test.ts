import { explain, type Mount, MountError } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertStringIncludes, assertThrows } from "../assert.ts";
import { kernelHas } from "../feature.ts";
import { kernelTest } from "../harness.ts";

const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
const CALLS = "open_tree,move_mount,fsopen,fsconfig,fsmount,fspick,mount_setattr,mount,umount2";

const older: [string, Parameters<typeof pretendMissing>][] = [
  ["", []],
  [" on an old kernel", [
    "mountApi",
    "mountSetattr",
    "overlayLayers",
    "overlayDescriptors",
    "detachedLayers",
  ]],
];

for (const [what, missing] of older) {
  kernelTest(`explain() says what strace sees when it is done${what}`, {
    root: true,
    tools: ["strace", "mkfs.ext4"],
    permissions: { run: true },
  }, async (t) => {
    t.make("root", "root/a", "root/b", "root/c", "lower", "other", "upper", "work", "source");
    await new Deno.Command("mkfs.ext4", { args: ["-q", `${t.dir}/image`, "1M"] }).output();
    const mapped = missing.length === 0 && kernelHas("mountSetattr") ? maps : [];
    const list: Mount[] = [
      { type: "tmpfs", source: "tmpfs", options: ["size=1m", "nosuid", "private"] },
      { type: "bind", source: `${t.dir}/source`, options: ["bind", "ro", "noatime"] },
      { type: "bind", source: `${t.dir}/source`, options: ["bind", ...mapped] },
      { type: "overlay", source: "o", options: [`lowerdir=${t.dir}/lower:${t.dir}/other`, ...mapped] },
      {
        type: "overlay",
        source: "o",
        options: [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`],
      },
      { type: "ext4", source: `${t.dir}/image`, options: ["loop", "ro"] },
      { type: "", source: "", options: ["remount", "bind", "nosuid"] },
    ];
    const program = `
      import { mountAll } from "${new URL("../../mod.ts", import.meta.url).href}";
      import { hasFeature, pretendMissing } from "${
      new URL("../../linux/syscalls/features.ts", import.meta.url).href
    }";
      for (const feature of ["openat2", "mountApi", "mountSetattr", "overlayLayers", "overlayDescriptors", "detachedLayers",
        "pidfdNamespaces", "statmount"] as const) hasFeature(feature);
      using _ = pretendMissing(...${JSON.stringify(missing)});
      const { umount2 } = Deno.dlopen("libc.so.6", { umount2: { parameters: ["buffer", "i32"], result: "i32" } }).symbols;
      const none = new TextEncoder().encode("/begin\\0");
      umount2(none, 0);
      const stack = await mountAll(${JSON.stringify(list)}, ${JSON.stringify(`${t.dir}/root`)});
      umount2(none, 0);
      await stack.unmount();`;
    Deno.writeTextFileSync(`${t.dir}/program.ts`, program);
    const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`];
    const { code, stderr } = await new Deno.Command("strace", {
      args: ["-f", "-qq", "--seccomp-bpf", "-o", `${t.dir}/trace`, `--trace=${CALLS}`, ...deno],
    }).output();
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
    const [, between = ""] = Deno.readTextFileSync(`${t.dir}/trace`).split(/umount2\("\/begin".*\n/);
    const seen = [...between.matchAll(/^\d+ +(\w+)\(/gm)].map(([, name]) => name);

    using _ = pretendMissing(...missing);
    const steps = explain(list, `${t.dir}/root`);
    assertEquals(steps.map((step) => step.call).filter((name) => CALLS.split(",").includes(name)), seen);
  });
}

if (kernelHas("mountSetattr")) {
  Deno.test("explain() shows the arguments", { permissions: { ffi: true } }, () => {
    const lines = explain(
      [{ type: "bind", source: "/usr", target: "b", options: ["rbind", "rro", "noatime"] }],
      "/mnt",
    )
      .map((step) => `${step.call}(${step.arguments})`);
    assertEquals(lines, [
      'open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE|AT_RECURSIVE)',
      "mount_setattr(tree, AT_EMPTY_PATH|AT_RECURSIVE, {attr_set=MOUNT_ATTR_RDONLY})",
      "mount_setattr(tree, AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_NOATIME, attr_clr=MOUNT_ATTR__ATIME})",
      'move_mount(tree, "/mnt/b")',
    ]);
    const [first] = explain([{ type: "bind", source: "/usr", options: ["bind", ...maps] }], "/mnt");
    assertEquals(first?.call, "clone");
  });
}

Deno.test("explain() refuses what can't be", { permissions: { ffi: true } }, () => {
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
