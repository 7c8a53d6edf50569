/**
 * The option `replace`: what is mounted is replaced in one step, here and in another mount namespace.
 *
 * @module
 */

import { type Mount, mount, mountAll, MountError } from "../../mod.ts";
import {
  mount as mountSyscall,
  MS_BIND,
  MS_PRIVATE,
  MS_REC,
  MS_SHARED,
  pretendMissing,
  umount2,
} from "../../linux/mod.ts";
import { assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { mountTable, names, parseTable, readText } from "../kernel.ts";
import { stoppedServer } from "../hang/stopped_server.ts";
import { MountNamespace } from "../namespace/namespaces.ts";
import { mounted, needs, replace, rows, tmpfs, ways } from "./replacing.ts";

const elsewhere: Needs = {
  ...needs,
  features: ["mountBeneath", "detachedTargets"],
  tools: ["unshare", "nsenter", "mount", "cat"],
  permissions: { run: true },
};

/** The mounts that a process sees, as "source mountpoint". */
const seenBy = (pid: number, { dir }: KernelContext) =>
  parseTable(readText(`/proc/${pid}/mountinfo`) ?? "")
    .filter(({ mountpoint }) => mountpoint.startsWith(`${dir}/`))
    .map(({ source, mountpoint }) => `${source} ${mountpoint.slice(dir.length)}`);

kernelTest(
  "of a stack the topmost mount is replaced, and the handle unmounts the new mount alone",
  needs,
  async (t) => {
    const target = t.make("target");
    await using _lower = await mount(tmpfs("lower"), target);
    const old = await mount(tmpfs("old"), target);
    const handle = await mountAll([tmpfs("new"), tmpfs("free", "/free", "X-mount.mkdir")], target, replace);
    assertEquals(mounted(t), ["lower /target", "new /target", "free /target/free"]);
    assertEquals(handle.mountpoints, [target, `${target}/free`]);
    await old.unmount(); // it is gone
    assertEquals(mounted(t).length, 3);
    await handle.unmount();
    assertEquals(mounted(t), ["lower /target"]);
  },
);

kernelTest("where nothing is mounted, replace is a plain mount", needs, async (t) => {
  const target = t.make("target");
  {
    await using _new = await mountAll(
      [tmpfs("a"), tmpfs("b"), tmpfs("c", "/c", "X-mount.mkdir")],
      target,
      replace,
    );
    assertEquals(mounted(t), ["a /target", "b /target", "c /target/c"]);
  }
  assertEquals(mounted(t), []);
});

kernelTest(
  "entries with one mountpoint are stacked in their order in place of the old mount",
  needs,
  async (t) => {
    const target = t.make("target");
    await mount(tmpfs("old"), target);
    await using _new = await mountAll([tmpfs("a"), tmpfs("b")], target, replace);
    assertEquals(mounted(t), ["a /target", "b /target"]);
  },
);

kernelTest("each mount of a list is replaced at its own mountpoint, also one on a file", needs, async (t) => {
  const target = t.make("target/a", "target/b").slice(0, -"/a".length);
  const files = ["old", "new", "target/file"].map((name) => `${t.dir}/${name}`);
  for (const file of files) Deno.writeTextFileSync(file, file);
  await mountAll([tmpfs("old", "/a"), { type: "bind", source: `${t.dir}/old`, target: "/file" }], target);
  const list = [tmpfs("new", "/a"), tmpfs("free", "/b"), {
    type: "bind",
    source: `${t.dir}/new`,
    target: "/file",
    options: ["ro"],
  }];
  await using _new = await mountAll(list, target, replace);
  assertEquals(
    t.mounts().map(({ source, root, mountpoint, options }) => [
      source === "new" || source === "free" ? source : root.slice(root.lastIndexOf("/")),
      mountpoint,
      options[0],
    ]),
    [["new", "/target/a", "rw"], ["free", "/target/b", "rw"], ["/new", "/target/file", "ro"]],
  );
});

kernelTest("an old mount in use is detached with those below it, and its users keep it", needs, async (t) => {
  const target = t.make("target");
  const old = await mountAll([tmpfs("old"), tmpfs("in", "/in", "X-mount.mkdir")], target);
  Deno.writeTextFileSync(`${target}/in/file`, "old");
  using file = Deno.openSync(`${target}/in/file`);
  await using _new = await mount(tmpfs("new"), target, replace);
  assertEquals([mounted(t), names(target)], [["new /target"], []]);
  const bytes = new Uint8Array(8);
  assertEquals(new TextDecoder().decode(bytes.subarray(0, file.readSync(bytes) ?? 0)), "old");
  await old.unmount();
  assertEquals(mounted(t), ["new /target"]);
});

kernelTest("a mount whose server does not answer is replaced, within the timeout", {
  ...needs,
  root: true,
  tools: ["bindfs", "umount", "sh", "timeout", "fusermount3", "fusermount"],
}, async (t) => {
  const server = await stoppedServer(t);
  try {
    await using _new = await mount(tmpfs("new"), `${t.dir}/server`, replace);
    assertEquals(mounted(t), ["new /server"]);
  } finally {
    await server[Symbol.asyncDispose]();
  }
});

kernelTest("the submounts of an old recursive bind's source stay", needs, async (t) => {
  const [source, target] = [t.make("source/in").slice(0, -"/in".length), t.make("target")];
  await using _source = await mount(tmpfs("source", undefined, "shared"), source);
  await using _in = await mount(tmpfs("in", "/in", "X-mount.mkdir"), source);
  mountSyscall(source, target, null, MS_BIND | MS_REC, null); // a peer of its source, as mount --rbind makes it
  await using _new = await mount(tmpfs("new"), target, replace);
  assertEquals(mounted(t), ["source /source", "in /source/in", "new /target"]);
});

for (const [way, missing] of ways) {
  kernelTest(
    `a list that fails leaves the old mounts as they are, and no directory, ${way}`,
    needs,
    async (t) => {
      using _way = pretendMissing(...missing);
      const target = t.make("target/free", "source").slice(0, -"/free".length);
      await using _old = await mountAll([tmpfs("old"), tmpfs("in", "/in", "X-mount.mkdir")], target);
      const before = rows(t);
      const made = ["X-mount.mkdir"];
      const list = [
        { type: "bind", source: `${t.dir}/source` },
        { type: "bind", source: `${t.dir}/source`, target: "/a/b", options: made },
        tmpfs("c", "/a/b/c/d", ...made),
      ];
      for (
        const wrong of [tmpfs("wrong", "/a", "bogus"), tmpfs("wrong", "/none"), tmpfs("wrong", "/", "bogus")]
      ) {
        await assertRejects(() => mountAll([...list, wrong], target, replace), MountError, `${target}`);
        assertEquals([rows(t), names(`${t.dir}/source`)], [before, []]);
      }
      const reason = new RangeError("mine");
      const aborted = { ...replace, signal: AbortSignal.abort(reason) };
      assertEquals(await mountAll(list, target, aborted).catch((error) => error), reason);
      assertEquals([rows(t), names(`${t.dir}/source`)], [before, []]);
    },
  );
}

for (const [way, missing] of ways) {
  kernelTest(`a list that fails removes no directory that it has not made, ${way}`, needs, async (t) => {
    using _way = pretendMissing(...missing);
    const target = t.make("target", "source/a", "user/b");
    await using _old = await mount(tmpfs("old"), target);
    const list = [
      { type: "bind", source: `${t.dir}/source` },
      tmpfs("made", "/a/b", "X-mount.mkdir"),
      { type: "bind", source: `${t.dir}/user`, target: "/a" }, // covers the directory that was made
      tmpfs("wrong", "/none"),
    ];
    await assertRejects(() => mountAll(list, target, replace), MountError, "none");
    assertEquals([names(`${t.dir}/source/a`), names(`${t.dir}/user`)], [[], ["b"]]);
  });

  kernelTest(`a link that leads out of the new mount is refused, ${way}`, needs, async (t) => {
    using _way = pretendMissing(...missing);
    const target = t.make("target/a", "target/b", "source/in").slice(0, -"/a".length);
    for (const [name, link] of [["out", "/b"], ["up", "../b"], ["to-in", "in"]] as const) {
      Deno.symlinkSync(link, `${t.dir}/source/${name}`);
    }
    const source = { type: "bind", source: `${t.dir}/source`, target: "/a" };
    for (const name of ["out", "up"]) {
      const list = [source, tmpfs("t", `/a/${name}`)];
      await assertRejects(() => mountAll(list, target, replace), MountError, "leads out of the new mount");
    }
    await using handle = await mountAll([source, tmpfs("t", "/a/to-in")], target, replace);
    assertEquals(handle.mountpoints, [`${target}/a`, `${target}/a/in`]);
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/target/a", "/target/a/in"]);
  });
}

for (const [way, missing] of ways) {
  kernelTest(
    `if one of several can't be attached beneath, the others are put back, ${way}`,
    needs,
    async (t) => {
      using _way = pretendMissing(...missing);
      const target = t.make("target/a", "target/b", "target/c", "target/shared", "source", "free").slice(
        0,
        -"/a".length,
      );
      const shared = `${target}/shared`;
      mountSyscall(shared, shared, null, MS_BIND, null);
      mountSyscall(null, shared, null, MS_SHARED, null);
      Deno.mkdirSync(`${shared}/itself`);
      mountSyscall(`${shared}/itself`, `${shared}/itself`, null, MS_BIND, null);
      try {
        const old = [tmpfs("a", "/a", "shared"), tmpfs("in", "/a/in", "X-mount.mkdir"), tmpfs("b", "/b")];
        await mountAll(old, target);
        Deno.writeTextFileSync(`${target}/a/in/file`, "old");
        const before = mounted(t).sort();
        const list = [
          { type: "bind", source: `${t.dir}/source`, target: "/a" },
          tmpfs("m", "/a/d/e", "X-mount.mkdir"),
          { type: "bind", source: `${t.dir}/free`, target: "/a/d/e" },
          tmpfs("n", "/a/d/e/f", "X-mount.mkdir"),
          tmpfs("y", "/b"),
          tmpfs("z", "/b"),
          { type: "bind", source: `${t.dir}/free`, target: "/c" },
          tmpfs("n", "/c/d/e", "X-mount.mkdir"),
          tmpfs("s", "/shared/itself"),
        ];
        const error = await assertRejects(
          () => mountAll(list, target, replace),
          MountError,
          "nothing beneath the mount on",
        );
        assertEquals([error.target, error.mount], [`${shared}/itself`, list.at(-1)]);
        assertEquals([mounted(t).sort(), Deno.readTextFileSync(`${target}/a/in/file`)], [before, "old"]);
        assertEquals([names(`${t.dir}/source`), names(`${t.dir}/free`)], [[], []]);
      } finally {
        for (const path of ["a/in", "a", "b", "shared/itself", "shared"]) umount2(`${target}/${path}`, 0);
      }
    },
  );
}

kernelTest(
  "a list is replaced in another mount namespace, with sources of this one",
  elsewhere,
  async (t) => {
    const target = t.make("target", "source");
    Deno.writeTextFileSync(`${t.dir}/source/file`, "new");
    await using other = await MountNamespace.start();
    await using _here = await mount(tmpfs("here"), target);
    const namespace = { namespace: other.pid };
    const old = await mountAll([tmpfs("old"), tmpfs("in", "/in", "X-mount.mkdir")], target, namespace);
    const list = [
      tmpfs("new"),
      { type: "bind", source: `${t.dir}/source`, target: "/s", options: ["X-mount.mkdir", "ro"] },
    ];
    const failing = [...list, tmpfs("wrong", "/", "bogus")];
    {
      using _ = pretendMissing("detachedTargets");
      await assertRejects(
        () => mountAll(list, target, { ...namespace, ...replace }),
        MountError,
        "Linux 6.15",
      );
    }
    await assertRejects(() => mountAll(failing, target, { ...namespace, ...replace }), MountError, "bogus");
    assertEquals(seenBy(other.pid, t), ["old /target", "in /target/in"]);
    const handle = await mountAll(list, target, { ...namespace, ...replace });
    assertEquals(seenBy(other.pid, t).map((row) => row.replace(/^\/\S+/, "disk")), [
      "new /target",
      "disk /target/s",
    ]);
    assertEquals(await other.run("cat", `${target}/s/file`), "new");
    assertEquals([handle.mountpoints, mounted(t)], [[target, `${target}/s`], ["here /target"]]);
    await old.unmount();
    await handle.unmount();
    assertEquals(seenBy(other.pid, t), []);
  },
);

kernelTest(
  "below a shared mount, the mount is replaced in the namespaces that it propagates to, and gets its propagation",
  elsewhere,
  async (t) => {
    const shared = t.make("shared");
    mountSyscall("shared", shared, "tmpfs", 0, null);
    mountSyscall(null, shared, null, MS_SHARED, null);
    try {
      const target = t.make("shared/target");
      await using other = await MountNamespace.start("--propagation", "slave");
      await mountAll([tmpfs("old")], target);
      assertEquals(seenBy(other.pid, t).at(-1), "old /shared/target");
      await using _new = await mount(tmpfs("new", undefined, "private"), target, replace);
      assertEquals(seenBy(other.pid, t).slice(-2), ["shared /shared", "new /shared/target"]);
      assertEquals(t.mounts().map(({ source, optional }) => [source, optional.includes("shared")]), [
        ["shared", true],
        ["new", false],
      ]);
      await other.run("umount", target);
    } finally {
      mountSyscall(null, shared, null, MS_PRIVATE, null);
      umount2(shared, 0);
    }
  },
);

kernelTest("what a FUSE helper or mount(2) makes is replaced too", {
  root: true, // and no private directory: the server of a detached mount has its source open for a moment
  features: ["mountBeneath", "overlay"],
  tools: ["mount.fuse3", "bindfs", "fusermount3", "fusermount"],
}, async (t) => {
  const target = t.make("target", "source", "lower", "other");
  Deno.writeTextFileSync(`${t.dir}/source/file`, "fuse");
  await mount(tmpfs("old"), target);
  const fuse = await mount(
    { type: "fuse3.bindfs", source: `${t.dir}/source`, options: ["ro"] },
    target,
    replace,
  );
  assertEquals(t.mounts().map(({ fsType, mountpoint }) => [fsType, mountpoint]), [["fuse", "/target"]]);
  assertEquals(Deno.readTextFileSync(`${target}/file`), "fuse");
  using _file = Deno.openSync(`${target}/file`); // so the next one detaches it
  using _ = pretendMissing("overlayLayers");
  const overlay = {
    type: "overlay",
    source: "new",
    options: [`lowerdir=${t.dir}/lower:${t.dir}/other`, "noexec"],
  };
  await using _overlay = await mount(overlay, target, replace);
  assertEquals(t.mounts().map(({ source, options }) => [source, options.includes("noexec")]), [[
    "new",
    true,
  ]]);
  await fuse.unmount();
  assertEquals(mounted(t), ["new /target"]);
});

kernelTest(
  "what can't be replaced is refused by a sentence, before anything is mounted",
  needs,
  async (t) => {
    const target = t.make("target/a").slice(0, -"/a".length);
    Deno.symlinkSync("target", `${t.dir}/link`);
    await using _old = await mountAll([tmpfs("old"), tmpfs("in", "/a", "X-mount.mkdir")], target);
    const before = rows(t);
    const refuse = async (list: Mount[], sentence: string, at = target) => {
      await assertRejects(() => mountAll([...list], at, replace), MountError, sentence);
      assertEquals(rows(t), before);
    };
    const change = { type: "none", source: "none", options: ["remount", "bind", "ro"] };
    await refuse([tmpfs("new"), change], '"replace" is for new mounts');
    await refuse([{ type: "none", source: "none", options: ["private"] }], '"replace" is for new mounts');
    await refuse(
      [tmpfs("new", "/a"), tmpfs("new")],
      `"replace" takes no list with ${target}/a beside this mount`,
    );
    const everything = mountTable();
    await refuse([tmpfs("new")], "the root directory can't be replaced", "/");
    assertEquals(mountTable(), everything);
    for (const feature of ["mountBeneath", "mountSetattr", "mountApi", "openat2"] as const) {
      using _ = pretendMissing(feature);
      await refuse([tmpfs("new")], "Linux 6.5");
    }
  },
);
