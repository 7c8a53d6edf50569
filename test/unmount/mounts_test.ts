import { BusyError, type Mount, mount, mountAll, unmountMounts } from "../../mod.ts";
import { assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const tmpfs = { type: "tmpfs", source: "t" };
const mountpoints = (t: KernelContext) => t.mounts().map(({ mountpoint }) => mountpoint).sort();

kernelTest("unmountMounts() never follows a link out of the target", {}, async (t) => {
  t.make("root", "outside/in");
  Deno.symlinkSync(`${t.dir}/outside`, `${t.dir}/root/absolute`);
  Deno.symlinkSync("../outside", `${t.dir}/root/relative`);
  Deno.symlinkSync("/in", `${t.dir}/root/inner`);
  t.make("root/in");
  await using _outside = await mount(tmpfs, `${t.dir}/outside`);
  t.make("outside/in");
  await using _in = await mount(tmpfs, `${t.dir}/outside/in`);
  const targets = ["/absolute", "/relative", "/absolute/in", "/relative/in", "/../outside", "../outside/in"];
  for (const target of targets) await unmountMounts([{ ...tmpfs, target }], `${t.dir}/root`);
  assertEquals(mountpoints(t), ["/outside", "/outside/in"]);
  await mount(tmpfs, `${t.dir}/root/in`);
  await unmountMounts([{ ...tmpfs, target: "/inner" }], `${t.dir}/root`); // "/" of a link is the target
  assertEquals(mountpoints(t), ["/outside", "/outside/in"]);
});

kernelTest(
  "unmountMounts() leaves alone what a remount or a propagation entry has changed",
  {},
  async (t) => {
    t.make("root/a");
    await mount(tmpfs, `${t.dir}/root/a`);
    const changes: Mount[] = [
      { type: "tmpfs", source: "t", target: "/a", options: ["remount", "ro"] },
      { type: "bind", source: "", target: "/a", options: ["remount", "bind", "ro"] },
      { type: "none", source: "none", target: "/a", options: ["private"] },
      { type: "", source: "", target: "/a", options: ["rshared"] },
    ];
    for (const change of changes) {
      await mount(change, `${t.dir}/root`);
      await unmountMounts([change], `${t.dir}/root`);
      assertEquals(mountpoints(t), ["/root/a"], JSON.stringify(change));
    }
    for (const options of [["bind"], ["rbind,ro"]]) {
      const bind = { type: "none", source: `${t.dir}/root`, target: "/a", options };
      await unmountMounts([bind], `${t.dir}/root`);
      assertEquals(mountpoints(t), []);
      await mount(bind, `${t.dir}/root`);
    }
    await unmountMounts([{ ...tmpfs, target: "/a" }], `${t.dir}/root`);
    assertEquals(t.mounts(), []);
  },
);

kernelTest("unmountMounts() passes over mountpoints that are gone, or not mounted", {}, async (t) => {
  t.make("root/a", "root/b");
  Deno.writeTextFileSync(`${t.dir}/root/file`, "");
  await mount(tmpfs, `${t.dir}/root/a`);
  const list = ["/a", "/none", "/file/below", "/b"].map((target) => ({ ...tmpfs, target }));
  await unmountMounts(list, `${t.dir}/root`);
  assertEquals(t.mounts(), []);
  for (const target of ["none", "none/below", "root/file", "root/file/below"]) {
    await unmountMounts(list, `${t.dir}/${target}`);
  }
});

kernelTest("unmountMounts() unmounts a list from its end, and throws if a mount is busy", {}, async (t) => {
  t.make("root");
  const list = [
    { ...tmpfs, source: "first" },
    { ...tmpfs, target: "/a", options: ["X-mount.mkdir"] },
    { ...tmpfs, target: "/b", options: ["X-mount.mkdir"] },
  ];
  const root = `${t.dir}/root`;
  const mounted = await mountAll(list, root);
  {
    using _busy = Deno.openSync(`${root}/b`);
    await assertRejects(() => unmountMounts(list, root, { timeout: 0 }), BusyError);
    assertEquals(mountpoints(t).length, 3); // the last one is the first to be unmounted
  }
  {
    using _busy = Deno.openSync(root);
    const error = await assertRejects(() => unmountMounts(list, root, { timeout: 0 }), BusyError);
    assertEquals([error.path, mountpoints(t)], [root, ["/root"]]);
  }
  await unmountMounts(list, root);
  assertEquals(t.mounts(), []);
  await mounted.unmount();
});
