import { FailedPreconditionError, InvalidArgumentError, LocalSnapshotter } from "../../containerd/mod.ts";
import { mountAll, unmount } from "../../mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import type { KernelContext } from "../harness.ts";
import { mountTable, names, readText } from "../kernel.ts";
import { describeTree } from "../manager/digest_tree.ts";
import { bind as bindRaw, mkdir as mkdirRaw, path as rawPath, umount as umountRaw } from "../raw.ts";
import { say } from "../use/ways.ts";
import { addLayer, MAPPED, removeAll, serve, serverTest, within } from "./served.ts";

const open = (t: KernelContext, options = {}) => LocalSnapshotter.open({ root: `${t.dir}/root`, ...options });
const left = (t: KernelContext) => [...names(`${t.dir}/root/snapshots`), ...names(`${t.dir}/root/trash`)];
const write = Deno.writeTextFileSync;

serverTest("a snapshot's mounts have the shape of containerd's overlayfs snapshotter", async (t) => {
  t.make("mnt");
  await using snapshots = await open(t, { prepare: "never" });
  const of = (id: number, name = "fs") => `${t.dir}/root/snapshots/${id}/${name}`;
  const index = names("/sys/module/overlay/parameters").includes("index") ? ["index=off"] : [];
  assertEquals(await snapshots.prepare("one", ""), [{
    type: "bind",
    source: of(1),
    options: ["rw", "rbind"],
  }]);
  assertEquals(await snapshots.view("none", ""), [{ type: "bind", source: of(2), options: ["ro", "rbind"] }]);
  await snapshots.commit("1", "one");
  assertEquals(await snapshots.view("of-one", "1"), [{
    type: "bind",
    source: of(1),
    options: ["ro", "rbind"],
  }]);
  const options = [`workdir=${of(4, "work")}`, `upperdir=${of(4)}`, `lowerdir=${of(1)}`, ...index];
  assertEquals(await snapshots.prepare("two", "1"), [{ type: "overlay", source: "overlay", options }]);
  assertEquals(await snapshots.mounts("two"), [{ type: "overlay", source: "overlay", options }]);
  await snapshots.commit("2", "two");
  const view = [`lowerdir=${of(4)}:${of(1)}`, ...index];
  assertEquals(await snapshots.view("of-two", "2"), [{ type: "overlay", source: "overlay", options: view }]);
  const mapped = await snapshots.view("mapped", "2", { labels: MAPPED });
  const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
  assertEquals(mapped, [{ type: "overlay", source: "overlay", options: [...maps, ...view] }]);
  assertEquals(t.mounts(), []);
});

serverTest(
  "what has mapped ids is mounted by the snapshotter, and unmounted when it is removed",
  async (t) => {
    t.make("mnt");
    await using snapshots = await open(t);
    await addLayer(snapshots, "1", "", `${t.dir}/mnt`, (dir) => {
      write(`${dir}/file`, "lower");
      Deno.chownSync(`${dir}/file`, 7, 8);
    });
    await addLayer(snapshots, "2", "1", `${t.dir}/mnt`, (dir) => write(`${dir}/second`, "second"));
    const rootOf = (id: number) => `/root/snapshots/${id}/root`;
    const mounts = await snapshots.prepare("container", "2", { labels: MAPPED });
    assertEquals(mounts, [{ type: "bind", source: `${t.dir}${rootOf(3)}`, options: ["rw", "rbind"] }]);
    assertEquals(t.mounts().map(({ mountpoint, fsType }) => [mountpoint, fsType]), [[rootOf(3), "overlay"]]);
    await within(mounts, `${t.dir}/mnt`, (dir) => {
      const owner = ({ uid, gid }: Deno.FileInfo) => [uid, gid];
      assertEquals(owner(Deno.statSync(dir)), [100_000, 100_000]);
      assertEquals(owner(Deno.statSync(`${dir}/file`)), [100_007, 100_008]);
      write(`${dir}/new`, "new");
    });
    assertEquals(names(`${t.dir}/root/snapshots/3/fs`), ["new"]);
    const [view] = await snapshots.view("looking", "1", { labels: MAPPED });
    assertEquals([view?.source, view?.options], [`${t.dir}${rootOf(4)}`, ["ro", "rbind"]]);
    assert(t.mounts().some(({ mountpoint, options }) => mountpoint === rootOf(4) && options.includes("ro")));
    assertEquals(Deno.statSync(`${t.dir}${rootOf(4)}/file`).uid, 100_007);
    // Without parents nothing is mapped: the files have the host's ids, and belong to the container's root.
    const [empty] = await snapshots.prepare("empty", "", { labels: MAPPED });
    assertEquals([empty?.source, Deno.statSync(empty?.source ?? "").uid], [
      `${t.dir}/root/snapshots/5/fs`,
      100_000,
    ]);
    for (const key of ["container", "looking", "empty"]) await snapshots.remove(key);
    assertEquals(t.mounts(), []);
    await removeAll(snapshots);
    assertEquals(left(t), []);
  },
);

serverTest("a label that is no id map is refused, and leaves nothing", async (t) => {
  await using snapshots = await open(t);
  const [uid = "", gid = ""] = Object.keys(MAPPED);
  for (
    const [labels, said] of [
      [{ [uid]: "0:100000:65536" }, "need each other"],
      [{ [uid]: "0:1", [gid]: "0:1:1" }, "no id map"],
      [{ [uid]: "1:100000:10", [gid]: "0:100000:10" }, "no root"],
    ] as const
  ) await assertRejects(() => snapshots.prepare("key", "", { labels }), InvalidArgumentError, said);
  assertEquals(left(t), []);
});

serverTest("what is mounted itself is a layer of others only when it is unmounted", async (t) => {
  t.make("mnt");
  await using snapshots = await open(t, { prepare: "always" });
  const [mount] = await snapshots.prepare("key", "");
  assertStringIncludes(mount?.source ?? "", "/root/snapshots/1/root");
  write(`${mount?.source}/file`, "file");
  assertEquals(t.mounts().length, 1);
  await snapshots.commit("layer", "key");
  assertEquals(t.mounts(), []);
  await within(await snapshots.prepare("next", "layer"), `${t.dir}/mnt`, (dir) => {
    assertEquals(Deno.readTextFileSync(`${dir}/file`), "file");
    assertEquals(t.mounts().filter(({ fsType }) => fsType === "overlay").length, 2); // ours, and the bind of it
  });
  await removeAll(snapshots);
  assertEquals([t.mounts(), left(t)], [[], []]);
});

serverTest("usage counts blocks and inodes as du(1) does, hard links once", async (t) => {
  t.make("mnt");
  await using snapshots = await open(t);
  const [mount] = await snapshots.prepare("key", "");
  const dir = mount?.source ?? "";
  write(`${dir}/large`, "x".repeat(100_000));
  Deno.linkSync(`${dir}/large`, `${dir}/again`);
  Deno.symlinkSync("/usr", `${dir}/link`);
  Deno.mkdirSync(`${dir}/a/b`, { recursive: true });
  Deno.linkSync(`${dir}/large`, `${dir}/a/b/again`);
  using sparse = Deno.openSync(`${dir}/sparse`, { write: true, create: true });
  sparse.truncateSync(1 << 30);
  mkdirRaw(rawPath(dir, Uint8Array.of(0xff, 0xfe)));
  const { out } = await say("du", ["--block-size=1", "--summarize", dir]);
  const { out: inodes } = await say("du", ["--inodes", "--summarize", dir]);
  const expected = { size: Number(out[0]?.split("\t")[0]), inodes: Number(inodes[0]?.split("\t")[0]) };
  assertEquals(expected.inodes, 7);
  assertEquals(await snapshots.usage("key"), expected);
  await snapshots.commit("layer", "key");
  assertEquals(await snapshots.usage("layer"), expected);
  await snapshots.view("view", "layer");
  assertEquals(await snapshots.usage("view"), { size: 0, inodes: 0 });
  await removeAll(snapshots);
}, { tools: [] });

serverTest("remove() follows no link, takes names that are no UTF-8, and deletes deep trees", async (t) => {
  t.make("outside/kept");
  write(`${t.dir}/outside/kept/file`, "kept");
  await using snapshots = await open(t);
  const [mount] = await snapshots.prepare("key", "");
  const dir = mount?.source ?? "";
  Deno.symlinkSync(`${t.dir}/outside`, `${dir}/link`);
  Deno.symlinkSync("/none", `${dir}/broken`);
  const raw = rawPath(dir, Uint8Array.of(0xff, 0x2d, 0xe9));
  mkdirRaw(raw);
  mkdirRaw(Uint8Array.from([...raw, 0x2f, 0xc3]));
  for (let depth = 0, path = dir; depth < 300; depth++) Deno.mkdirSync(path += "/d");
  for (let index = 0; index < 1500; index++) write(`${dir}/file-${index}`, "");
  await snapshots.remove("key");
  assertEquals(left(t), []);
  assertEquals(Deno.readTextFileSync(`${t.dir}/outside/kept/file`), "kept");
});

serverTest("remove() refuses what is mounted, and deletes nothing of it", async (t) => {
  t.make("mnt", "outside", "lower");
  write(`${t.dir}/outside/file`, "kept");
  await using snapshots = await open(t);
  const refused = async (key: string, at: string) => {
    const error = await assertRejects(() => snapshots.remove(key), FailedPreconditionError);
    assertStringIncludes(error.message, at);
  };
  const bound = await snapshots.prepare("bound", "");
  write(`${bound[0]?.source}/file`, "kept");
  await within(bound, `${t.dir}/mnt`, async (dir) => {
    await refused("bound", dir);
    assertEquals(Deno.readTextFileSync(`${dir}/file`), "kept");
  });
  await snapshots.commit("layer", "bound");
  await within(
    await snapshots.prepare("overlaid", "layer"),
    `${t.dir}/mnt`,
    (dir) => refused("overlaid", dir),
  );
  const [inside] = await snapshots.prepare("inside", "");
  Deno.mkdirSync(`${inside?.source}/directory`);
  await within(
    [{ type: "bind", source: `${t.dir}/outside`, options: ["bind"] }],
    `${inside?.source}/directory`,
    async (dir) => {
      await refused("inside", dir);
      assertEquals(Deno.readTextFileSync(`${t.dir}/outside/file`), "kept");
    },
  );
  await removeAll(snapshots);
  assertEquals(left(t), []);
});

serverTest(
  "what is mounted in the trash stays, and cleanup() deletes the rest when it is unmounted",
  async (t) => {
    t.make("outside");
    write(`${t.dir}/outside/file`, "kept");
    {
      await using snapshots = await open(t);
      await snapshots.prepare("key", "");
    }
    // As if it was mounted between the look at the mount table and the rename.
    const { DatabaseSync } = await import("node:sqlite");
    const db = new DatabaseSync(`${t.dir}/root/snapshots.db`);
    db.exec("DELETE FROM snapshot; INSERT INTO trash (id) VALUES (1)");
    db.close();
    const inside = `${t.dir}/root/snapshots/1/fs/directory`;
    Deno.mkdirSync(inside);
    bindRaw(rawPath(`${t.dir}/outside`), rawPath(inside));
    try {
      await using snapshots = await open(t);
      assertEquals(snapshots.problems.length, 1);
      const error = await assertRejects(() => snapshots.cleanup(), AggregateError);
      assertStringIncludes(error.message, "not everything could be deleted");
      assertEquals(Deno.readTextFileSync(`${t.dir}/outside/file`), "kept");
      assertEquals(names(`${t.dir}/root/trash/1/fs`), ["directory"]);
      umountRaw(rawPath(`${t.dir}/root/trash/1/fs/directory`));
      await snapshots.cleanup();
      assertEquals([left(t), Deno.readTextFileSync(`${t.dir}/outside/file`)], [[], "kept"]);
    } finally {
      for (const place of ["snapshots", "trash"]) umountRaw(rawPath(`${t.dir}/root/${place}/1/fs/directory`));
    }
  },
);

serverTest("the snapshots have one owner, and a record", async (t) => {
  {
    await using snapshots = await open(t);
    await assertRejects(() => open(t), FailedPreconditionError, "another process");
    await snapshots.prepare("key", "");
  }
  Deno.renameSync(`${t.dir}/root/snapshots.db`, `${t.dir}/moved.db`);
  for (const name of names(`${t.dir}/root`)) {
    if (name.startsWith("snapshots.db")) Deno.removeSync(`${t.dir}/root/${name}`);
  }
  await assertRejects(() => open(t), FailedPreconditionError, "record snapshots.db is gone");
  Deno.renameSync(`${t.dir}/moved.db`, `${t.dir}/root/snapshots.db`);
  await using snapshots = await open(t);
  await snapshots.remove("key");
  Deno.chmodSync(`${t.dir}/root`, 0o777);
  await snapshots[Symbol.asyncDispose]();
  await assertRejects(() => open(t), TypeError, "other users can write");
  await assertRejects(() => LocalSnapshotter.open({ root: `${t.dir}/a:b` }), TypeError, "colon");
});

serverTest(
  "a root that was unmounted, as by a reboot, is mounted again by open() and by mounts()",
  async (t) => {
    t.make("mnt");
    const root = `${t.dir}/root/snapshots/2/root`;
    {
      await using snapshots = await open(t);
      await addLayer(snapshots, "1", "", `${t.dir}/mnt`, (dir) => write(`${dir}/file`, "file"));
      await snapshots.prepare("container", "1", { labels: MAPPED });
    }
    const isMounted = () =>
      t.mounts().filter(({ mountpoint }) => mountpoint === "/root/snapshots/2/root").length;
    assertEquals(isMounted(), 1); // it outlives the snapshotter
    const before = readText("/proc/self/mountinfo");
    {
      await using snapshots = await open(t);
      assertEquals(readText("/proc/self/mountinfo"), before); // it is the recorded one: nothing is mounted
      await snapshots.stat("container");
    }
    await unmount(root);
    {
      await using snapshots = await open(t);
      assertEquals([isMounted(), snapshots.problems], [1, []]);
      await unmount(root);
      const [mount] = await snapshots.mounts("container");
      assertEquals([mount?.source, isMounted()], [root, 1]);
      assertEquals(Deno.statSync(`${root}/file`).uid, 100_000);
      // Another process's mount on top is not unmounted.
      await mountAll([{ type: "tmpfs", source: "tmpfs" }], root);
      await assertRejects(() => snapshots.remove("container"), FailedPreconditionError, "another process");
      assertEquals(isMounted(), 2);
      await unmount(root);
      await removeAll(snapshots);
    }
    assertEquals([t.mounts(), left(t)], [[], []]);
  },
);

serverTest("480 layers are one tree, plain and mapped", async (t) => {
  t.make("mnt", "flat");
  await using served = await serve(t.dir, { prepare: "auto" });
  const { snapshots, local } = served;
  let parent = "";
  for (let index = 0; index < 480; index++) {
    const [mount] = await local.prepare("making", ""); // a layer that nothing was mounted for
    write(`${mount?.source}/file-${index % 400}`, `${index}`);
    await local.commit(`layer-${index}`, "making", { parent });
    parent = `layer-${index}`;
    write(`${t.dir}/flat/file-${index % 400}`, `${index}`);
  }
  const tree = async (dir: string) =>
    (await describeTree(dir)).map((line) => line.replace(/ \d+\.\d{9} /, " "));
  const expected = await tree(`${t.dir}/flat`);
  for (const kind of ["view", "prepare"] as const) {
    const mounts = await snapshots[kind](kind, parent);
    assertEquals(mounts.length, 1);
    await within(mounts, `${t.dir}/mnt`, async (dir) => assertEquals(await tree(dir), expected));
  }
  const mapped = await snapshots.prepare("mapped", parent, { labels: MAPPED });
  await within(mapped, `${t.dir}/mnt`, async (dir) => {
    assertEquals((await tree(dir)).map((line) => line.replace(" 100000:100000", " 0:0")), expected);
  });
  assertEquals(await removeAll(local), 483);
  assertEquals([t.mounts(), left(t)], [[], []]);
});

serverTest("prepare() that fails or is cancelled leaves nothing", async (t) => {
  t.make("mnt");
  await using snapshots = await open(t, { prepare: "always" });
  await addLayer(snapshots, "1", "", `${t.dir}/mnt`, () => {});
  const before = left(t);
  await assertRejects(
    () => snapshots.prepare("key", "1", { signal: AbortSignal.abort(new Error("enough")) }),
    Error,
    "enough",
  );
  Deno.renameSync(`${t.dir}/root/snapshots/1/fs`, `${t.dir}/root/snapshots/1/moved`);
  Deno.mkdirSync(`${t.dir}/root/snapshots/1/fs`);
  Deno.removeSync(`${t.dir}/root/snapshots/1/fs`);
  await assertRejects(() => snapshots.prepare("key", "1"), Error);
  Deno.renameSync(`${t.dir}/root/snapshots/1/moved`, `${t.dir}/root/snapshots/1/fs`);
  assertEquals([left(t), t.mounts()], [before, []]);
  await snapshots.prepare("key", "1");
  await removeAll(snapshots);
  assertEquals([left(t), mountTable().filter(({ mountpoint }) => mountpoint.startsWith(t.dir))], [[], []]);
});
