import { mount, mountAll, MountError, unmount, unmountAll, unmountMounts, unmountRecursive } from "../mod.ts";
import { pretendMissing } from "../linux/features.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "./assert.ts";
import { kernelTest } from "./harness.ts";
import { mountTable } from "./kernel.ts";

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

kernelTest("errors read like sentences, and leave nothing mounted", {}, async (t) => {
  t.make("root", "source");
  Deno.writeTextFileSync(`${t.dir}/file`, "");
  const target = `${t.dir}/root`;
  const cases: [string, Parameters<typeof mount>, RegExp, string][] = [
    [
      "a wrong option",
      [{ type: "tmpfs", source: "t", options: ["bogus"] }, target],
      /Unknown parameter 'bogus'/,
      "EINVAL",
    ],
    [
      "a wrong overlay option",
      [{ type: "overlay", source: "o", options: ["lowerdir=/usr:/etc", "bogus=1"] }, target],
      /overlay: Unknown parameter 'bogus'/,
      "EINVAL",
    ],
    [
      "a missing source",
      [{ type: "bind", source: `${t.dir}/none`, options: ["bind"] }, target],
      /none does not exist \(open_tree: ENOENT\)/,
      "ENOENT",
    ],
    [
      "a target that is a file",
      [{ type: "bind", source: `${t.dir}/source`, options: ["bind"] }, `${t.dir}/file`],
      /a directory can't be mounted on a file/,
      "ENOTDIR",
    ],
    [
      "a NUL byte",
      [{ type: "bind", source: "/a\0b", options: ["bind"] }, target],
      /holds a NUL byte/,
      "EINVAL",
    ],
    [
      "options over a page",
      [{ type: "tmpfs", source: "t", options: [`mpol=${"x".repeat(5000)}`] }, target],
      /the options are 5005 bytes long/,
      "EINVAL",
    ],
    [
      "an unknown file system",
      [{ type: "nofs", source: "x" }, target],
      /knows no file system "nofs"/,
      "ENODEV",
    ],
    [
      "a manager's option",
      [{ type: "tmpfs", source: "t", options: ["X-containerd.x"] }, target],
      /manager/,
      "EINVAL",
    ],
    [
      "no block device",
      [{ type: "ext4", source: `${t.dir}/file` }, target],
      /add the option "loop"|not permitted/,
      "",
    ],
  ];
  for (const [name, [m, to], message, code] of cases) {
    const error = await assertRejects(() => mount(m, to), MountError);
    assert(message.test(error.message), `${name}: ${error.message}`);
    if (code !== "") assertEquals(error.code, code, `${name}: ${error.message}`);
    assertEquals(error.mount, m);
    assertEquals(mountTable().filter(({ mountpoint }) => mountpoint.startsWith(t.dir)), [], name);
  }
});
