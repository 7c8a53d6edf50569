import {
  mount,
  mountAll,
  type MountHandle,
  setTempMountLocation,
  unmountMounts,
  unmountRecursive,
  withTempMount,
} from "../../mod.ts";
import {
  isErrno,
  mount as mountSyscall,
  MS_BIND,
  MS_MOVE,
  pretendMissing,
  SyscallError,
  umount2,
} from "../../linux/mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { names, readText } from "../kernel.ts";

/** A mount of another process. */
const foreign = (path: string, source = "foreign") => mountSyscall(source, path, "tmpfs", 0, null);
const tmpfs = (source: string, target?: string) => ({ type: "tmpfs", source, ...(target ? { target } : {}) });
const sourcesOf = (t: KernelContext) => t.mounts().map(({ source }) => source).sort();

async function refuses(handle: MountHandle, includes: string): Promise<void> {
  const error = await assertRejects(() => handle.unmount({ timeout: 0 }), SyscallError, includes);
  assert(isErrno(error, "EBUSY"));
}

for (const missing of [[], ["statmount"]] as const) {
  const kernel = missing.length > 0 ? ", before Linux 6.13" : "";
  const needs: Needs = { features: missing.length > 0 ? [] : ["statmount"] };

  kernelTest(
    `a handle refuses while another mount is on top, and unmounts nothing${kernel}`,
    needs,
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("target/a", "target/b");
      const handle = await mountAll(
        [tmpfs("one", "a"), tmpfs("two", "b"), tmpfs("three", "b")],
        `${t.dir}/target`,
      );
      for (const name of ["a", "b"]) {
        foreign(`${t.dir}/target/${name}`);
        foreign(`${t.dir}/target/${name}`, "topmost");
        await refuses(handle, `${t.dir}/target/${name}, with tmpfs topmost mounted on top of it`);
        assertEquals(sourcesOf(t), ["foreign", "one", "three", "topmost", "two"]);
        umount2(`${t.dir}/target/${name}`, 0);
        umount2(`${t.dir}/target/${name}`, 0);
      }
      foreign(`${t.dir}/target`);
      await refuses(handle, `mounted on ${t.dir}/target, above it`);
      assertEquals(sourcesOf(t), ["foreign", "one", "three", "two"]);
      umount2(`${t.dir}/target`, 0);
      await handle.unmount();
    },
  );

  kernelTest(`a handle refuses if another mount is between two of its own${kernel}`, {
    ...needs,
    privateDirectory: true,
  }, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("target/a", "other");
    foreign(`${t.dir}/other`, "base");
    const handle = await mountAll([tmpfs("one", "a"), tmpfs("two")], `${t.dir}/target`);
    Deno.mkdirSync(`${t.dir}/target/a`);
    mountSyscall(`${t.dir}/target`, `${t.dir}/other`, null, MS_MOVE, null);
    foreign(`${t.dir}/target/a`);
    const before = sourcesOf(t);
    await refuses(handle, missing.length > 0 ? "" : "with tmpfs foreign mounted on top of it");
    assertEquals(sourcesOf(t), before);
    for (const path of ["target/a", "target/a", "other", "other"]) umount2(`${t.dir}/${path}`, 0);
    await handle.unmount();
  });

  kernelTest(
    `two handles on one target are unmounted in any order that the mounts permit${kernel}`,
    needs,
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("target");
      const first = await mount(tmpfs("first"), `${t.dir}/target`);
      const second = await mount(tmpfs("second"), `${t.dir}/target`);
      await refuses(first, "with tmpfs second mounted on top of it");
      assertEquals(sourcesOf(t), ["first", "second"]);
      await second.unmount();
      await first.unmount();
    },
  );

  kernelTest(
    `what another process has unmounted is no error, and a new mount at its place stays${kernel}`,
    needs,
    async (t) => {
      using _ = pretendMissing(...missing);
      t.make("target", "other");
      const handle = await mount(tmpfs("mine"), `${t.dir}/target`);
      foreign(`${t.dir}/other`, "keeps its id away");
      umount2(`${t.dir}/target`, 0);
      foreign(`${t.dir}/other`, "has its id before Linux 6.8");
      if (missing.length === 0) foreign(`${t.dir}/target`);
      const before = sourcesOf(t);
      if (missing.length === 0) await handle.unmount();
      else await handle.unmount().catch((error) => assert(isErrno(error, "EBUSY")));
      assertEquals(sourcesOf(t), before);
      await unmountRecursive(t.dir);
    },
  );
}

/** The ids of the mounts at a path. */
function idsAt(path: string): string[] {
  const lines = readText("/proc/self/mountinfo")?.split("\n").map((line) => line.split(" ")) ?? [];
  return lines.filter(([, , , , mountpoint]) => mountpoint === path).map(([id = ""]) => id);
}

kernelTest(
  "a handle leaves a mount on another device that has got its id, before Linux 6.8",
  {},
  async (t) => {
    using _ = pretendMissing("statmount");
    t.make("target", "device", "other");
    let wasUsedAgain = false;
    for (let round = 0; round < 10 && !wasUsedAgain; round++) {
      const handle = await mount(tmpfs("mine"), `${t.dir}/target`);
      const [id = ""] = idsAt(`${t.dir}/target`);
      mountSyscall(`${t.dir}/target`, `${t.dir}/device`, null, MS_BIND, null); // keeps its device number in use
      umount2(`${t.dir}/target`, 0);
      // The kernel gives the lowest id that is free, unless another process is faster.
      for (let count = 0; count < 50 && !idsAt(`${t.dir}/other`).includes(id); count++) {
        foreign(
          `${t.dir}/other`,
        );
      }
      wasUsedAgain = idsAt(`${t.dir}/other`).includes(id);
      const before = sourcesOf(t);
      await handle.unmount();
      assertEquals(sourcesOf(t), before);
      await unmountRecursive(t.dir);
    }
    assert(wasUsedAgain);
  },
);

kernelTest(
  "a handle finds its mount after a rename of the mountpoint, or of a directory above",
  { features: ["statmount"] },
  async (t) => {
    t.make("target/a");
    const handle = await mount(tmpfs("mine"), `${t.dir}/target/a`);
    Deno.renameSync(`${t.dir}/target`, `${t.dir}/renamed`);
    t.make("target/a");
    foreign(`${t.dir}/target/a`);
    await handle.unmount();
    assertEquals(sourcesOf(t), ["foreign"]);
    umount2(`${t.dir}/target/a`, 0);
  },
);

kernelTest(
  "a handle finds its mount after mount --move",
  { features: ["statmount"], privateDirectory: true },
  async (t) => {
    t.make("target", "other");
    const handle = await mount(tmpfs("mine"), `${t.dir}/target`);
    mountSyscall(`${t.dir}/target`, `${t.dir}/other`, null, MS_MOVE, null);
    foreign(`${t.dir}/target`);
    await handle.unmount();
    assertEquals(sourcesOf(t), ["foreign"]);
    umount2(`${t.dir}/target`, 0);
  },
);

kernelTest("a handle whose mount is covered while it waits for a busy one says so", {
  features: ["statmount"],
}, async (t) => {
  t.make("target");
  const handle = await mount(tmpfs("mine"), `${t.dir}/target`);
  const file = Deno.openSync(`${t.dir}/target/file`, { create: true, write: true });
  setTimeout(() => foreign(`${t.dir}/target`), 70);
  const error = await assertRejects(() => handle.unmount({ timeout: 1000 }), SyscallError);
  assertStringIncludes(error.message, "with tmpfs foreign mounted on top of it");
  assertEquals(sourcesOf(t), ["foreign", "mine"]);
  file.close();
  umount2(`${t.dir}/target`, 0);
  await handle.unmount();
});

kernelTest("unmountMounts() unmounts the stack of each mountpoint, with foreign mounts", {}, async (t) => {
  t.make("target/a", "target/b");
  const list = [tmpfs("one", "a"), tmpfs("two", "gone")];
  foreign(`${t.dir}/target/b`, "beside");
  const handle = await mount(tmpfs("one"), `${t.dir}/target/a`);
  foreign(`${t.dir}/target/a`);
  Deno.mkdirSync(`${t.dir}/target/a/below`);
  foreign(`${t.dir}/target/a/below`);
  await unmountMounts(list, `${t.dir}/target`);
  assertEquals(sourcesOf(t), ["beside"]);
  await handle.unmount();
  umount2(`${t.dir}/target/b`, 0);
});

kernelTest(
  "withTempMount() unmounts what its function has mounted on its directory and in it",
  {},
  async (t) => {
    t.make("temporary", "source");
    await setTempMountLocation(`${t.dir}/temporary`);
    for (const list of [[], [tmpfs("one")], [tmpfs("one"), tmpfs("two")]]) {
      await withTempMount(list, (root) => {
        foreign(root);
        Deno.mkdirSync(`${root}/below`);
        foreign(`${root}/below`);
        mountSyscall(`${t.dir}/source`, root, null, MS_BIND, null);
        mountSyscall(`${t.dir}/source`, root, null, MS_BIND, null);
      });
      assertEquals(t.mounts(), []);
      assertEquals(names(`${t.dir}/temporary`), []);
    }
    await setTempMountLocation("/tmp");
  },
);

kernelTest("unmountRecursive() unmounts what a later mount hides", {}, async (t) => {
  t.make("target/a/b", "target/plain");
  const { dir } = t;
  foreign(`${dir}/target`, "A");
  Deno.mkdirSync(`${dir}/target/x/y`, { recursive: true });
  foreign(`${dir}/target/x/y`, "A/x/y");
  foreign(`${dir}/target/x`, "A/x");
  foreign(`${dir}/target`, "B");
  Deno.mkdirSync(`${dir}/target/x`);
  foreign(`${dir}/target/x`, "B/x");
  assertEquals(t.mounts().length, 5);
  await unmountRecursive(`${dir}/target`);
  assertEquals(t.mounts(), []);

  foreign(`${dir}/target/a`, "hidden from above");
  foreign(`${dir}/target`, "B");
  Deno.mkdirSync(`${dir}/target/a/b`, { recursive: true });
  foreign(`${dir}/target/a`, "B/a");
  Deno.mkdirSync(`${dir}/target/a/b`, { recursive: true });
  foreign(`${dir}/target/a/b`, "B/a/b");
  await unmountRecursive(`${dir}/target/a`);
  assertEquals(sourcesOf(t), ["B", "hidden from above"]);
  await unmountRecursive(`${dir}/target`);
  assertEquals(t.mounts(), []);

  foreign(`${dir}/target/a/b`, "hidden sibling");
  foreign(`${dir}/target/a`, "sibling");
  await unmountRecursive(`${dir}/target/a`);
  assertEquals(t.mounts(), []);
});

kernelTest("unmountRecursive() and unmountMounts() unmount a thousand stacked mounts", {}, async (t) => {
  t.make("target");
  for (const call of [unmountRecursive, (target: string) => unmountMounts([tmpfs("foreign")], target)]) {
    for (let index = 0; index < 1000; index++) foreign(`${t.dir}/target`);
    await call(`${t.dir}/target`);
    assertEquals(t.mounts(), []);
  }
});

kernelTest(
  "unmountRecursive() goes on if a mountpoint is renamed meanwhile, or reports it",
  {},
  async (t) => {
    t.make("target");
    for (let round = 0; round < 20; round++) {
      for (let index = 0; index < 20; index++) {
        t.make(`target/${index}/inner`);
        foreign(`${t.dir}/target/${index}/inner`);
      }
      let running = true;
      const renaming = (async () => {
        for (let turn = 0; running; turn++) {
          const [from, to] = turn % 2 ? ["renamed", "10"] : ["10", "renamed"];
          Deno.renameSync(`${t.dir}/target/${from}`, `${t.dir}/target/${to}`);
          await new Promise((resolve) => setTimeout(resolve, round % 2));
        }
        if (names(`${t.dir}/target`).includes("renamed")) {
          Deno.renameSync(`${t.dir}/target/renamed`, `${t.dir}/target/10`);
        }
      })();
      await unmountRecursive(`${t.dir}/target`);
      running = false;
      await renaming;
      assertEquals(t.mounts(), []);
    }
  },
);
