import {
  cleanupTempMounts,
  mount,
  setTempMountLocation,
  withReadonlyTempMount,
  withTempMount,
} from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { linkText, names, openFiles } from "../kernel.ts";
import { TempDirectory } from "../../linux/temp/temp_directory.ts";

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

kernelTest("cleanupTempMounts() follows no link in place of a mountpoint", {}, async (t) => {
  t.make("temporary/denomount-abcdef", "mine");
  await using _mine = await mount({ type: "tmpfs", source: "mine" }, `${t.dir}/mine`);
  Deno.symlinkSync(`${t.dir}/mine`, `${t.dir}/temporary/denomount-abcdef/root`);
  await setTempMountLocation(`${t.dir}/temporary`);
  assertEquals((await cleanupTempMounts()).length, 1);
  assertEquals(t.mounts().map((row) => row.source), ["mine"]);
  assertEquals(linkText(`${t.dir}/temporary/denomount-abcdef/root`), `${t.dir}/mine`);
  await setTempMountLocation("/tmp");
});

kernelTest(
  "cleanupTempMounts() follows no link that another process puts in place of a directory",
  {},
  async (t) => {
    t.make("temporary/denomount-abcdef", "mine/root");
    await using _mine = await mount({ type: "tmpfs", source: "mine" }, `${t.dir}/mine/root`);
    await setTempMountLocation(`${t.dir}/temporary`);
    const { readDir } = Deno;
    try {
      Deno.readDir = async function* (path) {
        for await (const entry of readDir(path)) {
          Deno.removeSync(`${t.dir}/temporary/denomount-abcdef`); // it has been read, and not opened
          Deno.symlinkSync(`${t.dir}/mine`, `${t.dir}/temporary/denomount-abcdef`);
          yield entry;
        }
      };
      assertEquals(await cleanupTempMounts(), []);
    } finally {
      Deno.readDir = readDir;
    }
    assertEquals(t.mounts().map((row) => row.source), ["mine"]);
    await setTempMountLocation("/tmp");
  },
);

kernelTest(
  "a directory without a mountpoint is removed, and one that another clean-up removes is no error",
  {},
  async (t) => {
    t.make(...["aaaaaa", "bbbbbb/root", "cccccc/root"].map((name) => `temporary/denomount-${name}`));
    await setTempMountLocation(`${t.dir}/temporary`);
    assertEquals(await Promise.all([cleanupTempMounts(), cleanupTempMounts(), cleanupTempMounts()]), [
      [],
      [],
      [],
    ]);
    assertEquals(names(`${t.dir}/temporary`), []);
    const { readDir } = Deno;
    try {
      Deno.readDir = async function* (path) {
        t.make("temporary/denomount-abcdef");
        for await (const entry of readDir(path)) {
          Deno.removeSync(`${t.dir}/temporary/denomount-abcdef`);
          yield entry;
        }
      };
      assertEquals(await cleanupTempMounts(), []);
    } finally {
      Deno.readDir = readDir;
    }
    await setTempMountLocation("/tmp");
  },
);

kernelTest("a directory that can't be removed keeps no other", {}, async (t) => {
  const directories = ["aaaaaa", "bbbbbb", "cccccc"].map((name) => `temporary/denomount-${name}`);
  t.make(...directories.map((directory) => `${directory}/root`));
  const files = directories.slice(0, 2).map((directory) => `${t.dir}/${directory}/root/data`);
  for (const file of files) Deno.writeTextFileSync(file, "mine");
  await setTempMountLocation(`${t.dir}/temporary`);
  const errors = await cleanupTempMounts();
  assertEquals(errors.map(({ message }) => /ENOTEMPTY/.test(message)), [true, true]);
  assertEquals(names(`${t.dir}/temporary`), ["denomount-aaaaaa", "denomount-bbbbbb"]);
  await setTempMountLocation("/tmp");
});

kernelTest("an abandoned directory is the clean-up's, with its mount", {}, async (t) => {
  t.make("temporary");
  await setTempMountLocation(`${t.dir}/temporary`);
  const before = openFiles();
  {
    using directory = new TempDirectory();
    await mount({ type: "tmpfs", source: "left" }, directory.root);
    assertEquals(directory.tryRemoveRoot(), false);
    directory.abandon();
  }
  assertEquals(openFiles(), before);
  assertEquals(t.mounts().map((row) => row.source), ["left"]);
  assertEquals(await cleanupTempMounts(), []);
  assertEquals([t.mounts(), names(`${t.dir}/temporary`)], [[], []]);
  await setTempMountLocation("/tmp");
});

kernelTest("a mountpoint with a file in it is not removed", {}, async (t) => {
  t.make("temporary");
  await setTempMountLocation(`${t.dir}/temporary`);
  {
    using directory = new TempDirectory();
    Deno.writeTextFileSync(`${directory.root}/data`, "mine");
    assertEquals(directory.tryRemoveRoot(), false);
    Deno.removeSync(`${directory.root}/data`);
    assertEquals(directory.tryRemoveRoot(), true);
  }
  assertEquals(names(`${t.dir}/temporary`), []);
  await setTempMountLocation("/tmp");
});

kernelTest(
  "setTempMountLocation() makes a directory for its user alone, which stays the location",
  {},
  async (t) => {
    t.make("elsewhere");
    const before = Deno.cwd();
    try {
      Deno.chdir(t.dir);
      await setTempMountLocation("new/location");
      Deno.chdir(`${t.dir}/elsewhere`);
      await withTempMount([{ type: "tmpfs", source: "t" }], (root) => {
        assert(root.startsWith(`${t.dir}/new/location/denomount-`), root);
      });
    } finally {
      Deno.chdir(before);
      await setTempMountLocation("/tmp");
    }
    for (const name of ["new", "new/location"]) {
      assertEquals((Deno.statSync(`${t.dir}/${name}`).mode ?? 0) & 0o777, 0o700, name);
    }
    await assertRejects(() => setTempMountLocation(`${t.dir}/\udcff`), TypeError, "not valid UTF-8");
    assertEquals(names(t.dir), ["elsewhere", "new"]);
  },
);

kernelTest("temporary mounts are made in TMPDIR if it is an absolute path", {
  permissions: { run: true },
}, async (t) => {
  t.make("temporary");
  const library = new URL("../../linux/temp/temp_directory.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { TempDirectory } from ${JSON.stringify(library)};
    for (const directory of [${JSON.stringify(t.dir)} + "/temporary", "temporary", "", undefined]) {
      if (directory === undefined) Deno.env.delete("TMPDIR");
      else Deno.env.set("TMPDIR", directory);
      using temporary = new TempDirectory();
      console.log(temporary.root.replace(/denomount-\\w{6}/, "denomount-"));
    }`,
  );
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`],
    cwd: t.dir,
  }).output();
  assertEquals(new TextDecoder().decode(stdout).trim().split("\n"), [
    `${t.dir}/temporary/denomount-/root`,
    ...Array(3).fill("/tmp/denomount-/root"),
  ], new TextDecoder().decode(stderr));
});
