import { mount, mountAll, MountError, unmountRecursive } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { kernelHas, type TestFeature } from "../feature.ts";
import { kernelTest } from "../harness.ts";
import { mountTable } from "../kernel.ts";

const withoutMountApi = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

for (const api of ["fsopen(2) and open_tree(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? withoutMountApi() : { [Symbol.dispose]() {} };

  kernelTest(`a bind mount shows its source, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("source", "target");
    Deno.writeTextFileSync(`${t.dir}/source/file`, "hello");
    {
      await using _stack = await mount(
        { type: "bind", source: `${t.dir}/source`, options: ["bind"] },
        `${t.dir}/target`,
      );
      assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), "hello");
      assertEquals(t.mounts().map((row) => row.mountpoint), ["/target"]);
    }
    assertEquals(t.mounts(), []);
  });

  kernelTest(`a bind sets its attributes and keeps those of its source, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("source", "target");
    await using _tmp = await mount({ type: "tmpfs", source: "t", options: ["nodev"] }, `${t.dir}/source`);
    const options = ["rbind", "ro", "nosuid", "noexec", "noatime"];
    await using _stack = await mount({ type: "bind", source: `${t.dir}/source`, options }, `${t.dir}/target`);
    const row = t.mounts().find(({ mountpoint }) => mountpoint === "/target");
    assertEquals(row?.options, ["ro", "nosuid", "nodev", "noexec", "noatime"]);
    let denied = false;
    try {
      Deno.writeTextFileSync(`${t.dir}/target/file`, "no");
    } catch {
      denied = true;
    }
    assert(denied, "a read-only bind was written to");
  });

  kernelTest(`a tmpfs gets its own options and the mount's attributes, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    const options = ["size=1m,mode=750", "nosuid", "ro", "x-comment=1", "noauto"];
    await using _stack = await mount({ type: "tmpfs", source: "name", options }, `${t.dir}/target`);
    const [row] = t.mounts();
    assertEquals(row?.source, "name");
    assertEquals(row?.options, ["ro", "nosuid", "relatime"]);
    assertStringIncludes(row?.superOptions ?? "", "size=1024k,mode=750");
  });

  kernelTest(`a remount changes the named options and keeps the others, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    const target = `${t.dir}/target`;
    await using _stack = await mount({ type: "tmpfs", source: "t", options: ["size=1m", "nosuid"] }, target);
    const changed = await mount({ type: "", source: "", options: ["remount", "size=2m", "noexec"] }, target);
    assertEquals(changed.mountpoints, []);
    assertStringIncludes(t.mounts()[0]?.superOptions ?? "", "size=2048k");
    assertEquals(t.mounts()[0]?.options, ["rw", "nosuid", "noexec", "relatime"]);
    await mount({ type: "", source: "", options: ["remount", "bind", "ro"] }, target);
    assertEquals(t.mounts()[0]?.options, ["ro", "nosuid", "noexec", "relatime"]);
    assert(t.mounts()[0]?.superOptions.startsWith("rw"));
    await mount({ type: "", source: "", options: ["remount", "ro"] }, target);
    assert(t.mounts()[0]?.superOptions.startsWith("ro"));
  });

  kernelTest(`the propagation of a mount is set and changed, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    const target = `${t.dir}/target`;
    await using _stack = await mount({ type: "tmpfs", source: "t", options: ["shared"] }, target);
    assert(t.mounts()[0]?.optional.startsWith("shared:"));
    await mount({ type: "none", source: "none", options: ["rprivate"] }, target);
    assertEquals(t.mounts()[0]?.optional, "");
  });
}

kernelTest(
  "mountAll() mounts a list in its order, and its handle unmounts all of it",
  {},
  async (t) => {
    t.make("lower/a/b", "root");
    {
      await using root = await mountAll([
        { type: "bind", source: `${t.dir}/lower`, options: ["rbind"] },
        { type: "tmpfs", source: "child", target: "/a/b" },
      ], `${t.dir}/root`);
      assertEquals(root.mountpoints, [`${t.dir}/root`, `${t.dir}/root/a/b`]);
      assertEquals(t.mounts().map((row) => row.mountpoint), ["/root", "/root/a/b"]);
    }
    assertEquals(t.mounts(), []);
  },
);

kernelTest(
  "mountAll() mounts all of a list or nothing, and the error names the mount that failed",
  {},
  async (t) => {
    t.make("root");
    const error = await assertRejects(
      () =>
        mountAll([
          { type: "tmpfs", source: "one" },
          { type: "tmpfs", source: "two" },
          { type: "tmpfs", source: "three", target: "/not/there" },
        ], `${t.dir}/root`),
      MountError,
    );
    assertEquals(error.mount.source, "three");
    assertEquals(error.code, "ENOENT");
    assertEquals(t.mounts(), []);
  },
);

kernelTest("mountAll() does not change the caller's list", {}, async (t) => {
  t.make("root");
  const list = Object.freeze([
    Object.freeze({ type: "tmpfs", source: "t", options: Object.freeze(["ro", "size=1m"]) }),
  ]);
  for (let i = 0; i < 10; i++) await (await mountAll(list, `${t.dir}/root`)).unmount();
  assertEquals(t.mounts(), []);
});

type Refusal = [
  rule: string,
  make: (dir: string) => Parameters<typeof mount>,
  message: RegExp,
  code: string,
  features?: TestFeature[],
];

/** Before Linux 5.12 a bind may be made by mount(2). */
const orMount = kernelHas("mountSetattr") ? "" : "|mount";

const refusals: Refusal[] = [
  [
    "an unknown option fails with the kernel's message",
    (dir) => [{ type: "tmpfs", source: "t", options: ["bogus"] }, `${dir}/root`],
    /^cannot mount tmpfs t on .*\/root: tmpfs: Unknown parameter 'bogus' \(fsconfig: EINVAL\)$/,
    "EINVAL",
  ],
  [
    "an unknown overlay option fails with the kernel's message",
    (dir) => [{ type: "overlay", source: "o", options: ["lowerdir=/usr:/etc", "bogus=1"] }, `${dir}/root`],
    /: overlay: Unknown parameter 'bogus' \(fsconfig: EINVAL\)$/,
    "EINVAL",
    ["overlayLayers"],
  ],
  [
    "a missing source fails with ENOENT",
    (dir) => [{ type: "bind", source: `${dir}/none`, options: ["bind"] }, `${dir}/root`],
    new RegExp(`the source .*/none does not exist \\((open_tree${orMount}): ENOENT\\)$`),
    "ENOENT",
  ],
  [
    "a missing target fails with ENOENT",
    (dir) => [{ type: "tmpfs", source: "t" }, `${dir}/none`],
    /: the mountpoint .*\/none does not exist: create it, or add the option "X-mount.mkdir" \(open: ENOENT\)$/,
    "ENOENT",
  ],
  [
    "a directory on a target that is a file fails with ENOTDIR",
    (dir) => [{ type: "bind", source: `${dir}/source`, options: ["bind"] }, `${dir}/file`],
    new RegExp(
      `/file: a directory can't be mounted on a file, nor a file on a directory \\((move_mount${orMount}): ENOTDIR\\)$`,
    ),
    "ENOTDIR",
  ],
  [
    "a path with a NUL byte is refused",
    (dir) => [{ type: "bind", source: "/a\0b", options: ["bind"] }, `${dir}/root`],
    /: "\/a\\u0000b" holds a NUL byte, which no path and no option can$/,
    "EINVAL",
  ],
  [
    "options longer than a page are refused if the file system takes them only in one page",
    (dir) => [{ type: "tmpfs", source: "t", options: [`mpol=${"x".repeat(5000)}`] }, `${dir}/root`],
    /: the options are 5005 bytes long, and one of them over 255: the kernel takes 4095 in all$/,
    "EINVAL",
  ],
  [
    "an unknown file system fails with ENODEV",
    (dir) => [{ type: "nofs", source: "x" }, `${dir}/root`],
    /: this kernel knows no file system "nofs" \(fsopen: ENODEV\)$/,
    "ENODEV",
  ],
  [
    "an option for a mount manager is refused",
    (dir) => [{ type: "tmpfs", source: "t", options: ["X-containerd.mkdir=/a"] }, `${dir}/root`],
    /is for a mount manager/,
    "EINVAL",
  ],
  [
    "an image without the loop option fails with a hint at it",
    (dir) => [{ type: "ext4", source: `${dir}/file` }, `${dir}/root`],
    /add the option "loop"|not permitted/,
    "",
  ],
  [
    "overlapping layers fail with a message that says so",
    (
      dir,
    ) => [{
      type: "overlay",
      source: "o",
      options: [`lowerdir=${dir}:${dir}/root`, `upperdir=${dir}/source/u`, `workdir=${dir}/source/w`],
    }, `${dir}/root`],
    /layers overlap|does not exist/,
    "",
    ["overlay"],
  ],
];

for (const [rule, make, message, code, features = []] of refusals) {
  kernelTest(`${rule}, and nothing is mounted`, { features }, async (t) => {
    t.make("root", "source");
    Deno.writeTextFileSync(`${t.dir}/file`, "");
    const [m, target] = make(t.dir);
    const error = await assertRejects(() => mount(m, target), MountError);
    assert(message.test(error.message), error.message);
    if (code !== "") assertEquals(error.code, code, error.message);
    assertEquals([error.mount, error.errno > 0], [m, true]);
    assertEquals(mountTable().filter(({ mountpoint }) => mountpoint.startsWith(t.dir)), []);
  });
}

const library = new URL("../../mod.ts", import.meta.url).href;
const features = new URL("../../linux/syscalls/features.ts", import.meta.url).href;

async function runScript(command: string[], script: string, dir: string): Promise<string> {
  Deno.writeTextFileSync(`${dir}/script.ts`, script);
  const [program = "", ...args] = [
    ...command,
    Deno.execPath(),
    "run",
    "-A",
    "--quiet",
    "--no-config",
    `${dir}/script.ts`,
    dir,
  ];
  const { stdout, stderr, code } = await new Deno.Command(program, { args }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
}

kernelTest("without CAP_SYS_ADMIN the error names the capability, and nothing is mounted", {
  root: true,
  tools: ["setpriv"],
  permissions: { run: true },
}, async (t) => {
  t.make("root");
  const script = `import { mount } from ${JSON.stringify(library)};
    await mount({ type: "tmpfs", source: "t" }, Deno.args[0] + "/root").catch((error) => console.log(error.code, error.message));`;
  const said = await runScript(["setpriv", "--bounding-set=-sys_admin"], script, t.dir);
  assertStringIncludes(said, "EPERM cannot mount tmpfs");
  assertStringIncludes(said, "needs root (CAP_SYS_ADMIN)");
  assertEquals(t.mounts(), []);
});

for (const missing of [[], ["mountSetattr"]]) {
  kernelTest(
    `a bind in a user namespace keeps locked attributes${
      missing.length > 0 ? ", without mount_setattr(2)" : ""
    }`,
    {
      tools: ["unshare"],
      permissions: { run: true },
    },
    async (t) => {
      t.make("source", "target");
      const options = ["nosuid", "nodev", "noexec", "noatime"];
      await using _source = await mount({ type: "tmpfs", source: "t", options }, `${t.dir}/source`);
      const script = `import { listMounts, mount, prefixFilter } from ${JSON.stringify(library)};
      import { pretendMissing } from ${JSON.stringify(features)};
      using _ = pretendMissing(...${JSON.stringify(missing)});
      const [dir] = Deno.args;
      await mount({ type: "bind", source: dir + "/source", options: ["bind", "ro"] }, dir + "/target");
      const [bound] = await listMounts({ filter: prefixFilter(dir + "/target") });
      const error = await mount({ type: "", source: "", options: ["remount", "bind", "suid"] }, dir + "/target").catch((e) => e);
      console.log(bound.options, error.code);`;
      const said = await runScript(["unshare", "-Urm", "--propagation", "private"], script, t.dir);
      assertEquals(said, "ro,nosuid,nodev,noexec,noatime EPERM");
    },
  );
}

kernelTest("rro makes the whole tree read-only, ro only its top mount", {}, async (t) => {
  t.make("source", "target");
  await using _source = await mount({ type: "tmpfs", source: "outer" }, `${t.dir}/source`);
  t.make("source/inner");
  await using _inner = await mount({ type: "tmpfs", source: "inner" }, `${t.dir}/source/inner`);
  const recursive = kernelHas("mountSetattr") ? [["rro", "ro"]] as const : [];
  for (const [option, inner] of [["ro", "rw"] as const, ...recursive]) {
    const stack = await mount(
      { type: "bind", source: `${t.dir}/source`, options: ["rbind", option] },
      `${t.dir}/target`,
    );
    const options = (at: string) => t.mounts().find(({ mountpoint }) => mountpoint === at)?.options[0];
    assertEquals([options("/target"), options("/target/inner")], ["ro", inner]);
    await unmountRecursive(`${t.dir}/target`);
    await stack.unmount();
  }
});
