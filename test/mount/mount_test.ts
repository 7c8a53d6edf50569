import {
  mount,
  mountAll,
  MountError,
  unmount,
  unmountAll,
  unmountMounts,
  unmountRecursive,
} from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { kernelHas, type TestFeature } from "../feature.ts";
import { kernelTest } from "../harness.ts";
import { mountTable } from "../kernel.ts";

const older = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

for (const way of ["new", "older"]) {
  const using = () => way === "older" ? older() : { [Symbol.dispose]() {} };

  kernelTest(`a bind mount shows its source, the ${way} way`, {}, async (t) => {
    using _ = using();
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

  kernelTest(`attributes of a bind are set and others kept, the ${way} way`, {}, async (t) => {
    using _ = using();
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

  kernelTest(`tmpfs takes its options and the mount's attributes, the ${way} way`, {}, async (t) => {
    using _ = using();
    t.make("target");
    const options = ["size=1m,mode=750", "nosuid", "ro", "x-comment=1", "noauto"];
    await using _stack = await mount({ type: "tmpfs", source: "name", options }, `${t.dir}/target`);
    const [row] = t.mounts();
    assertEquals(row?.source, "name");
    assertEquals(row?.options, ["ro", "nosuid", "relatime"]);
    assertStringIncludes(row?.superOptions ?? "", "size=1024k,mode=750");
  });

  kernelTest(`remount changes what it names and keeps the rest, the ${way} way`, {}, async (t) => {
    using _ = using();
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

  kernelTest(`propagation is set in a step of its own, the ${way} way`, {}, async (t) => {
    using _ = using();
    t.make("target");
    const target = `${t.dir}/target`;
    await using _stack = await mount({ type: "tmpfs", source: "t", options: ["shared"] }, target);
    assert(t.mounts()[0]?.optional.startsWith("shared:"));
    await mount({ type: "none", source: "none", options: ["rprivate"] }, target);
    assertEquals(t.mounts()[0]?.optional, "");
  });

  kernelTest(
    `neither a symbolic link nor .. leads a mount out of its target, the ${way} way`,
    {},
    async (t) => {
      using _ = using();
      t.make("root/outside", "outside");
      Deno.symlinkSync("/outside", `${t.dir}/root/absolute`);
      Deno.symlinkSync("../../outside", `${t.dir}/root/relative`);
      for (const target of ["absolute", "relative", "../outside", "/../../outside"]) {
        await using stack = await mount({ type: "tmpfs", source: "t", target }, `${t.dir}/root`);
        assertEquals(stack.mountpoints, [`${t.dir}/root/outside`]);
        assertEquals(t.mounts().map((row) => row.mountpoint), ["/root/outside"]);
      }
    },
  );
}

kernelTest("mountAll() puts parents before children, and takes all off again", {}, async (t) => {
  t.make("lower/a/b", "root");
  {
    await using root = await mountAll([
      { type: "tmpfs", source: "child", target: "/a/b" },
      { type: "bind", source: `${t.dir}/lower`, options: ["rbind"] },
    ], `${t.dir}/root`);
    assertEquals(root.mountpoints, [`${t.dir}/root`, `${t.dir}/root/a/b`]);
    assertEquals(t.mounts().map((row) => row.mountpoint), ["/root", "/root/a/b"]);
  }
  assertEquals(t.mounts(), []);
});

kernelTest("mountAll() is all or nothing, and says which mount failed", {}, async (t) => {
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
});

kernelTest("what was mounted is not written into the list that asked for it", {}, async (t) => {
  t.make("root");
  const list = Object.freeze([
    Object.freeze({ type: "tmpfs", source: "t", options: Object.freeze(["ro", "size=1m"]) }),
  ]);
  for (let i = 0; i < 10; i++) await (await mountAll(list, `${t.dir}/root`)).unmount();
  assertEquals(t.mounts(), []);
});

kernelTest("unmount() and unmountAll() leave alone what is no mountpoint", {}, async (t) => {
  t.make("root");
  await unmount(`${t.dir}/root`);
  await unmountAll(`${t.dir}/root`);
  await unmountAll(`${t.dir}/missing`);
  await unmountAll("");
});

kernelTest("unmountAll() takes a stack of mounts off", {}, async (t) => {
  t.make("root");
  for (let i = 0; i < 5; i++) await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root`);
  assertEquals(t.mounts().length, 5);
  await unmountAll(`${t.dir}/root`);
  assertEquals(t.mounts(), []);
});

kernelTest(
  "a busy mount is tried again until its timeout, and AbortSignal ends the trying",
  {},
  async (t) => {
    t.make("root");
    await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root`);
    const file = Deno.openSync(`${t.dir}/root/file`, { create: true, write: true });
    const busy = await assertRejects(() => unmount(`${t.dir}/root`, { timeout: 120 }), Error);
    assertStringIncludes(busy.message, "EBUSY");
    await assertRejects(() => unmount(`${t.dir}/root`, { signal: AbortSignal.timeout(100) }), DOMException);
    setTimeout(() => file.close(), 200);
    await unmount(`${t.dir}/root`);
    assertEquals(t.mounts(), []);
  },
);

kernelTest("unmountRecursive() takes off everything below, the deepest first", {}, async (t) => {
  t.make("root/a");
  await mountAll([{ type: "tmpfs", source: "t" }], `${t.dir}/root/a`);
  Deno.mkdirSync(`${t.dir}/root/a/b`);
  await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root/a/b`);
  await unmountRecursive(`${t.dir}/root`);
  assertEquals(t.mounts(), []);
});

kernelTest(
  "unmountMounts() takes off what the list put there and nothing that was there before",
  {},
  async (t) => {
    t.make("root");
    await using _mine = await mount({ type: "tmpfs", source: "before" }, `${t.dir}/root`);
    const list = [{ type: "tmpfs", source: "one" }, { type: "", source: "", options: ["remount", "ro"] }];
    await mountAll(list, `${t.dir}/root`);
    await unmountMounts(list, `${t.dir}/root`);
    assertEquals(t.mounts().map((row) => row.source), ["before"]);
  },
);

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
    "a wrong option is named in the kernel's words",
    (dir) => [{ type: "tmpfs", source: "t", options: ["bogus"] }, `${dir}/root`],
    /^cannot mount tmpfs t on .*\/root: tmpfs: Unknown parameter 'bogus' \(fsconfig: EINVAL\)$/,
    "EINVAL",
  ],
  [
    "a wrong overlay option is named in the kernel's words",
    (dir) => [{ type: "overlay", source: "o", options: ["lowerdir=/usr:/etc", "bogus=1"] }, `${dir}/root`],
    /: overlay: Unknown parameter 'bogus' \(fsconfig: EINVAL\)$/,
    "EINVAL",
    ["overlayLayers"],
  ],
  [
    "a missing source is said to be missing",
    (dir) => [{ type: "bind", source: `${dir}/none`, options: ["bind"] }, `${dir}/root`],
    new RegExp(`/none does not exist \\((open_tree${orMount}): ENOENT\\)$`),
    "ENOENT",
  ],
  [
    "a missing target is said to be missing",
    (dir) => [{ type: "tmpfs", source: "t" }, `${dir}/none`],
    /\/none does not exist \(open: ENOENT\)$/,
    "ENOENT",
  ],
  [
    "a target that is a file is said to be none for a directory",
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
    "options over a page are refused where nothing takes them",
    (dir) => [{ type: "tmpfs", source: "t", options: [`mpol=${"x".repeat(5000)}`] }, `${dir}/root`],
    /: the options are 5005 bytes long, and one of them over 255: the kernel takes 4095 in all$/,
    "EINVAL",
  ],
  [
    "an unknown file system is said to be unknown",
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
    "a plain file where a block device is due is told about the loop option",
    (dir) => [{ type: "ext4", source: `${dir}/file` }, `${dir}/root`],
    /add the option "loop"|not permitted/,
    "",
  ],
  [
    "layers that overlap are said to",
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

async function elsewhere(command: string[], script: string, dir: string): Promise<string> {
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

kernelTest("without the right to mount the error says what is needed, and nothing is mounted", {
  root: true,
  tools: ["setpriv"],
  permissions: { run: true },
}, async (t) => {
  t.make("root");
  const script = `import { mount } from ${JSON.stringify(library)};
    await mount({ type: "tmpfs", source: "t" }, Deno.args[0] + "/root").catch((error) => console.log(error.code, error.message));`;
  const said = await elsewhere(["setpriv", "--bounding-set=-sys_admin"], script, t.dir);
  assertStringIncludes(said, "EPERM cannot mount tmpfs");
  assertStringIncludes(said, "needs root (CAP_SYS_ADMIN)");
  assertEquals(t.mounts(), []);
});

for (const missing of [[], ["mountSetattr"]]) {
  kernelTest(
    `a bind in a user namespace keeps what is locked there${missing.length > 0 ? ", the older way" : ""}`,
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
      const said = await elsewhere(["unshare", "-Urm", "--propagation", "private"], script, t.dir);
      assertEquals(said, "ro,nosuid,nodev,noexec,noatime EPERM");
    },
  );
}

kernelTest("rro makes a whole tree read-only, ro its top alone", {}, async (t) => {
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
