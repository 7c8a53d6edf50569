/**
 * What several words of a list, or several entries, say together. The table of single words is words_test.ts.
 *
 * @module
 */

import {
  createUserNamespace,
  idMapMount,
  type Mount,
  mount,
  mountAll,
  MountError,
  setTempMountLocation,
  unmountRecursive,
  withReadonlyTempMount,
  withTempMount,
} from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { names } from "../kernel.ts";

const oldKernel = () => pretendMissing("mountApi", "mountSetattr", "overlayLayers", "openat2");
const thisKernel = () => ({ [Symbol.dispose]() {} });
const kernels: [string, () => Disposable][] = [["", thisKernel], [", by mount(2)", oldKernel]];

/** The first option, "ro" or "rw", of each mount below the directory. */
const modes = (t: KernelContext) =>
  t.mounts().map(({ mountpoint, options }) => `${mountpoint} ${options[0]}`).sort();

const optionsAt = (t: KernelContext, path: string) =>
  t.mounts().findLast(({ mountpoint }) => mountpoint === path)?.options;

async function message(work: Promise<unknown>): Promise<string> {
  const error = await assertRejects(() => work, MountError);
  return error.message;
}

for (const [suffix, select] of kernels) {
  kernelTest(
    `X-mount.mkdir makes a mountpoint on a file system that the list mounts${suffix}`,
    {},
    async (t) => {
      t.make("root", "source");
      using _ = select();
      await using _list = await mountAll([
        { type: "tmpfs", source: "t" },
        { type: "bind", source: `${t.dir}/source`, target: "/usr", options: ["rbind", "X-mount.mkdir"] },
        { type: "tmpfs", source: "u", target: "/a/b/c", options: ["X-mount.mkdir=0700"] },
      ], `${t.dir}/root`);
      assertEquals(modes(t), ["/root rw", "/root/a/b/c rw", "/root/usr rw"]);
      assertEquals((Deno.statSync(`${t.dir}/root/a/b`).mode ?? 0) & 0o777, 0o700);
    },
  );

  kernelTest(
    `directories of X-mount.mkdir are removed again if a later entry fails${suffix}`,
    {},
    async (t) => {
      t.make("root");
      using _ = select();
      const failed = message(mountAll([
        { type: "tmpfs", source: "t", target: "/a/b", options: ["X-mount.mkdir"] },
        { type: "tmpfs", source: "u", target: "/a/c", options: ["X-mount.mkdir"] },
        { type: "bind", source: `${t.dir}/none`, target: "/d", options: ["X-mount.mkdir"] },
      ], `${t.dir}/root`));
      assertStringIncludes(await failed, "/none");
      assertEquals(t.mounts(), []);
      assertEquals(names(`${t.dir}/root`), []);
    },
  );

  kernelTest(`X-mount.mkdir never follows a symbolic link out of the target${suffix}`, {}, async (t) => {
    t.make("root", "outside");
    Deno.symlinkSync(`${t.dir}/outside`, `${t.dir}/root/absolute`);
    Deno.symlinkSync("../outside", `${t.dir}/root/relative`);
    using _ = select();
    for (const link of ["absolute", "relative"]) {
      const entry = { type: "tmpfs", source: "t", target: `/${link}/new`, options: ["X-mount.mkdir"] };
      try {
        await using _mounted = await mount(entry, `${t.dir}/root`);
        assert(t.mounts().every(({ mountpoint }) => mountpoint.startsWith("/root/")));
      } catch (error) {
        assert(error instanceof MountError); // the link leads to nothing inside of the target
      }
      assertEquals(names(`${t.dir}/outside`), []);
    }
  });

  kernelTest(`ro=vfs leaves the superblock writable, also in a remount${suffix}`, {}, async (t) => {
    t.make("root", "again");
    using _ = select();
    await using _list = await mount({ type: "tmpfs", source: "t", options: ["ro=vfs"] }, `${t.dir}/root`);
    assertEquals(t.mounts().map((row) => [row.options[0], row.superOptions.split(",")[0]]), [["ro", "rw"]]);
    const remount = (...options: string[]) =>
      mount({ type: "none", source: "", options: ["remount", ...options] }, `${t.dir}/root`);
    await remount("size=2m");
    assertEquals(t.mounts().map((row) => [row.options[0], row.superOptions.split(",")[0]]), [["ro", "rw"]]);
    await remount("rw=vfs", "ro=fs");
    assertEquals(t.mounts().map((row) => [row.options[0], row.superOptions.split(",")[0]]), [["rw", "ro"]]);
    await remount("bind", "nosuid");
    assertEquals(optionsAt(t, "/root")?.slice(0, 2), ["rw", "nosuid"]);
  });

  kernelTest(`of words about the access time the last counts${suffix}`, {}, async (t) => {
    t.make("root");
    using _ = select();
    const lists = {
      "noatime,nostrictatime": "noatime",
      "noatime,norelatime": "noatime",
      "strictatime,atime": undefined,
      "strictatime,nostrictatime": "relatime",
      "noatime,atime": "relatime",
      "relatime,noatime": "noatime",
    };
    for (const [words, shown] of Object.entries(lists)) {
      await using _mounted = await mount({ type: "tmpfs", source: "t", options: [words] }, `${t.dir}/root`);
      assertEquals(optionsAt(t, "/root")?.find((word) => word.endsWith("atime")), shown, words);
    }
  });

  kernelTest(`rw of a new bind grants nothing that its source withholds${suffix}`, {}, async (t) => {
    t.make("source", "root");
    await using _source = await mount(
      { type: "tmpfs", source: "t", options: ["ro", "nosuid"] },
      `${t.dir}/source`,
    );
    using _ = select();
    const bind = { type: "bind", source: `${t.dir}/source`, options: ["rbind", "rw", "suid"] };
    await using _bind = await mount(bind, `${t.dir}/root`);
    assertEquals(optionsAt(t, "/root")?.slice(0, 2), ["ro", "nosuid"]);
  });

  kernelTest(
    `fragments joined by commas are several words${suffix}`,
    { features: ["overlay"] },
    async (t) => {
      t.make("a,b", "lower", "upper", "work", "root");
      Deno.writeTextFileSync(`${t.dir}/a,b/file`, "");
      using _ = select();
      const layers = [`lowerdir=${t.dir}/a\\,b:${t.dir}/lower`, `lowerdir=${t.dir}/a,b:${t.dir}/lower`];
      for (const lower of layers) {
        const options = [
          `${lower},upperdir=${t.dir}/upper`,
          `workdir=${t.dir}/work,index=off`,
          "nosuid,nodev",
        ];
        await using _mounted = await mount({ type: "overlay", source: "o", options }, `${t.dir}/root`);
        assertEquals(names(`${t.dir}/root`), ["file"]);
        assertEquals(optionsAt(t, "/root")?.slice(0, 3), ["rw", "nosuid", "nodev"]);
      }
    },
  );

  kernelTest(
    `a remount may repeat an overlay's own layers${suffix}`,
    { features: ["overlay"] },
    async (t) => {
      t.make("lower", "other", "upper", "work", "root");
      using _ = select();
      const layers = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
      await using _mounted = await mount({ type: "overlay", source: "o", options: layers }, `${t.dir}/root`);
      const remount = (options: string[]) =>
        mount({ type: "overlay", source: "o", options: ["remount", ...options] }, `${t.dir}/root`);
      await remount([...layers, "ro"]);
      assertEquals(optionsAt(t, "/root")?.[0], "ro");
      await remount([...layers, "rw"]);
      assertEquals(optionsAt(t, "/root")?.[0], "rw");
      const other = [`lowerdir=${t.dir}/other`, ...layers.slice(1)];
      assertStringIncludes(await message(remount(other)), "lowerdir");
    },
  );
}

kernelTest(
  "remount,bind,ro=recursive and rprivate,ro change a mount",
  { features: ["mountSetattr"] },
  async (t) => {
    t.make("root");
    await using _list = await mountAll([
      { type: "tmpfs", source: "t" },
      { type: "tmpfs", source: "u", target: "/sub", options: ["X-mount.mkdir"] },
    ], `${t.dir}/root`);
    const change = (...options: string[]) => mount({ type: "none", source: "", options }, `${t.dir}/root`);
    await change("remount", "bind", "ro=recursive");
    assertEquals(modes(t), ["/root ro", "/root/sub ro"]);
    await change("remount", "bind", "rw=recursive");
    assertEquals(modes(t), ["/root rw", "/root/sub rw"]);
    await change("rprivate", "ro");
    assertEquals(modes(t), ["/root ro", "/root/sub rw"]);
  },
);

kernelTest("an entry changes what earlier ones mounted", { features: ["mountSetattr"] }, async (t) => {
  t.make("source/data", "root");
  const list: Mount[] = [
    { type: "bind", source: `${t.dir}/source` },
    { type: "tmpfs", source: "t", target: "/data" },
    { type: "none", source: "", options: ["remount", "bind", "rro"] },
  ];
  await using _list = await mountAll(list, `${t.dir}/root`);
  assertEquals(modes(t), ["/root ro", "/root/data ro"]);
});

kernelTest("an entry may cover earlier ones", {}, async (t) => {
  t.make("root");
  {
    await using _list = await mountAll([
      { type: "tmpfs", source: "below", options: ["mode=755"] },
      { type: "tmpfs", source: "sub", target: "/sub", options: ["X-mount.mkdir"] },
      { type: "tmpfs", source: "above" },
    ], `${t.dir}/root`);
    assertEquals(names(`${t.dir}/root`), []);
    assertEquals(t.mounts().map(({ source }) => source), ["below", "sub", "above"]);
  }
  assertEquals(t.mounts(), []);
});

kernelTest("rw and suid of a bind are no error if a user namespace has locked the source's flags", {
  tools: ["unshare"],
  permissions: { run: true },
}, async (t) => {
  t.make("source", "root");
  const restricted = { type: "tmpfs", source: "t", options: ["ro", "nosuid", "nodev", "noexec", "noatime"] };
  await using _source = await mount(restricted, `${t.dir}/source`);
  const library = new URL("../../mod.ts", import.meta.url).href;
  const script = `
    import { mount } from ${JSON.stringify(library)};
    const options = ["rbind", "rw", "suid", "dev", "exec", "rrw"];
    await mount({ type: "bind", source: Deno.args[0] + "/source", options }, Deno.args[0] + "/root");
    const table = Deno.readTextFileSync("/proc/self/mountinfo").split("\\n");
    console.log(table.find((line) => line.includes(Deno.args[0] + "/root ")).split(" ")[5]);`;
  Deno.writeTextFileSync(`${t.dir}/script.ts`, script);
  const args = ["-Urm", Deno.execPath(), "run", "-A", "--quiet", "--no-config", `${t.dir}/script.ts`, t.dir];
  const { stdout, stderr } = await new Deno.Command("unshare", { args }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(said.trim(), "ro,nosuid,nodev,noexec,noatime");
});

const fuse = { root: true, tools: ["mount.fuse3", "bindfs", "fusermount3", "fusermount"] } as const;

kernelTest("a remount of the type fuse3.bindfs changes the mount, and starts no helper", {
  ...fuse,
  tools: [...fuse.tools],
}, async (t) => {
  t.make("source", "root");
  const bindfs = { type: "fuse3.bindfs", source: `${t.dir}/source` };
  await using _mounted = await mount(
    { ...bindfs, options: ["rro", "rslave", "nosymfollow"] },
    `${t.dir}/root`,
  );
  assertEquals([optionsAt(t, "/root")?.[0], optionsAt(t, "/root")?.includes("nosymfollow")], ["ro", true]);
  await mount({ ...bindfs, options: ["remount", "bind", "rw"] }, `${t.dir}/root`);
  assertEquals(modes(t), ["/root rw"]);
});

kernelTest("withTempMount() mounts without volatile", { features: ["overlay"] }, async (t) => {
  t.make("lower", "upper", "work", "temporary");
  await setTempMountLocation(`${t.dir}/temporary`);
  const options = [
    `lowerdir=${t.dir}/lower,upperdir=${t.dir}/upper,workdir=${t.dir}/work,volatile`,
    "fsync=volatile",
  ];
  for (let times = 0; times < 2; times++) { // the kernel refuses the second one after a volatile first
    await withTempMount([{ type: "overlay", source: "o", options }], () => {
      assert(t.mounts().every(({ superOptions }) => !superOptions.includes("volatile")));
    });
  }
  await setTempMountLocation("/tmp");
});

kernelTest("withReadonlyTempMount() of an rbind is read-only in the mounts below too", {
  features: ["mountSetattr"],
}, async (t) => {
  t.make("source", "temporary");
  await using _source = await mountAll([
    { type: "tmpfs", source: "t" },
    { type: "tmpfs", source: "u", target: "/sub", options: ["X-mount.mkdir"] },
  ], `${t.dir}/source`);
  await setTempMountLocation(`${t.dir}/temporary`);
  await withReadonlyTempMount([{ type: "bind", source: `${t.dir}/source`, options: ["rbind,rw"] }], () => {
    const below = modes(t).filter((line) => line.startsWith("/temporary"));
    assertEquals(below.map((line) => line.slice(-2)), ["ro", "ro"]);
  });
  await setTempMountLocation("/tmp");
});

const maps = "uidmap=0:100000:65536,gidmap=0:100000:65536";

kernelTest("withReadonlyTempMount() of an id-mapped overlay maps no id twice", {
  root: true,
  features: ["mountSetattr", "overlay", "overlayLayers"],
}, async (t) => {
  t.make("lower", "upper", "work", "temporary");
  Deno.writeTextFileSync(`${t.dir}/lower/image`, "");
  const options = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`, maps];
  await setTempMountLocation(`${t.dir}/temporary`);
  const owners = (root: string) => ["image", "written"].map((name) => Deno.statSync(`${root}/${name}`).uid);
  let seen: (number | null)[] = [];
  await withTempMount([{ type: "overlay", source: "o", options }], (root) => {
    Deno.writeTextFileSync(`${root}/written`, "");
    Deno.chownSync(`${root}/written`, 100007, 100007); // as the container's user 7
    seen = owners(root);
  });
  assertEquals(seen, [100000, 100007]);
  await withReadonlyTempMount([{ type: "overlay", source: "o", options }], (root) => {
    assertEquals(owners(root), seen);
  });
  await setTempMountLocation("/tmp");
});

kernelTest("idMapMount() maps the mounts below too", {
  root: true,
  features: ["mountSetattr", "mappedTmpfs"],
}, async (t) => {
  t.make("source", "root");
  await using _source = await mountAll([
    { type: "tmpfs", source: "t" },
    { type: "tmpfs", source: "u", target: "/sub", options: ["X-mount.mkdir"] },
  ], `${t.dir}/source`);
  using userns = await createUserNamespace("0:100000:65536", "0:100000:65536");
  await idMapMount(`${t.dir}/source`, `${t.dir}/root`, userns, { readonly: true });
  assertEquals(["", "/sub"].map((path) => Deno.statSync(`${t.dir}/root${path}`).uid), [100000, 100000]);
  assertEquals(modes(t).slice(0, 2), ["/root ro", "/root/sub ro"]);
  await unmountRecursive(`${t.dir}/root`);
});

type Fields = [rule: string, value: unknown, says: string];

const fields: Fields[] = [
  ["OCI's name of target", { type: "tmpfs", source: "t", destination: "/a" }, '"target"'],
  ["a singular option", { type: "tmpfs", source: "t", option: ["ro"] }, '"options"'],
  ["a wrong case", { Type: "tmpfs", source: "t" }, '"type"'],
  ["an unknown field", { type: "tmpfs", source: "t", colour: 1 }, '"colour" is no field of a mount'],
  ["a missing type", { source: "t" }, '"type" is missing'],
  ["a null type", { type: null, source: "t" }, '"type" is missing'],
  ["a number as source", { type: "tmpfs", source: 1 }, '"source" must be a string, got a number'],
  [
    "options in one string",
    { type: "tmpfs", source: "t", options: "ro" },
    '"options" must be a list of strings',
  ],
  ["an option that is no string", { type: "tmpfs", source: "t", options: [1] }, "must hold strings only"],
  ["a number as target", { type: "tmpfs", source: "t", target: 1 }, '"target" must be a string'],
  ["no object", "tmpfs", "a mount must be an object, got a string"],
  ["a list", [], "a mount must be an object, got a list"],
  ["null", null, "a mount must be an object, got null"],
];

for (const [rule, value, says] of fields) {
  kernelTest(`a mount with ${rule} is refused with a sentence`, {}, async (t) => {
    t.make("root");
    assertStringIncludes(await message(mount(value as Mount, `${t.dir}/root`)), says);
    assertEquals(t.mounts(), []);
  });
}

kernelTest("a null target and null options are absent ones", {}, async (t) => {
  t.make("root");
  const mounted = { type: "tmpfs", source: "t", target: null, options: null } as unknown as Mount;
  await using _mounted = await mount(mounted, `${t.dir}/root`);
  assertEquals(modes(t), ["/root rw"]);
});
