import { mount, MountError } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";

const byMount = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");
const hasSelinux = names("/sys/fs/selinux").length > 0;

for (const api of ["fsopen(2)", "mount(2)"]) {
  const select = () => api === "mount(2)" ? byMount() : undefined;

  kernelTest(`the source of a file system without a device may be any text, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    Deno.writeTextFileSync(`${t.dir}/file`, "");
    for (const source of ["/none", `${t.dir}/file/below`, `/${"n".repeat(300)}`, t.dir, "t"]) {
      await using _mounted = await mount({ type: "tmpfs", source }, `${t.dir}/target`);
      assertEquals(t.mounts().map((row) => row.source), [source]);
    }
  });

  kernelTest(`ro makes the superblock read-only and ro=vfs the mount alone, with ${api}`, {
    features: ["overlay"],
  }, async (t) => {
    using _ = select();
    t.make("target", "lower", "upper", "work");
    const overlay = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
    const entries = { tmpfs: ["size=1m"], overlay };
    for (const [type, own] of Object.entries(entries)) {
      for (const [word, superblock] of [["ro", "ro"], ["ro=vfs", "rw"], ["ro=fs", "ro"]] as const) {
        await using _mounted = await mount(
          { type, source: "s", options: [...own, word, "nosuid"] },
          `${t.dir}/target`,
        );
        const [row] = t.mounts();
        assertEquals(
          [row?.options[0], row?.options[1], row?.superOptions.split(",")[0]],
          [word === "ro=fs" ? "rw" : "ro", "nosuid", superblock],
          `${type}, ${word}`,
        );
      }
    }
  });

  kernelTest(`a file system on a file fails, and does not blame its source, with ${api}`, {}, async (t) => {
    using _ = select();
    Deno.writeTextFileSync(`${t.dir}/file`, "");
    const error = await assertRejects(
      () => mount({ type: "tmpfs", source: "my-source" }, `${t.dir}/file`),
      MountError,
      "a directory can't be mounted on a file",
    );
    assertEquals(error.code, "ENOTDIR");
    assertEquals(error.message.match(/my-source/g)?.length, 1); // in "cannot mount tmpfs my-source on"
  });

  kernelTest(`a value in quotes is set without them, with ${api}`, {}, async (t) => {
    using _ = select();
    t.make("target");
    const options = api === "mount(2)" ? ["mode=0750"] : ['mode="0750"'];
    await using _mounted = await mount({ type: "tmpfs", source: "t", options }, `${t.dir}/target`);
    assertStringIncludes(t.mounts()[0]?.superOptions ?? "", "mode=750");
  });

  if (!hasSelinux) {
    kernelTest(
      `without SELinux a security context is left out, with ${api}`,
      { features: ["overlay"] },
      async (t) => {
        using _ = select();
        t.make("target");
        const context = "context=system_u:object_r:tmp_t:s0";
        for (
          const [type, ...own] of [["tmpfs", "size=1m"], ["overlay", `lowerdir=/usr:/etc`]] as const
        ) {
          await using _mounted = await mount(
            { type, source: "s", options: [...own, context] },
            `${t.dir}/target`,
          );
          await mount({ type: "", source: "", options: ["remount", context, "nosuid"] }, `${t.dir}/target`);
          assertEquals(t.mounts().map(({ options }) => options.includes("nosuid")), [true]);
        }
      },
    );
  }
}

kernelTest("a value with a comma is refused where mount(2) would split it", {}, async (t) => {
  t.make("target");
  using _ = byMount();
  await assertRejects(
    () => mount({ type: "tmpfs", source: "t", options: ["mpol=bind:0\\,1"] }, `${t.dir}/target`),
    MountError,
    "has a comma, which mount(2) takes for the end of the option",
  );
  assertEquals(t.mounts(), []);
});
