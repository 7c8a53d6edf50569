import { BusyError, mount, unmountMounts, unmountRecursive } from "../../mod.ts";
import { assertEquals, assertRejects } from "../assert.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const tmpfs = { type: "tmpfs", source: "t" };
const shared = { ...tmpfs, options: ["shared"] };
const mountpoints = (t: KernelContext) => t.mounts().map(({ mountpoint }) => mountpoint).sort();

/** Mounts a tmpfs on each path in turn, which it makes first. */
async function mountTmpfs(t: KernelContext, ...paths: string[]): Promise<void> {
  for (const path of paths) {
    t.make(path);
    await mount(tmpfs, `${t.dir}/${path}`);
  }
}

const ways: [string, Parameters<typeof pretendMissing>][] = [["", []], [", without statmount(2)", [
  "statmount",
]]];

for (const [way, missing] of ways) {
  kernelTest(
    `a mount that hides others is unmounted before them, whatever the order of the table${way}`,
    {},
    async (t) => {
      using _missing = pretendMissing(...missing);
      t.make("root/a/b/c");
      await mountTmpfs(t, "root/a/b/c", "root/a/b", "root/a");
      await unmountRecursive(`${t.dir}/root`);
      assertEquals(t.mounts(), []);
      await mountTmpfs(t, "root");
      t.make("root/a/b/c");
      await mountTmpfs(t, "root/a/b/c", "root/a/b", "root/a");
      await unmountRecursive(`${t.dir}/root`);
      assertEquals(t.mounts(), []);
      await mountTmpfs(t, "root/a", "root/a/b", "root/a/b/c");
      await mountTmpfs(t, "root/a", "root/a/x");
      await unmountRecursive(`${t.dir}/root`);
      assertEquals(t.mounts(), []);
    },
  );
}

kernelTest("unmountRecursive() keeps mounts whose path only begins with its own", {}, async (t) => {
  await mountTmpfs(t, "root/a", "root/ab", "root/a/c");
  await unmountRecursive(`${t.dir}/root/a`);
  assertEquals(mountpoints(t), ["/root/ab"]);
  await unmountRecursive(`${t.dir}/root`);
});

kernelTest("unmountRecursive() follows a symbolic link, and a missing path is no error", {}, async (t) => {
  t.make("root");
  Deno.symlinkSync(`${t.dir}/root`, `${t.dir}/link`);
  Deno.writeTextFileSync(`${t.dir}/file`, "");
  await mountTmpfs(t, "root/a");
  for (const path of ["none", "file/below"]) await unmountRecursive(`${t.dir}/${path}`);
  await unmountRecursive("");
  assertEquals(mountpoints(t), ["/root/a"]);
  await unmountRecursive(`${t.dir}/link`);
  assertEquals(t.mounts(), []);
});

kernelTest("unmountRecursive() unmounts the others if one is busy, and throws its error", {}, async (t) => {
  await mountTmpfs(t, "root/a", "root/bb", "root/ccc", "root/bb/x");
  const { dir } = t;
  {
    using _busy = Deno.openSync(`${dir}/root/a`);
    const error = await assertRejects(() => unmountRecursive(`${dir}/root`, { timeout: 0 }), BusyError);
    assertEquals([error.path, mountpoints(t)], [`${dir}/root/a`, ["/root/a"]]);
  }
  await mountTmpfs(t, "root");
  {
    using _busy = Deno.openSync(`${dir}/root`);
    const error = await assertRejects(() => unmountRecursive(`${dir}/root`, { timeout: 0 }), BusyError);
    assertEquals(error.path, `${dir}/root`);
  }
  await unmountRecursive(`${dir}/root`);
  assertEquals(t.mounts(), []);
});

for (const [way, missing] of ways) {
  kernelTest(`a tree with peers is unmounted alone: the mounts of its peers stay${way}`, {}, async (t) => {
    using _missing = pretendMissing(...missing);
    t.make("source", "target");
    const source = `${t.dir}/source`;
    const target = `${t.dir}/target`;
    await using _top = await mount(shared, source);
    t.make("source/below");
    await using _below = await mount(shared, `${source}/below`);
    t.make("source/below/deep");
    await using _deep = await mount(shared, `${source}/below/deep`);
    const before = mountpoints(t);
    const rbind = { type: "bind", source, options: ["rbind", "rshared"] };
    const ways = [
      (_: AsyncDisposable, detach: boolean) => unmountRecursive(target, { detach }),
      (_: AsyncDisposable, detach: boolean) => unmountMounts([rbind], target, { detach }),
      (handle: Awaited<ReturnType<typeof mount>>, detach: boolean) => handle.unmount({ detach }),
    ];
    for (const detach of [false, true]) {
      for (const unmountTree of ways) {
        const handle = await mount(rbind, target);
        assertEquals(mountpoints(t).length, 6);
        await unmountTree(handle, detach);
        assertEquals(mountpoints(t), before);
      }
    }
  });
}

for (const [way, missing] of ways) {
  kernelTest(
    `a covered tree with peers is unmounted alone, but for what covers them too${way}`,
    {},
    async (t) => {
      using _missing = pretendMissing(...missing);
      t.make("source", "target");
      await using _top = await mount(shared, `${t.dir}/source`);
      t.make("source/below");
      await using _below = await mount(shared, `${t.dir}/source/below`);
      const before = mountpoints(t);
      const rbind = { type: "bind", source: `${t.dir}/source`, options: ["rbind", "rshared"] };
      const bound = await mount(rbind, `${t.dir}/target`);
      await mount(tmpfs, `${t.dir}/target`); // the kernel mounts it on the source too
      assertEquals(mountpoints(t).length, 6);
      await unmountRecursive(`${t.dir}/target`);
      assertEquals(mountpoints(t), before);
      await bound.unmount();
    },
  );
}

for (const [way, missing] of ways) {
  kernelTest(`a mount that stays because it is busy keeps its peer group${way}`, {}, async (t) => {
    using _missing = pretendMissing(...missing);
    t.make("root");
    await mount(shared, `${t.dir}/root`);
    await mountTmpfs(t, "root/a");
    const groups = () => t.mounts().map(({ optional }) => optional);
    const before = groups();
    {
      using _busy = Deno.openSync(`${t.dir}/root/a`);
      await assertRejects(() => unmountRecursive(`${t.dir}/root`, { timeout: 0 }), BusyError);
      assertEquals(groups(), before);
    }
    await unmountRecursive(`${t.dir}/root`);
    assertEquals(t.mounts(), []);
  });
}
