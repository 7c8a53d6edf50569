import { mount, MountError } from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import type { TestFeature } from "../feature.ts";
import { kernelTest } from "../harness.ts";
import { linkText } from "../kernel.ts";

const methods: [string, TestFeature[], () => Disposable][] = [
  ["with lowerdir+", ["overlayLayers"], () => ({ [Symbol.dispose]() {} })],
  ["with lowerdir+ as paths", ["overlayLayers"], () => pretendMissing("overlayDescriptors")],
  ["with mount(2)", ["overlay"], () => pretendMissing("overlayLayers", "overlayDescriptors")],
];

const needs = { features: ["overlay"] } as const;

const escaped = (path: string) => path.replace(/[\\:,]/g, "\\$&");

/** Creates layers with one file each and a common file, which the topmost layer must provide. */
function makeLayers(dir: string, count: number, name: (index: number) => string): string[] {
  return Array.from({ length: count }, (_, index) => {
    const path = `${dir}/${name(index)}`;
    Deno.mkdirSync(path, { recursive: true });
    Deno.writeTextFileSync(`${path}/own-${index}`, `${index}`);
    Deno.writeTextFileSync(`${path}/common`, `${index}`);
    if (index > 0) Deno.writeTextFileSync(`${path}/from-second`, `${index}`);
    return path;
  });
}

function checkLayers(target: string, count: number): void {
  assertEquals(Deno.readTextFileSync(`${target}/common`), "0");
  assertEquals(Deno.readTextFileSync(`${target}/from-second`), "1");
  const names = [...Deno.readDirSync(target)].map((entry) => entry.name).filter((name) =>
    name.startsWith("own-")
  );
  assertEquals(names.length, count);
}

for (const [method, features, select] of methods) {
  kernelTest(`an overlay writes to its upper directory only, ${method}`, { features }, async (t) => {
    using _ = select();
    t.make("upper", "work", "target");
    const layers = makeLayers(t.dir, 3, (index) => `layer ${index}`);
    const options = [`lowerdir=${layers.join(":")}`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
    {
      await using _stack = await mount({ type: "overlay", source: "overlay", options }, `${t.dir}/target`);
      checkLayers(`${t.dir}/target`, 3);
      Deno.writeTextFileSync(`${t.dir}/target/common`, "changed");
      Deno.removeSync(`${t.dir}/target/own-1`);
      assertEquals(t.mounts().map(({ mountpoint, fsType }) => [mountpoint, fsType]), [[
        "/target",
        "overlay",
      ]]);
    }
    assertEquals(Deno.readTextFileSync(`${t.dir}/upper/common`), "changed");
    assertEquals(layers.map((layer) => Deno.readTextFileSync(`${layer}/common`)), ["0", "1", "2"]);
    assert(Deno.statSync(`${layers[1]}/own-1`).isFile);
  });

  kernelTest(
    `an overlay takes 490 layers with paths of 200 characters, ${method}`,
    { features },
    async (t) => {
      using _ = select();
      t.make("target");
      const layers = makeLayers(t.dir, 490, (index) => `${"p".repeat(199 - t.dir.length - 5)}/${index}`);
      const options = [`lowerdir=${layers.join(":")}`];
      await using _stack = await mount({ type: "overlay", source: "overlay", options }, `${t.dir}/target`);
      checkLayers(`${t.dir}/target`, 490);
    },
  );

  kernelTest(`an overlay takes 490 layers without a common directory, ${method}`, { features }, async (t) => {
    using _ = select();
    t.make("target");
    const layers = makeLayers(t.dir, 490, (index) => `${index}${"p".repeat(150)}/${"q".repeat(150)}`);
    const options = [`lowerdir=${layers.join(":")}`];
    await using _stack = await mount({ type: "overlay", source: "overlay", options }, `${t.dir}/target`);
    checkLayers(`${t.dir}/target`, 490);
  });

  kernelTest(
    `a layer's name may contain colons, commas, backslashes, spaces and any letters, ${method}`,
    { features },
    async (t) => {
      using _ = select();
      const names = ["a:b", "a,b", "a\\b", "a b", "ärger→", "a\\:b,c", "\\", "::", "x\ny", "#"];
      t.make("target", "up:p,e\\r é", "wo:r,k\\ é");
      const layers = makeLayers(t.dir, names.length, (index) => names[index] ?? "");
      for (const many of [1, 40]) { // the second is too long for one page
        const all = Array.from({ length: many }, () => layers).flat().filter((path, index, list) =>
          many > 1 || list.indexOf(path) === index
        );
        const unique = many > 1
          ? makeLayers(t.dir, 200, (index) => `${index}/${names[index % names.length]}`)
          : all;
        const options = [
          `lowerdir=${unique.map(escaped).join(":")}`,
          `upperdir=${t.dir}/up:p\\,e\\\\r é`,
          `workdir=${t.dir}/wo:r\\,k\\\\ é`,
        ];
        await using _stack = await mount({ type: "overlay", source: "overlay", options }, `${t.dir}/target`);
        checkLayers(`${t.dir}/target`, unique.length);
        Deno.writeTextFileSync(`${t.dir}/target/new-${many}`, "");
        assert(Deno.statSync(`${t.dir}/up:p,e\\r é/new-${many}`).isFile);
      }
    },
  );
}

kernelTest(
  "mount(2) of an overlay never changes the working directory of the process",
  needs,
  async (t) => {
    using _ = pretendMissing("overlayLayers");
    t.make("target");
    const before = Deno.cwd();
    const watch = `
    const { symbols } = Deno.dlopen("libc.so.6", { getcwd: { parameters: ["buffer", "usize"], result: "pointer" } });
    const seen = new Set();
    const bytes = new Uint8Array(4096);
    self.onmessage = () => { self.postMessage([...seen]); self.close(); };
    const look = () => {
      for (let i = 0; i < 200; i++) {
        symbols.getcwd(bytes, 4096n);
        seen.add(new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0))));
      }
      setTimeout(look, 0);
    };
    look();
    self.postMessage("ready");`;
    const worker = new Worker("data:text/javascript," + encodeURIComponent(watch), { type: "module" });
    const message = () => new Promise<unknown>((resolve) => worker.onmessage = ({ data }) => resolve(data));
    await message();
    const layers = makeLayers(t.dir, 300, (index) => `${"p".repeat(100)}/${index}`);
    const options = [`lowerdir=${layers.join(":")}`];
    for (let i = 0; i < 5; i++) {
      await using _stack = await mount({ type: "overlay", source: "overlay", options }, `${t.dir}/target`);
      checkLayers(`${t.dir}/target`, 300);
    }
    const answer = message();
    worker.postMessage("");
    assertEquals(await answer, [before]);
    assertEquals(linkText("/proc/self/cwd"), before);
  },
);

kernelTest("relative layers are resolved in the working directory, with every method", needs, async (t) => {
  const before = Deno.cwd();
  t.make("target");
  makeLayers(t.dir, 300, (index) => `${"p".repeat(100)}/${index}`);
  Deno.chdir(t.dir);
  try {
    const options = [
      `lowerdir=${Array.from({ length: 300 }, (_, i) => `${"p".repeat(100)}/${i}`).join(":")}`,
    ];
    for (const [_, __, select] of methods) {
      using _method = select();
      await using _stack = await mount({ type: "overlay", source: "overlay", options }, "target");
      checkLayers(`${t.dir}/target`, 300);
    }
  } finally {
    Deno.chdir(before);
  }
});

kernelTest("an invalid overlay is refused with a message, and nothing is mounted", needs, async (t) => {
  t.make("target", "lower", "upper");
  const cases: [string[], string][] = [
    [["lowerdir="], "a layer"],
    [["upperdir=/a", "workdir=/b"], "at least one layer"],
    [["lowerdir=/usr:/etc", "upperdir=/a"], "workdir"],
    [["lowerdir=/usr::/etc:"], "layer has no name"],
    [["lowerdir=/usr:/etc,upperdir=/a"], "workdir"],
    [[`lowerdir=${t.dir}/none:${t.dir}/lower`], "none"],
  ];
  for (const [options, sentence] of cases) {
    const error = await assertRejects(
      () => mount({ type: "overlay", source: "overlay", options }, `${t.dir}/target`),
      MountError,
    );
    assertStringIncludes(error.message, sentence.replace("a layer", "layer"));
    assertEquals(t.mounts(), []);
  }
});

kernelTest(
  "a failed mount(2) of an overlay names the layer at fault, or the kernel log",
  needs,
  async (t) => {
    using _ = pretendMissing("overlayLayers", "overlayDescriptors");
    t.make("target", "lower", "upper", "work", "b".repeat(250));
    Deno.writeTextFileSync(`${t.dir}/file`, "");
    const long = Array.from({ length: 20 }, () => `${t.dir}/${"b".repeat(250)}`).join(":");
    const cases: [string[], string][] = [
      [[`lowerdir=${t.dir}/none:${t.dir}/lower`], `${t.dir}/none does not exist`],
      [[`lowerdir=${t.dir}/none:${long}`], `${t.dir}/none does not exist`],
      [[`lowerdir=${t.dir}/file:${t.dir}/lower`], `${t.dir}/file is not a directory (mount: EINVAL)`],
      [
        [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/no`],
        `${t.dir}/no does not exist (mount: ENOENT)`,
      ],
      [[`lowerdir=${t.dir}:${t.dir}/lower`, "bogus=1"], "gives the reason only in its log (mount: EINVAL)"],
    ];
    for (const [options, sentence] of cases) {
      const error = await assertRejects(
        () => mount({ type: "overlay", source: "o", options }, `${t.dir}/target`),
        MountError,
      );
      assertStringIncludes(error.message, sentence);
      assertEquals(t.mounts(), []);
    }
  },
);
