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

kernelTest("a signal ends the waiting for a mount that is busy", {}, async (t) => {
  t.make("target");
  await mount({ type: "tmpfs", source: "t" }, `${t.dir}/target`);
  using _busy = Deno.openSync(`${t.dir}/target`);
  for (const take of [unmount, unmountAll, unmountRecursive]) {
    const signal = AbortSignal.timeout(100);
    const watched = await watch(() => take(`${t.dir}/target`, { timeout: 60_000, signal }));
    assertInTime(watched, 100);
    assertEquals(watched.error, signal.reason);
  }
  await unmount(`${t.dir}/target`, { detach: true });
});

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

kernelTest("without the permission to run programs a FUSE mount still comes off, by umount2", {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
}, async (t) => {
  t.make("source", "target");
  await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, `${t.dir}/target`);
  await unmount(`${t.dir}/target`);
  assert(!(await isMountpoint(`${t.dir}/target`)));
});
