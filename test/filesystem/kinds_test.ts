import { type Mount, mount, MountError } from "../../mod.ts";
import { type Feature, pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";

const MAPS = "uidmap=0:100000:65536,gidmap=0:100000:65536";
const mapped = { root: true, features: ["mountSetattr", "overlayLayers", "mappedTmpfs"] as const };

const propagation = (t: KernelContext) =>
  t.mounts().map(({ mountpoint, optional }) => `${mountpoint} ${optional.split(":")[0]}`);

kernelTest("a kernel before 5.14 sets nosymfollow by mount(2), and refuses it with an id map", {
  root: true,
  features: ["mountSetattr", "mappedTmpfs"],
}, async (t) => {
  using _ = pretendMissing("nosymfollow");
  t.make("source", "target");
  const list: Mount[] = [
    { type: "bind", source: `${t.dir}/source`, options: ["nosymfollow"] },
    { type: "tmpfs", source: "t", options: ["nosymfollow"] },
  ];
  for (const entry of list) {
    {
      await using _mounted = await mount(entry, `${t.dir}/target`);
      assertEquals(t.mounts().map(({ options }) => options.includes("nosymfollow")), [true]);
    }
    const withMap = { ...entry, options: [...entry.options ?? [], MAPS] };
    await assertRejects(
      () => mount(withMap, `${t.dir}/target`),
      MountError,
      "an id-mapped mount with nosymfollow needs Linux 5.14",
    );
    assertEquals(t.mounts(), []);
  }
});

for (
  const missing of [[], ["detachedLayers"], ["overlayLayers"], [
    "overlayLayers",
    "detachedLayers",
  ]] as Feature[][]
) {
  const without = missing.length > 0 ? `, without ${missing.join(" and ")}` : "";

  kernelTest(
    `each layer of an id-mapped overlay is mapped, data-only ones too${without}`,
    mapped,
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("target", "a", "b", "c", "data");
      for (const name of ["a", "b", "c", "data"]) Deno.writeTextFileSync(`${t.dir}/${name}/${name}`, "");
      const owners = (root: string) =>
        names(root).map((name) => [name, Deno.statSync(`${root}/${name}`).uid]);
      const overlay = (...options: string[]) =>
        mount({ type: "overlay", source: "o", options: [...options, MAPS] }, `${t.dir}/target`);
      {
        await using _mounted = await overlay(`lowerdir=${t.dir}/a:${t.dir}/b:${t.dir}/c`);
        assertEquals(owners(`${t.dir}/target`), [["a", 100000], ["b", 100000], ["c", 100000]]);
      }
      {
        const kept = `X-denomount.unmapped=${t.dir}/b`;
        await using _mounted = await overlay(`lowerdir=${t.dir}/a:${t.dir}/b:${t.dir}/c`, kept);
        assertEquals(owners(`${t.dir}/target`), [["a", 100000], ["b", 0], ["c", 100000]]);
      }
      await using _mounted = await overlay(`lowerdir=${t.dir}/a:${t.dir}/b::${t.dir}/data`, "metacopy=on");
      assertEquals(owners(`${t.dir}/target`), [["a", 100000], ["b", 100000]]);
    },
  );
}

kernelTest(
  "a data-only layer shows no names of its own",
  { root: true, features: ["overlayLayers", "overlay"] },
  async (t) => {
    t.make("target", "a", "data");
    for (const name of ["a", "data"]) Deno.writeTextFileSync(`${t.dir}/${name}/${name}`, "");
    const options = [`lowerdir=${t.dir}/a::${t.dir}/data`, "metacopy=on"];
    await using _mounted = await mount({ type: "overlay", source: "o", options }, `${t.dir}/target`);
    assertEquals(names(`${t.dir}/target`), ["a"]);
  },
);

for (const missing of [[], ["mountSetattr"], ["mountApi", "mountSetattr", "openat2"]] as Feature[][]) {
  const without = missing.length > 0 ? `, without ${missing.join(" and ")}` : "";

  kernelTest(
    `rprivate changes a tree and private one mount, also of a new rbind${without}`,
    { privateDirectory: true },
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("source", "target");
      const shared = { type: "tmpfs", source: "t", options: ["shared"] };
      await using _source = await mount(shared, `${t.dir}/source`);
      t.make("source/below");
      await using _below = await mount(shared, `${t.dir}/source/below`);
      const change = (...options: string[]) => mount({ type: "", source: "", options }, `${t.dir}/source`);
      const rbind = async (...words: string[]) => {
        const options = ["rbind", ...words];
        const bound = await mount({ type: "bind", source: `${t.dir}/source`, options }, `${t.dir}/target`);
        const seen = propagation(t).slice(2);
        await bound.unmount();
        return seen;
      };
      assertEquals(await rbind(), ["/target master", "/target/below master"]);
      assertEquals(await rbind("private"), ["/target ", "/target/below master"]);
      assertEquals(await rbind("rprivate", "nosuid"), ["/target ", "/target/below "]);
      assertEquals(await rbind("rprivate", "rshared"), ["/target shared", "/target/below shared"]);
      assertEquals(await rbind("rshared", "nosuid"), ["/target shared", "/target/below shared"]);
      assertEquals(propagation(t), ["/source shared", "/source/below shared"]);
      await change("private");
      assertEquals(propagation(t), ["/source ", "/source/below shared"]);
      await change("rshared");
      assertEquals(propagation(t), ["/source shared", "/source/below shared"]);
      await change("rprivate");
      assertEquals(propagation(t), ["/source ", "/source/below "]);
    },
  );
}
