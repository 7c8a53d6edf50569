import {
  cleanupTempMounts,
  isReadonly,
  mount,
  readonlyMounts,
  removeVolatileOption,
  setTempMountLocation,
  withReadonlyTempMount,
  withTempMount,
} from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mountTable, names } from "../kernel.ts";

kernelTest("a temporary mount is there for the call and gone after it, also after a throw", {}, async (t) => {
  t.make("where");
  await setTempMountLocation(`${t.dir}/where`);
  let seen = "";
  const result = await withTempMount([{ type: "tmpfs", source: "t" }], (root) => {
    seen = root;
    assertEquals(t.mounts().map(({ mountpoint }) => t.dir + mountpoint), [root]);
    return 42;
  });
  assertEquals(result, 42);
  await assertRejects(
    () => withTempMount([{ type: "tmpfs", source: "t" }], () => Promise.reject(new RangeError("mine"))),
    RangeError,
    "mine",
  );
  await assertRejects(
    () => withTempMount([{ type: "tmpfs", source: "t", options: ["bogus"] }], () => {}),
    Error,
    "bogus",
  );
  assert(seen.startsWith(t.dir));
  assertEquals(t.mounts(), []);
  assertEquals(names(`${t.dir}/where`), []);
  await setTempMountLocation("/tmp");
});

kernelTest("withReadonlyTempMount() can't be written to", { features: ["overlay"] }, async (t) => {
  t.make("lower", "upper", "work", "where");
  Deno.writeTextFileSync(`${t.dir}/upper/file`, "upper");
  await setTempMountLocation(`${t.dir}/where`);
  const options = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
  await withReadonlyTempMount([{ type: "overlay", source: "overlay", options }], async (root) => {
    assertEquals(Deno.readTextFileSync(`${root}/file`), "upper");
    await assertRejects(() => Deno.writeTextFile(`${root}/file`, "no"), Error);
  });
  await setTempMountLocation("/tmp");
});

kernelTest("cleanupTempMounts() takes what a crash has left, and nothing that is in use", {
  permissions: { run: true },
}, async (t) => {
  t.make("where");
  const library = new URL("../../mod.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    `${t.dir}/crash.ts`,
    `
    import { setTempMountLocation, withTempMount } from ${JSON.stringify(library)};
    await setTempMountLocation(Deno.args[0]);
    await withTempMount([{ type: "tmpfs", source: "crashed" }], () => Deno.kill(Deno.pid, "SIGKILL"));`,
  );
  await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", `${t.dir}/crash.ts`, `${t.dir}/where`],
  }).output();
  assertEquals(t.mounts().map((row) => row.source), ["crashed"]);
  await setTempMountLocation(`${t.dir}/where`);
  await withTempMount([{ type: "tmpfs", source: "living" }], async () => {
    assertEquals(await cleanupTempMounts(), []);
    assertEquals(t.mounts().map((row) => row.source), ["living"]);
  });
  assertEquals(names(`${t.dir}/where`), []);
  await setTempMountLocation("/tmp");
});

kernelTest("cleanupTempMounts() never deletes what is in a directory", {}, async (t) => {
  t.make("where/denomount-abcdef/root");
  Deno.writeTextFileSync(`${t.dir}/where/denomount-abcdef/root/data`, "mine");
  await setTempMountLocation(`${t.dir}/where`);
  const errors = await cleanupTempMounts();
  assertEquals(errors.length, 1);
  assertEquals(Deno.readTextFileSync(`${t.dir}/where/denomount-abcdef/root/data`), "mine");
  await setTempMountLocation("/tmp");
});

kernelTest("cleanupTempMounts() takes no directory that only begins like one of its own", {}, async (t) => {
  const roots = ["denomount-mine/root", "denomount-/root", "denomount-abcdefg/root"];
  t.make(...roots.map((root) => `where/${root}`));
  await using _mine = await mount({ type: "tmpfs", source: "mine" }, `${t.dir}/where/denomount-mine/root`);
  await setTempMountLocation(`${t.dir}/where`);
  assertEquals(await cleanupTempMounts(), []);
  assertEquals(t.mounts().map((row) => row.source), ["mine"]);
  assertEquals(names(`${t.dir}/where`).length, roots.length);
  await setTempMountLocation("/tmp");
});

kernelTest("cleanupTempMounts() takes nothing of another user's, who could lead it astray", {
  root: true,
}, async (t) => {
  t.make("where/denomount-abcdef/root");
  Deno.chownSync(`${t.dir}/where/denomount-abcdef`, 1000, 1000);
  await using _theirs = await mount({ type: "tmpfs", source: "t" }, `${t.dir}/where/denomount-abcdef/root`);
  await setTempMountLocation(`${t.dir}/where`);
  assertEquals(await cleanupTempMounts(), []);
  assertEquals(t.mounts().map((row) => row.source), ["t"]);
  await setTempMountLocation("/tmp");
});

Deno.test("readonlyMounts() makes an overlay's upper directory its topmost layer, and binds read-only", () => {
  const list = Object.freeze([
    {
      type: "overlay",
      source: "o",
      options: Object.freeze(["index=off", "lowerdir=/l", "upperdir=/u:p", "workdir=/w", "volatile"]),
    },
    { type: "bind", source: "/s", options: Object.freeze(["rbind", "rw"]) },
    { type: "tmpfs", source: "t" },
  ]);
  assert(!list.some(isReadonly));
  const changed = readonlyMounts(list);
  assertEquals(changed.map(({ options }) => options), [["index=off", "lowerdir=/u\\:p:/l"], ["rbind", "ro"], [
    "ro",
  ]]);
  assert(changed.every(isReadonly));
  assertEquals(removeVolatileOption(list)[0]?.options, [
    "index=off",
    "lowerdir=/l",
    "upperdir=/u:p",
    "workdir=/w",
  ]);
  assertEquals(mountTable().some(({ source }) => source === "o"), false);
});
