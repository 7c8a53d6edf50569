import { mount, mountAll, MountError, unmountMounts } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const withoutMountApi = () => pretendMissing("mountApi", "mountSetattr", "openat2");

/** A shared tree, as under systemd: an unmount in an rbind of it would propagate to it. */
async function sharedTree(t: KernelContext): Promise<AsyncDisposable> {
  t.make("source", "target");
  const tmpfs = { type: "tmpfs", source: "t" };
  const top = await mount({ ...tmpfs, options: ["shared"] }, `${t.dir}/source`);
  t.make("source/below");
  const below = await mount(tmpfs, `${t.dir}/source/below`);
  t.make("source/below/deep");
  const deep = await mount(tmpfs, `${t.dir}/source/below/deep`);
  return {
    async [Symbol.asyncDispose]() {
      for (const stack of [deep, below, top]) await stack.unmount();
    },
  };
}

const source = ["/source", "/source/below", "/source/below/deep"];
const target = ["/target", "/target/below", "/target/below/deep"];
const mountpoints = (t: KernelContext) => t.mounts().map(({ mountpoint }) => mountpoint).sort();

for (const api of ["fsopen(2) and open_tree(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? withoutMountApi() : { [Symbol.dispose]() {} };

  kernelTest(
    `an rbind is unmounted with all its submounts, and its source keeps its own, with ${api}`,
    {},
    async (t) => {
      using _ = select();
      await using _tree = await sharedTree(t);
      const rbind = { type: "bind", source: `${t.dir}/source`, options: ["rbind"] };
      for (const detach of [false, true]) {
        const stack = await mount(rbind, `${t.dir}/target`);
        assertEquals(mountpoints(t), [...source, ...target]);
        await stack.unmount({ detach });
        assertEquals(mountpoints(t), source);

        await mount(rbind, `${t.dir}/target`);
        await unmountMounts([rbind], `${t.dir}/target`, { detach });
        assertEquals(mountpoints(t), source);
      }
    },
  );

  kernelTest(
    `mountAll() that fails unmounts its rbind, and its source keeps its mounts, with ${api}`,
    {},
    async (t) => {
      using _ = select();
      await using _tree = await sharedTree(t);
      const rbind = { type: "bind", source: `${t.dir}/source`, options: ["rbind"] };
      const list = [rbind, { type: "bind", source: `${t.dir}/none`, target: "below", options: ["bind"] }];
      await assertRejects(() => mountAll(list, `${t.dir}/target`), MountError, "none");
      assertEquals(mountpoints(t), source);
    },
  );
}

kernelTest("unmounting an rbind over other mounts keeps the other mounts", {}, async (t) => {
  await using _tree = await sharedTree(t);
  await using _mine = await mount({ type: "tmpfs", source: "mine" }, `${t.dir}/target`);
  t.make("target/below");
  await using _below = await mount({ type: "tmpfs", source: "mine" }, `${t.dir}/target/below`);
  const before = mountpoints(t);
  {
    await using _stack = await mount(
      { type: "bind", source: `${t.dir}/source`, options: ["rbind"] },
      `${t.dir}/target`,
    );
  }
  assertEquals(mountpoints(t), before);
});

kernelTest(
  "an rbind of / is unmounted, even if its submounts are locked",
  {},
  async (t) => {
    t.make("target");
    {
      await using _stack = await mount({ type: "bind", source: "/", options: ["rbind"] }, `${t.dir}/target`);
      assertEquals(t.mounts().length > 3, true);
    }
    assertEquals(t.mounts(), []);
  },
);
