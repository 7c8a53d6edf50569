import { mount, MountError } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";

const needs = { features: ["overlay"] } as const;
const overlay = (...options: string[]) => ({ type: "overlay", source: "o", options });

for (const api of ["lowerdir+", "mount(2)"]) {
  const select = () => api === "mount(2)" ? pretendMissing("overlayLayers", "overlayDescriptors") : undefined;

  kernelTest(`layers with long, relative and odd paths are found, with ${api}`, needs, async (t) => {
    const before = Deno.cwd();
    const long = (index: number) => `${"l".repeat(200)}/${index}${"m".repeat(200)}`;
    const layers = Array.from({ length: 20 }, (_, index) => long(index));
    t.make("target", "a", "b", "up\\per", "wo\\rk", ...layers);
    for (const [index, layer] of layers.entries()) Deno.writeTextFileSync(`${t.dir}/${layer}/${index}`, "");
    Deno.chdir(t.dir);
    try {
      using _ = select();
      for (const list of [layers, layers.map((layer) => `${t.dir}/${layer}`)]) {
        await using _mounted = await mount(
          overlay(`lowerdir=${list.join(":")}`, "upperdir=up\\\\per", "workdir=wo\\\\rk"),
          `${t.dir}/target`,
        );
        assertEquals(names(`${t.dir}/target`).length, layers.length);
        Deno.writeTextFileSync(`${t.dir}/target/new`, "");
        assertEquals(names(`${t.dir}/up\\per`), ["new"]);
        Deno.removeSync(`${t.dir}/target/new`);
      }
      {
        await using _readonly = await mount(overlay(`lowerdir=${layers.join(":")}`), `${t.dir}/target`);
        assertEquals(names(`${t.dir}/target`).length, layers.length);
      }
      await using _relative = await mount(overlay("lowerdir=a:b"), `${t.dir}/target`);
    } finally {
      Deno.chdir(before);
    }
  });

  kernelTest(`an overlay that was volatile before says so, with ${api}`, needs, async (t) => {
    using _ = select();
    t.make("target", "lower", "upper", "work");
    const layers = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
    await (await mount(overlay(...layers, "volatile"), `${t.dir}/target`)).unmount();
    const mark = `${t.dir}/work/work/incompat/volatile`;
    await assertRejects(() => mount(overlay(...layers), `${t.dir}/target`), MountError, `remove ${mark}`);
    Deno.removeSync(mark, { recursive: true }); // as the message advises
    await (await mount(overlay(...layers), `${t.dir}/target`)).unmount();
  });
}

kernelTest("before Linux 6.5 the layer at fault is named", needs, async (t) => {
  using _ = pretendMissing("overlayLayers", "overlayDescriptors");
  t.make("target", "lower", "upper");
  Deno.writeTextFileSync(`${t.dir}/file`, "");
  const cases: [string[], string][] = [
    [[`lowerdir=${t.dir}/none:${t.dir}/lower`], `${t.dir}/none does not exist (mount: ENOENT)`],
    [[`lowerdir=${t.dir}/file:${t.dir}/lower`], `${t.dir}/file is not a directory (mount: EINVAL)`],
    [
      [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/no`],
      `${t.dir}/no does not exist (mount: ENOENT)`,
    ],
  ];
  for (const [options, sentence] of cases) {
    const error = await assertRejects(() => mount(overlay(...options), `${t.dir}/target`), MountError);
    assertStringIncludes(error.message, sentence);
    assertEquals(t.mounts(), []);
  }
});
