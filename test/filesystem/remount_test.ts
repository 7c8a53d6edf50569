import { mount, MountError } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

const byMount = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");

const remount = (t: KernelContext, ...options: string[]) =>
  mount({ type: "", source: "", options: ["remount", ...options] }, `${t.dir}/target`);

/** Whether the mount and its superblock are read-only, and its size. */
function state(t: KernelContext): string[] {
  const [row] = t.mounts();
  const words = row?.superOptions.split(",") ?? [];
  return [row?.options[0] ?? "", words[0] ?? "", words.find((word) => word.startsWith("size=")) ?? ""];
}

for (const api of ["fspick(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? byMount() : undefined;

  kernelTest(`a remount that the kernel refuses changes nothing, and says so, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    await using _mounted = await mount(
      { type: "tmpfs", source: "t", options: ["size=4m"] },
      `${t.dir}/target`,
    );
    Deno.writeFileSync(`${t.dir}/target/file`, new Uint8Array(1 << 20));
    const before = t.mounts();
    for (const option of ["bogus=1", "size=64k"]) {
      const error = await assertRejects(() => remount(t, option, "nosuid"), MountError);
      assertEquals(error.code, "EINVAL");
      if (api !== "mount(2)") {
        assertStringIncludes(error.message, option === "bogus=1" ? "bogus" : "Too small");
      }
      assertEquals(t.mounts(), before);
    }
  });

  kernelTest(`a remount keeps what it does not name, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    await using _mounted = await mount(
      { type: "tmpfs", source: "t", options: ["size=4m", "ro"] },
      `${t.dir}/target`,
    );
    await remount(t, "size=2m");
    assertEquals(state(t), ["ro", "ro", "size=2048k"]);
    await remount(t, "rw");
    assertEquals(state(t), ["rw", "rw", "size=2048k"]);
    await remount(t, "bind", "ro");
    assertEquals(state(t), ["ro", "rw", "size=2048k"]);
    await remount(t, "size=3m");
    assertEquals(state(t), ["ro", "rw", "size=3072k"]);
    await remount(t, "ro");
    await remount(t, "bind", "rw");
    assertEquals(state(t), ["rw", "ro", "size=3072k"]);
    await remount(t, "bind", "nosuid");
    assertEquals([...state(t), t.mounts()[0]?.options[1]], ["rw", "ro", "size=3072k", "nosuid"]);
  });

  kernelTest(`remount,bind keeps the other flags of a mount, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    const options = ["nosuid", "nodev", "noatime"];
    await using _mounted = await mount({ type: "tmpfs", source: "t", options }, `${t.dir}/target`);
    for (const [word, expected] of [["noexec", "rw"], ["ro", "ro"], ["rw", "rw"]] as const) {
      await remount(t, "bind", word);
      assertEquals(t.mounts()[0]?.options, [expected, "nosuid", "nodev", "noexec", "noatime"]);
    }
  });

  kernelTest(
    `a remount changes the topmost mount of a stack, with ${api}`,
    { privateDirectory: true },
    async (t) => {
      using _ = select();
      t.make("target");
      await using _below = await mount({ type: "tmpfs", source: "below" }, `${t.dir}/target`);
      await using _above = await mount({ type: "tmpfs", source: "above" }, `${t.dir}/target`);
      await remount(t, "bind", "ro");
      await mount({ type: "", source: "", options: ["shared"] }, `${t.dir}/target`);
      assertEquals(
        t.mounts().map(({ source, options, optional }) => [source, options[0], optional.split(":")[0]]),
        [["below", "rw", ""], ["above", "ro", "shared"]],
      );
    },
  );
}

kernelTest("before Linux 5.12 a remount with rro is refused by name, and changes nothing", {}, async (t) => {
  using _ = byMount();
  t.make("target");
  await using _mounted = await mount({ type: "tmpfs", source: "t" }, `${t.dir}/target`);
  await assertRejects(() => remount(t, "rro"), MountError, '"rro" changes a tree');
  assertEquals(t.mounts()[0]?.options[0], "rw");
});
