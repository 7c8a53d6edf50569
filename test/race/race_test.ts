import {
  type Mount,
  mount,
  mountAll,
  type MountHandle,
  unmount,
  unmountAll,
  unmountRecursive,
} from "../../mod.ts";
import { isErrno } from "../../ffi/errno.ts";
import { assert, assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { kernels, swapSource, swapTarget } from "./races.ts";
import type { Result } from "./limit.ts";

const ATTEMPTS = 600;

for (const [kernel, missing] of Object.entries(kernels)) {
  const needs = { root: true, permissions: { run: true } };
  kernelTest(
    `a target that is swapped with a symbolic link leads no mount out of it: ${kernel}`,
    needs,
    async (t) => {
      const { mounted, wrong } = await swapTarget(t.dir, ATTEMPTS, missing);
      assertEquals(wrong, []);
      assert(mounted > 0);
    },
  );

  kernelTest(
    `a source that is swapped is mounted with its attributes, or not at all: ${kernel}`,
    needs,
    async (t) => {
      const { mounted, wrong } = await swapSource(t.dir, ATTEMPTS / 2, missing);
      assertEquals(wrong, []);
      assert(mounted > 0);
    },
  );
}

const tmpfs: Mount = { type: "tmpfs", source: "t" };

kernelTest(
  "two concurrent unmounts of one mount both succeed",
  {},
  async (t) => {
    const target = t.make("target");
    for (const call of [unmount, unmountAll, unmountRecursive]) {
      for (let round = 0; round < 20; round++) {
        await mount(tmpfs, target);
        await Promise.all([call(target), call(target)]);
        assertEquals(t.mounts(), []);
      }
    }
  },
);

kernelTest(
  "concurrent unmounts of a handle unmount only its own mounts",
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

/** A handle unmounts nothing while the mount of another one is on top. */
async function unmountWhenOnTop(handle: MountHandle): Promise<void> {
  for (;;) {
    try {
      return await handle.unmount();
    } catch (error) {
      if (!isErrno(error, "EBUSY")) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

kernelTest("fifty concurrent callers mount and unmount at one target", {}, async (t) => {
  const target = t.make("target");
  t.make("source");
  const bind: Mount = { type: "bind", source: `${t.dir}/source`, options: ["bind", "ro"] };
  await Promise.all(Array.from({ length: 50 }, async (_, index) => {
    for (let round = 0; round < 4; round++) {
      const stack = await mount(index % 2 ? tmpfs : bind, target);
      await new Promise((resolve) => setTimeout(resolve, index % 5));
      await unmountWhenOnTop(stack);
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
  "with noFollow, a symbolic link that replaced the mountpoint is not followed",
  {},
  async (t) => {
    t.make("other", "target");
    await using _other = await mount(tmpfs, `${t.dir}/other`);
    Deno.symlinkSync("other", `${t.dir}/link`);
    for (const call of [unmount, unmountAll]) await call(`${t.dir}/link`, { noFollow: true });
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/other"]);
  },
);

/** Runs a program in a new process, after a shell command. */
async function inShell(t: KernelContext, setUp: string, program: string): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `${setUp}; exec "$0" run --quiet --no-config -A "$@"`, Deno.execPath(), program, t.dir],
  }).output();
  const said = new TextDecoder().decode(stdout);
  assertEquals(code, 0, said + new TextDecoder().decode(stderr));
  return said;
}

kernelTest("mounting, lookup and unmounting work in a process with a deleted working directory", {
  root: true,
  permissions: { run: true },
}, async (t) => {
  t.make("one", "other", "target", "temporary", "gone");
  await inShell(t, ":", new URL("homeless.ts", import.meta.url).pathname);
  assertEquals(t.mounts(), []);
});

kernelTest("at the limit of open files, the error is EMFILE and nothing is left behind", {
  root: true,
  tools: ["mount.fuse3", "bindfs"],
  permissions: { run: true },
}, async (t) => {
  t.make("one", "other", "target", "temporary");
  Deno.writeFileSync(`${t.dir}/image`, new Uint8Array(1 << 16));
  const text = await inShell(t, "ulimit -n 200", new URL("limit.ts", import.meta.url).pathname);
  const all: Result[] = text.trim().split("\n").map((line) => JSON.parse(line));
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
