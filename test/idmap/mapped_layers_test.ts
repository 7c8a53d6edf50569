import {
  cleanupTempMounts,
  mount,
  MountError,
  setTempMountLocation,
  unmount,
  unmountAll,
} from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import type { TestFeature } from "../feature.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { otherMount } from "../other_mount.ts";
import { mountTable, names } from "../kernel.ts";

const methods: [string, TestFeature[], () => Disposable][] = [
  ["detached", ["detachedLayers"], () => ({ [Symbol.dispose]() {} })],
  ["in a temporary mount, with lowerdir+", ["overlayLayers"], () => pretendMissing("detachedLayers")],
  [
    "in a temporary mount, with mount(2)",
    [],
    () => pretendMissing("detachedLayers", "overlayLayers", "overlayDescriptors"),
  ],
];

const maps = ["uidmap=0:100000:1000,1000:300000:10", "gidmap=0:200000:65536"];
const owner = ({ uid, gid }: Deno.FileInfo) => [uid, gid];

function makeLayers(count: number, path: (index: number) => string): string[] {
  return Array.from({ length: count }, (_, index) => {
    const layer = path(index);
    Deno.mkdirSync(layer, { recursive: true });
    Deno.writeTextFileSync(`${layer}/own-${index}`, "");
    Deno.chownSync(`${layer}/own-${index}`, index, index + 1);
    return layer;
  });
}

/** Registers a test for each method, with temporary mounts in the test's directory. */
function mappedTest(name: string, fn: (t: KernelContext) => Promise<void>): void {
  for (const [method, features, select] of methods) {
    kernelTest(`${name}, ${method}`, { root: true, features: ["mountSetattr", ...features] }, async (t) => {
      using _ = select();
      t.make("target", "temporary");
      await setTempMountLocation(`${t.dir}/temporary`);
      await fn(t);
      assertEquals(names(`${t.dir}/temporary`), []);
      await setTempMountLocation("/tmp");
    });
  }
}

mappedTest(
  "lower layers are id-mapped, the upper directory is not, and nothing else is mounted",
  async (t) => {
    t.make("upper", "work");
    const layers = makeLayers(3, (index) => `${t.dir}/layers/${index}/fs`);
    Deno.chownSync(`${layers[0]}/own-0`, 1005, 70000); // in the second range of uids; outside the range of gids
    Deno.writeTextFileSync(`${t.dir}/upper/mine`, "");
    Deno.chownSync(`${t.dir}/upper/mine`, 5, 6);
    const options = [
      `lowerdir=${layers.join(":")}`,
      `upperdir=${t.dir}/upper`,
      `workdir=${t.dir}/work`,
      ...maps,
    ];
    await using _stack = await mount({ type: "overlay", source: "o", options }, `${t.dir}/target`);
    assertEquals(t.mounts().map(({ mountpoint, fsType }) => [mountpoint, fsType]), [["/target", "overlay"]]);
    const seen = (name: string) => owner(Deno.lstatSync(`${t.dir}/target/${name}`));
    assertEquals([seen("own-0"), seen("own-1"), seen("own-2"), seen("mine")], [
      [300005, 65534],
      [100001, 200002],
      [100002, 200003],
      [5, 6],
    ]);
    Deno.writeTextFileSync(`${t.dir}/target/own-1`, "copied up");
    assertEquals(owner(Deno.lstatSync(`${t.dir}/upper/own-1`)), [100001, 200002]);
    assertEquals(owner(Deno.lstatSync(`${layers[1]}/own-1`)), [1, 2]);
    Deno.removeSync(`${t.dir}/target/own-2`);
    assert(Deno.lstatSync(`${layers[2]}/own-2`).isFile);
  },
);

mappedTest("490 layers in one directory are id-mapped", async (t) => {
  const layers = makeLayers(490, (index) => `${t.dir}/${"p".repeat(150)}/${index}`);
  await using _stack = await mount(
    { type: "overlay", source: "o", options: [`lowerdir=${layers.join(":")}`, ...maps] },
    `${t.dir}/target`,
  );
  for (const index of [0, 250, 489]) {
    assertEquals(owner(Deno.lstatSync(`${t.dir}/target/own-${index}`)), [100000 + index, 200001 + index]);
  }
});

mappedTest("layers on several file systems are id-mapped", async (t) => {
  t.make("a", "b", "c");
  await using _a = await otherMount(`${t.dir}/a`);
  await using _b = await otherMount(`${t.dir}/b`);
  const odd = ["a:b", "a,b", "a\\b", "a b", "ärger→", "x\ny"];
  const layers = makeLayers(
    18,
    (index) => `${t.dir}/${"abc"[index % 3]}/${index}/${odd[index % odd.length]}`,
  );
  Deno.symlinkSync(layers[0] ?? "", `${t.dir}/link`);
  const named = [`${t.dir}/link`, ...layers.slice(1)].map((path) => path.replace(/[\\:,]/g, "\\$&"));
  const options = [`lowerdir=${named.join(":")}`, ...maps];
  await using _stack = await mount({ type: "overlay", source: "o", options }, `${t.dir}/target`);
  for (const index of layers.keys()) {
    assertEquals(owner(Deno.lstatSync(`${t.dir}/target/own-${index}`)), [100000 + index, 200001 + index]);
  }
});

mappedTest(
  "a layer's path is resolved across mounts and symbolic links",
  async (t) => {
    t.make("layers/a/fs", "layers/b/fs", "elsewhere/below");
    await using _b = await otherMount(`${t.dir}/layers/b`);
    Deno.symlinkSync(`${t.dir}/elsewhere/below`, `${t.dir}/layers/link`);
    const layers = makeLayers(
      3,
      (index) => `${t.dir}/${["layers/a/fs", "layers/b/fs", "elsewhere/c"][index]}`,
    );
    t.make("layers/c");
    const named = [layers[0], layers[1], `${t.dir}/layers/link/../c`]; // not layers/c
    const options = [`lowerdir=${named.join(":")}`, ...maps];
    await using _stack = await mount({ type: "overlay", source: "o", options }, `${t.dir}/target`);
    for (const index of layers.keys()) {
      assertEquals(owner(Deno.lstatSync(`${t.dir}/target/own-${index}`)), [100000 + index, 200001 + index]);
    }
  },
);

mappedTest("a layer that is missing or can't be id-mapped fails with its name", async (t) => {
  const [layer] = makeLayers(1, (index) => `${t.dir}/${index}`);
  const refused: [string, string][] = [
    [`lowerdir=${layer}:${t.dir}/none`, `${t.dir}/none does not exist`],
    [`lowerdir=${layer}:/proc`, "proc, at /proc, can't be id-mapped (mount_setattr: EINVAL)"],
    [`lowerdir=${layer}:${t.dir}/target:${layer}/own-0`, ""], // a file can't be a layer
  ];
  for (const [lowerdir, message] of refused) {
    const overlay = { type: "overlay", source: "o", options: [lowerdir, ...maps] };
    await assertRejects(() => mount(overlay, `${t.dir}/target`), MountError, message);
    assertEquals(t.mounts(), []);
  }
});

/** Starts a program that mounts an id-mapped overlay through a temporary mount, with a fault injected at umount2(2). */
function mountInChild(t: KernelContext, inject: string): Deno.ChildProcess {
  t.make("target", "temporary");
  makeLayers(2, (index) => `${t.dir}/layers/${index}`);
  const library = new URL("../../", import.meta.url).href;
  Deno.writeTextFileSync(
    `${t.dir}/mount.ts`,
    `import { mount, setTempMountLocation } from "${library}mod.ts";
    import { pretendMissing } from "${library}linux/syscalls/features.ts";
    using _ = pretendMissing("detachedLayers");
    const dir = ${JSON.stringify(t.dir)};
    await setTempMountLocation(dir + "/temporary");
    const options = ["lowerdir=" + dir + "/layers/0:" + dir + "/layers/1", ...${JSON.stringify(maps)}];
    await mount({ type: "overlay", source: "o", options }, dir + "/target");`,
  );
  // With --seccomp-bpf, strace stops Deno only at this call; but it then delivers a signal after the call.
  const quick = inject.startsWith("signal") ? [] : ["--seccomp-bpf", "--trace=umount2"];
  const args = ["-f", "-qq", "-o", "/dev/null", ...quick, `--inject=umount2:${inject}`];
  return new Deno.Command("strace", {
    args: [...args, Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/mount.ts`],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Waits until the layers are in their temporary mount; returns its path. */
async function temporaryMount(t: KernelContext): Promise<string> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline;) {
    const found = t.mounts().find(({ mountpoint }) => mountpoint.startsWith("/temporary"));
    if (found) return t.dir + found.mountpoint;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("no temporary mount was created");
}

const needs = {
  root: true,
  features: ["mountSetattr"],
  tools: ["strace"],
  permissions: { run: true },
} as const;

kernelTest(
  "a temporary mount that is busy stays with a warning, and cleanupTempMounts() unmounts it later",
  {
    ...needs,
    tools: ["strace"],
  },
  async (t) => {
    await using child = mountInChild(t, "delay_enter=300000");
    const path = await temporaryMount(t);
    {
      using _held = await Deno.open(`${path}/1/own-1`);
      const { code, stderr } = await child.output();
      const warning = new TextDecoder().decode(stderr);
      assertMatch(warning, /id-mapped layers stay at .*denomount-.* until cleanupTempMounts\(\)/);
      assertEquals(code, 0);
      await setTempMountLocation(`${t.dir}/temporary`);
      const [error] = await cleanupTempMounts({ timeout: 0 });
      assertMatch(error?.message ?? "", /EBUSY/);
    }
    assertEquals(t.mounts().length, 2);
    assertEquals(await cleanupTempMounts(), []);
    await setTempMountLocation("/tmp");
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/target"]);
    assertEquals(owner(Deno.lstatSync(`${t.dir}/target/own-1`)), [100001, 200002]);
    assertEquals(names(`${t.dir}/layers/1`), ["own-1"]);
    await unmount(`${t.dir}/target`);
  },
);

kernelTest("cleanupTempMounts() unmounts the temporary mount of a process that was killed", {
  ...needs,
  tools: ["strace"],
}, async (t) => {
  await using child = mountInChild(t, "signal=KILL");
  await child.output();
  await temporaryMount(t);
  await setTempMountLocation(`${t.dir}/temporary`);
  assertEquals(await cleanupTempMounts(), []);
  await setTempMountLocation("/tmp");
  assertEquals(names(`${t.dir}/temporary`), []);
  assertEquals(mountTable().filter(({ mountpoint }) => mountpoint.includes("temporary")), []);
  for (const index of [0, 1]) assertEquals(names(`${t.dir}/layers/${index}`), [`own-${index}`]);
  await unmountAll(`${t.dir}/target`);
});
