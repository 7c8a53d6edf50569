import {
  isMountpoint,
  mount,
  mountAll,
  unmount,
  unmountAll,
  unmountMounts,
  unmountRecursive,
} from "../../mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { assertInTime, watch } from "../hang/watch.ts";
import { kernelTest } from "../harness.ts";

kernelTest(
  "unmount() and unmountAll() do nothing on a path that is not a mountpoint or does not exist",
  {},
  async (t) => {
    t.make("root");
    await unmount(`${t.dir}/root`);
    await unmountAll(`${t.dir}/root`);
    await unmountAll(`${t.dir}/missing`);
    await unmountAll("");
  },
);

kernelTest("unmountAll() unmounts all mounts that are stacked on a mountpoint", {}, async (t) => {
  t.make("root");
  for (let i = 0; i < 5; i++) await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root`);
  assertEquals(t.mounts().length, 5);
  await unmountAll(`${t.dir}/root`);
  assertEquals(t.mounts(), []);
});

kernelTest(
  "unmount() retries a busy mount until its timeout, or until its signal aborts",
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

kernelTest(
  "unmount(), unmountAll() and unmountRecursive() stop waiting for a busy mount if the signal aborts",
  {},
  async (t) => {
    t.make("target");
    await mount({ type: "tmpfs", source: "t" }, `${t.dir}/target`);
    using _busy = Deno.openSync(`${t.dir}/target`);
    for (const call of [unmount, unmountAll, unmountRecursive]) {
      const signal = AbortSignal.timeout(100);
      const watched = await watch(() => call(`${t.dir}/target`, { timeout: 60_000, signal }));
      assertInTime(watched, 100);
      assertEquals(watched.error, signal.reason);
    }
    await unmount(`${t.dir}/target`, { detach: true });
  },
);

kernelTest("unmountRecursive() unmounts every mount below a path, the deepest first", {}, async (t) => {
  t.make("root/a");
  await mountAll([{ type: "tmpfs", source: "t" }], `${t.dir}/root/a`);
  Deno.mkdirSync(`${t.dir}/root/a/b`);
  await mount({ type: "tmpfs", source: "t" }, `${t.dir}/root/a/b`);
  await unmountRecursive(`${t.dir}/root`);
  assertEquals(t.mounts(), []);
});

kernelTest(
  "unmountMounts() unmounts everything that is stacked on the mountpoints of the list",
  {},
  async (t) => {
    t.make("root", "root/other");
    await using _other = await mount({ type: "tmpfs", source: "other" }, `${t.dir}/root/other`);
    await mount({ type: "tmpfs", source: "before" }, `${t.dir}/root`);
    const list = [{ type: "tmpfs", source: "one" }, { type: "", source: "", options: ["remount", "ro"] }];
    await mountAll(list, `${t.dir}/root`);
    await unmountMounts(list, `${t.dir}/root`);
    assertEquals(t.mounts().map((row) => row.source), ["other"]);
  },
);

kernelTest("unmount() uses umount2(2) for a FUSE mount if it may not run programs", {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
}, async (t) => {
  t.make("source", "target");
  await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, `${t.dir}/target`);
  await unmount(`${t.dir}/target`);
  assert(!(await isMountpoint(`${t.dir}/target`)));
});
