import {
  cleanupTempMounts,
  mount,
  setTempMountLocation,
  withReadonlyTempMount,
  withTempMount,
} from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";

kernelTest(
  "withTempMount() mounts during the callback and unmounts after it, also if it throws",
  {},
  async (t) => {
    t.make("temporary");
    await setTempMountLocation(`${t.dir}/temporary`);
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
    assertEquals(names(`${t.dir}/temporary`), []);
    await setTempMountLocation("/tmp");
  },
);

kernelTest("withReadonlyTempMount() mounts read-only", { features: ["overlay"] }, async (t) => {
  t.make("lower", "upper", "work", "temporary");
  Deno.writeTextFileSync(`${t.dir}/upper/file`, "upper");
  await setTempMountLocation(`${t.dir}/temporary`);
  const options = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
  await withReadonlyTempMount([{ type: "overlay", source: "overlay", options }], async (root) => {
    assertEquals(Deno.readTextFileSync(`${root}/file`), "upper");
    await assertRejects(() => Deno.writeTextFile(`${root}/file`, "no"), Error);
  });
  await setTempMountLocation("/tmp");
});

kernelTest(
  "cleanupTempMounts() unmounts temporary mounts of a process that was killed, and not those in use",
  {
    permissions: { run: true },
  },
  async (t) => {
    t.make("temporary");
    const library = new URL("../../mod.ts", import.meta.url).href;
    Deno.writeTextFileSync(
      `${t.dir}/crash.ts`,
      `
    import { setTempMountLocation, withTempMount } from ${JSON.stringify(library)};
    await setTempMountLocation(Deno.args[0]);
    await withTempMount([{ type: "tmpfs", source: "crashed" }], () => Deno.kill(Deno.pid, "SIGKILL"));`,
    );
    await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-config", `${t.dir}/crash.ts`, `${t.dir}/temporary`],
    }).output();
    assertEquals(t.mounts().map((row) => row.source), ["crashed"]);
    await setTempMountLocation(`${t.dir}/temporary`);
    await withTempMount([{ type: "tmpfs", source: "living" }], async () => {
      assertEquals(await cleanupTempMounts(), []);
      assertEquals(t.mounts().map((row) => row.source), ["living"]);
    });
    assertEquals(names(`${t.dir}/temporary`), []);
    await setTempMountLocation("/tmp");
  },
);

kernelTest(
  "cleanupTempMounts() unmounts what was mounted in a temporary mount, and below it",
  {},
  async (t) => {
    t.make("temporary/denomount-abcdef/root");
    const root = `${t.dir}/temporary/denomount-abcdef/root`;
    for (const path of ["", "/below", "/below/deep"]) {
      Deno.mkdirSync(root + path, { recursive: true });
      await mount({ type: "tmpfs", source: "crashed" }, root + path);
    }
    await setTempMountLocation(`${t.dir}/temporary`);
    assertEquals(await cleanupTempMounts({ timeout: 0 }), []);
    assertEquals(t.mounts(), []);
    assertEquals(names(`${t.dir}/temporary`), []);
    await setTempMountLocation("/tmp");
  },
);

kernelTest("cleanupTempMounts() never deletes files", {}, async (t) => {
  t.make("temporary/denomount-abcdef/root");
  Deno.writeTextFileSync(`${t.dir}/temporary/denomount-abcdef/root/data`, "mine");
  await setTempMountLocation(`${t.dir}/temporary`);
  const errors = await cleanupTempMounts();
  assertEquals(errors.length, 1);
  assertEquals(Deno.readTextFileSync(`${t.dir}/temporary/denomount-abcdef/root/data`), "mine");
  await setTempMountLocation("/tmp");
});

kernelTest(
  "cleanupTempMounts() ignores a directory with a name that only starts like its own",
  {},
  async (t) => {
    const roots = ["denomount-mine/root", "denomount-/root", "denomount-abcdefg/root"];
    t.make(...roots.map((root) => `temporary/${root}`));
    await using _mine = await mount(
      { type: "tmpfs", source: "mine" },
      `${t.dir}/temporary/denomount-mine/root`,
    );
    await setTempMountLocation(`${t.dir}/temporary`);
    assertEquals(await cleanupTempMounts(), []);
    assertEquals(t.mounts().map((row) => row.source), ["mine"]);
    assertEquals(names(`${t.dir}/temporary`).length, roots.length);
    await setTempMountLocation("/tmp");
  },
);

kernelTest("cleanupTempMounts() ignores directories of other users", {
  root: true,
}, async (t) => {
  t.make("temporary/denomount-abcdef/root");
  Deno.chownSync(`${t.dir}/temporary/denomount-abcdef`, 1000, 1000);
  await using _theirs = await mount(
    { type: "tmpfs", source: "t" },
    `${t.dir}/temporary/denomount-abcdef/root`,
  );
  await setTempMountLocation(`${t.dir}/temporary`);
  assertEquals(await cleanupTempMounts(), []);
  assertEquals(t.mounts().map((row) => row.source), ["t"]);
  await setTempMountLocation("/tmp");
});
