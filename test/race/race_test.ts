import { type Mount, mount, mountAll, unmount, unmountAll, unmountRecursive } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { kernels, swapSource, swapTarget } from "./races.ts";
import type { Said } from "./limit.ts";

const TRIES = 600;

for (const [kernel, missing] of Object.entries(kernels)) {
  const needs = { root: true, permissions: { run: true } };
  kernelTest(
    `a target that is swapped for a symbolic link never leads a mount out: ${kernel}`,
    needs,
    async (t) => {
      const { mounted, wrong } = await swapTarget(t.dir, TRIES, missing);
      assertEquals(wrong, []);
      assert(mounted > 0);
    },
  );

  kernelTest(`a source that is replaced is mounted whole, or not at all: ${kernel}`, needs, async (t) => {
    const { mounted, wrong } = await swapSource(t.dir, TRIES / 2, missing);
    assertEquals(wrong, []);
    assert(mounted > 0);
  });
}

const tmpfs: Mount = { type: "tmpfs", source: "t" };

kernelTest(
  "two unmounts of one mount at the same time both succeed, and take what is below it off once",
  {},
  async (t) => {
    const target = t.make("target");
    for (const take of [unmount, unmountAll, unmountRecursive]) {
      for (let round = 0; round < 20; round++) {
        await mount(tmpfs, target);
        await Promise.all([take(target), take(target)]);
        assertEquals(t.mounts(), []);
      }
    }
  },
);

kernelTest(
  "a handle that is unmounted twice at the same time takes off its own mounts alone",
  {},
  async (t) => {
    const target = t.make("target");
    await mount({ ...tmpfs, source: "another's" }, target);
    const stack = await mountAll([tmpfs, tmpfs], target);
    await Promise.all([stack.unmount(), stack.unmount(), stack[Symbol.asyncDispose]()]);
    assertEquals(t.mounts().map(({ source }) => source), ["another's"]);
    await unmount(target);
  },
);

kernelTest("fifty callers mount and unmount at one target at the same time", {}, async (t) => {
  const target = t.make("target");
  t.make("source");
  const bind: Mount = { type: "bind", source: `${t.dir}/source`, options: ["bind", "ro"] };
  await Promise.all(Array.from({ length: 50 }, async (_, index) => {
    for (let round = 0; round < 4; round++) {
      const stack = await mount(index % 2 ? tmpfs : bind, target);
      await new Promise((resolve) => setTimeout(resolve, index % 5));
      await stack.unmount();
    }
  }));
  assertEquals(t.mounts(), []);
  await Promise.all(Array.from({ length: 50 }, (_, index) => {
    return index % 2 ? mount(tmpfs, target) : unmountAll(target);
  }));
  await unmountAll(target);
  assertEquals(t.mounts(), []);
});

kernelTest(
  "with noFollow, a symbolic link that took a mountpoint's place leads to no other mount",
  {},
  async (t) => {
    t.make("other", "target");
    await using _other = await mount(tmpfs, `${t.dir}/other`);
    Deno.symlinkSync("other", `${t.dir}/link`);
    for (const take of [unmount, unmountAll]) await take(`${t.dir}/link`, { noFollow: true });
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/other"]);
  },
);

/** Runs a program in a process of its own, in a shell that has set it up. */
async function inShell(t: KernelContext, setUp: string, program: string): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `${setUp}; exec "$0" run --quiet --no-config -A "$@"`, Deno.execPath(), program, t.dir],
  }).output();
  const said = new TextDecoder().decode(stdout);
  assertEquals(code, 0, said + new TextDecoder().decode(stderr));
  return said;
}

kernelTest("a process whose working directory was deleted mounts, looks up and unmounts", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  t.make("one", "other", "target", "temporary", "gone");
  await inShell(t, ":", new URL("homeless.ts", import.meta.url).pathname);
  assertEquals(t.mounts(), []);
});

kernelTest("at the limit of descriptors, the error says so and nothing is left", {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
  permissions: { run: true },
}, async (t) => {
  t.make("one", "other", "target", "temporary");
  Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(1 << 16));
  const text = await inShell(t, "ulimit -n 200", new URL("limit.ts", import.meta.url).pathname);
  const all: Said[] = text.trim().split("\n").map((line) => JSON.parse(line));
  for (const { operation, left, error, leaked } of all) {
    const where = `${operation} with ${left} left`;
    assertEquals(leaked, [], where);
    if (error === undefined) continue;
    assertEquals([error.code, /EMFILE/.test(error.message)], ["EMFILE", true], `${where}: ${error.message}`);
  }
  assert(all.filter(({ error }) => error).length > 20);
  assertEquals(all.filter(({ left, error }) => left === 20 && error), []);
  assertEquals([...Deno.readDirSync(`${t.dir}/temporary`)], []);
});
