/**
 * What containerd's users rely on in mounts: the cases that its own tests ask of the kernel's side of its mount package,
 * asked of this library. The cases that only change a list are in test/spec/containerd_cases_test.ts.
 *
 * @module
 */

import {
  attachLoop,
  createUserNamespace,
  detachLoop,
  idMapMount,
  lookupMount,
  type Mount,
  mount,
  mountAll,
  MountError,
  parseMounts,
  setTempMountLocation,
  setupLoop,
  SyscallError,
  unmount,
  unmountAll,
  unmountMounts,
  unmountRecursive,
  withReadonlyTempMount,
  withTempMount,
} from "../../mod.ts";
import { statfs } from "../../linux/syscalls/mod.ts";
import { statfsToFlags } from "../../linux/spec/mount_flags.ts";
import {
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
} from "../../linux/syscalls/constants.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import type { TestFeature } from "../feature.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { linkText, loopDevices, loopDevicesLeft, names } from "../kernel.ts";

const owner = ({ uid, gid }: Deno.FileInfo) => [uid, gid];

/** Every way of the library for one thing: the new call and its fallback. */
const binds: [string, TestFeature[], () => Disposable][] = [
  ["with open_tree(2)", ["mountSetattr"], () => ({ [Symbol.dispose]() {} })],
  ["with mount(2)", [], () => pretendMissing("mountSetattr", "mountApi")],
];

for (const [method, features, select] of binds) {
  kernelTest(
    `a file is bound on a file below the target, and the working directory stays, ${method}`,
    { features },
    async (t) => {
      using _ = select();
      t.make("from", "to");
      Deno.writeTextFileSync(`${t.dir}/from/text`, "bound");
      Deno.writeTextFileSync(`${t.dir}/to/empty`, "");
      const before = Deno.cwd();
      Deno.chdir(`${t.dir}/to`);
      try {
        const list: Mount[] = [{ type: "bind", source: "../from/text", target: "empty", options: ["bind"] }];
        await using _bound = await mountAll(list, ".");
        assertEquals(Deno.readTextFileSync(`${t.dir}/to/empty`), "bound");
        assertEquals(Deno.cwd(), Deno.realPathSync(`${t.dir}/to`));
      } finally {
        Deno.chdir(before);
      }
    },
  );

  // A snapshotter's list: the second mount goes onto a directory that the first one shows.
  const nested = (dir: string): Mount[] => [
    { type: "bind", source: `${dir}/outer`, options: ["ro", "rbind"] },
    { type: "bind", source: `${dir}/inner`, target: "below", options: ["ro", "rbind"] },
  ];
  const unmounts: [string, (list: Mount[], target: string) => Promise<void>][] = [
    ["unmountMounts()", unmountMounts],
    ["unmountRecursive()", (_, target) => unmountRecursive(target)],
  ];
  for (const [name, unmountList] of unmounts) {
    kernelTest(
      `${name} unmounts a read-only tree in a read-only tree, ${method}`,
      { features },
      async (t) => {
        using _ = select();
        t.make("outer/below", "inner", "target");
        Deno.writeTextFileSync(`${t.dir}/inner/file`, "inner");
        const list = nested(t.dir);
        await mountAll(list, `${t.dir}/target`);
        assertEquals(Deno.readTextFileSync(`${t.dir}/target/below/file`), "inner");
        assertEquals(t.mounts().map((row) => [row.mountpoint, row.options[0]]), [
          ["/target", "ro"],
          ["/target/below", "ro"],
        ]);
        await unmountList(list, `${t.dir}/target`);
        assertEquals(t.mounts(), []);
        await unmountList(list, `${t.dir}/target`); // nothing is mounted: nothing to do
      },
    );
  }

  kernelTest(`a read-only bind of a mount keeps its other attributes, ${method}`, { features }, async (t) => {
    using _ = select();
    t.make("source", "target");
    const options = ["noexec", "noatime", "nodiratime"];
    await using _source = await mount({ type: "tmpfs", source: "t", options }, `${t.dir}/source`);
    const kept = MS_NOEXEC | MS_NOATIME | MS_NODIRATIME;
    const asked = kept | MS_NOSUID | MS_NODEV | MS_RDONLY;
    const flags = (path: string) => statfsToFlags(statfs(path).flags) & asked;
    assertEquals(flags(`${t.dir}/source`), kept);
    const bind = { type: "bind", source: `${t.dir}/source`, options: ["bind", "ro"] };
    await using _bound = await mount(bind, `${t.dir}/target`);
    assertEquals(flags(`${t.dir}/target`), kept | MS_RDONLY);
  });
}

kernelTest("an X-containerd. option fails on every kind of mount, and nothing is mounted", {}, async (t) => {
  t.make("source", "target");
  const kinds: Mount[] = [
    { type: "tmpfs", source: "t", options: ["size=1m", "X-containerd.some=thing", "mode=0700"] },
    { type: "tmpfs", source: "t", options: ["size=1m,X-containerd.some=thing,mode=0700"] },
    { type: "bind", source: `${t.dir}/source`, options: ["bind", "X-containerd.some"] },
    { type: "overlay", source: "o", options: ["lowerdir=/usr:/etc", "X-containerd.some="] },
    { type: "fuse3.bindfs", source: `${t.dir}/source`, options: ["X-containerd.some=thing"] },
    { type: "", source: "", options: ["remount", "ro", "X-containerd.some=thing"] },
    { type: "", source: "", options: ["rprivate", "X-containerd.some=thing"] },
  ];
  for (const one of kinds) {
    await assertRejects(() => mount(one, `${t.dir}/target`), MountError, "is for a mount manager");
    assertEquals(t.mounts(), []);
  }
});

kernelTest("a FUSE helper gets the layers of a list's single entry as several options", {
  root: true,
  tools: ["mount.fuse3", "fuse-overlayfs"],
  permissions: { run: true },
}, async (t) => {
  t.make("first", "second", "upper", "work", "target");
  Deno.writeTextFileSync(`${t.dir}/first/both`, "first");
  Deno.writeTextFileSync(`${t.dir}/second/both`, "second");
  Deno.writeTextFileSync(`${t.dir}/second/one`, "second");
  const entry = `lowerdir=${t.dir}/first:${t.dir}/second,upperdir=${t.dir}/upper,workdir=${t.dir}/work`;
  const [overlay] = parseMounts(
    JSON.stringify([{ Type: "fuse3.fuse-overlayfs", Source: "overlay", Options: [entry] }]),
  ) as [Mount];
  await mount(overlay, `${t.dir}/target`);
  try {
    assertEquals(Deno.readTextFileSync(`${t.dir}/target/both`), "first");
    assertEquals(Deno.readTextFileSync(`${t.dir}/target/one`), "second");
  } finally {
    await unmountAll(`${t.dir}/target`);
  }
  assertEquals(t.mounts(), []);
});

// Three ranges, one of which begins at the id of the process, so that it can write to the mount.
const ranges = [[700, 0, 50], [6000, 2500, 50], [9000, 3500, 50]] as const;
const map = ranges.map((range) => range.join(":")).join(",");
const maps = [`uidmap=${map}`, `gidmap=${map}`];
const mapped = { root: true, features: ["mountSetattr"] } as const;

/** A directory with a file for each range, and one that the first id may write to. */
function makeSource(t: KernelContext): string {
  const source = t.make("source");
  t.make("source/open");
  for (const [index, [id]] of ranges.entries()) {
    Deno.writeTextFileSync(`${source}/${index}`, "");
    Deno.chownSync(`${source}/${index}`, id, id);
  }
  Deno.chownSync(`${source}/open`, ranges[0][0], ranges[0][0]);
  return source;
}

async function checkMapped(mounted: string, source: string, isWritable: boolean): Promise<void> {
  for (const [index, [id, seen]] of ranges.entries()) {
    assertEquals(owner(Deno.statSync(`${mounted}/${index}`)), [seen, seen]);
    assertEquals(owner(Deno.statSync(`${source}/${index}`)), [id, id]);
  }
  if (isWritable) {
    Deno.writeTextFileSync(`${mounted}/open/new`, "");
    assertEquals(owner(Deno.statSync(`${source}/open/new`)), [ranges[0][0], ranges[0][0]]);
  } else {
    await assertRejects(() => Deno.writeTextFile(`${mounted}/open/new`, ""), Error, "os error 30"); // EROFS
    assertEquals(names(`${source}/open`), []);
  }
}

for (const readonly of [false, true]) {
  const kind = readonly ? "a read-only" : "a writable";
  kernelTest(`${kind} id-mapped bind shows the owners of every range`, mapped, async (t) => {
    const source = makeSource(t);
    t.make("target");
    using userns = await createUserNamespace(map, map);
    await idMapMount(source, `${t.dir}/target`, userns, { readonly });
    await using _off = { [Symbol.asyncDispose]: () => unmount(`${t.dir}/target`) };
    await checkMapped(`${t.dir}/target`, source, !readonly);
  });

  kernelTest(`${kind} bind with uidmap= and gidmap= shows the owners of every range`, mapped, async (t) => {
    const source = makeSource(t);
    t.make("target");
    const options = ["rbind", readonly ? "ro" : "rw", ...maps];
    await using _stack = await mount({ type: "bind", source, options }, `${t.dir}/target`);
    await checkMapped(`${t.dir}/target`, source, !readonly);
  });
}

kernelTest("a user namespace has the maps that it is asked for, or is not made", { root: true }, async () => {
  for (const good of ["0:900:50", "0:900:50,50:4000:150"]) {
    (await createUserNamespace(good, good)).close();
  }
  const bad = ["0:-1:50", "-1:900:50", "0:900:-1", "0:900:-1,50:900:50", "0:900", ":900:50", "0:900:50,"];
  for (const one of bad) {
    await assertRejects(() => createUserNamespace("50:900:50", one), TypeError, "is no id map");
    await assertRejects(() => createUserNamespace(one, "50:900:50"), TypeError, "is no id map");
  }
});

kernelTest("many user namespaces are made at the same time", { root: true }, async () => {
  for (const count of [1, 10, 40]) {
    const made = await Promise.all(Array.from({ length: count }, () => createUserNamespace(map, map)));
    assertEquals(new Set(made.map(({ fd }) => linkText(`/proc/self/fd/${fd}`))).size, count);
    for (const userns of made) userns.close();
  }
});

/** How an overlay gets its mapped layers. */
const layerMethods: [string, TestFeature[], () => Disposable][] = [
  ["detached", ["detachedLayers"], () => ({ [Symbol.dispose]() {} })],
  ["in a temporary mount", [], () => pretendMissing("detachedLayers")],
];

for (const [method, features, select] of layerMethods) {
  const needs = { root: true, features: ["mountSetattr", "overlay", ...features] } as const;

  kernelTest(
    `an id-mapped overlay of layers whose names begin alike leaves them as they were, ${method}`,
    needs,
    async (t) => {
      using _ = select();
      t.make("target", "temporary", "upper", "work");
      await setTempMountLocation(`${t.dir}/temporary`);
      const ids = [89, 88, 87, 8, 81];
      const layers = ids.map((id) => t.make(`snapshots/${id}/fs`));
      for (const [index, layer] of layers.entries()) {
        Deno.writeTextFileSync(`${layer}/of-${ids[index]}`, `${index}`);
        Deno.chownSync(`${layer}/of-${ids[index]}`, 6001, 6002);
      }
      for (const lower of [layers, layers.map((layer) => `${layer}/`), layers.slice(0, 1)]) {
        const options = [
          `lowerdir=${lower.join(":")}`,
          `upperdir=${t.dir}/upper`,
          `workdir=${t.dir}/work`,
          ...maps,
        ];
        await using _stack = await mount({ type: "overlay", source: "o", options }, `${t.dir}/target`);
        assertEquals(t.mounts().map((row) => row.mountpoint), ["/target"]);
        assertEquals(names(`${t.dir}/temporary`), []);
        for (const index of lower.keys()) {
          const file = `${t.dir}/target/of-${ids[index]}`;
          assertEquals([Deno.readTextFileSync(file), ...owner(Deno.statSync(file))], [
            `${index}`,
            2501,
            2502,
          ]);
        }
      }
      for (const [index, layer] of layers.entries()) {
        assertEquals(names(layer), [`of-${ids[index]}`]);
        assertEquals(owner(Deno.statSync(`${layer}/of-${ids[index]}`)), [6001, 6002]);
      }
      await setTempMountLocation("/tmp");
    },
  );

  kernelTest(
    `an id-mapped overlay whose layer is missing leaves no temporary mount, ${method}`,
    needs,
    async (t) => {
      using _ = select();
      t.make("target", "temporary", "layer");
      await setTempMountLocation(`${t.dir}/temporary`);
      const overlay = {
        type: "overlay",
        source: "o",
        options: [`lowerdir=${t.dir}/layer:${t.dir}/missing`, ...maps],
      };
      await assertRejects(() => mount(overlay, `${t.dir}/target`), MountError, "/missing does not exist");
      assertEquals([t.mounts(), names(`${t.dir}/temporary`)], [[], []]);
      await setTempMountLocation("/tmp");
    },
  );

  kernelTest(
    `the read-only view of an id-mapped overlay shows its upper directory unmapped, ${method}`,
    needs,
    async (t) => {
      using _ = select();
      t.make("lower", "upper,1", "work", "temporary");
      await setTempMountLocation(`${t.dir}/temporary`);
      Deno.writeTextFileSync(`${t.dir}/lower/image`, "");
      Deno.chownSync(`${t.dir}/lower/image`, 700, 700);
      Deno.writeTextFileSync(`${t.dir}/upper,1/written`, "");
      Deno.chownSync(`${t.dir}/upper,1/written`, 3, 3);
      const options = [
        `lowerdir=${t.dir}/lower`,
        `upperdir=${t.dir}/upper\\,1`,
        `workdir=${t.dir}/work`,
        ...maps,
      ];
      await withReadonlyTempMount([{ type: "overlay", source: "o", options }], async (root) => {
        assertEquals(owner(Deno.statSync(`${root}/image`)), [0, 0]);
        assertEquals(owner(Deno.statSync(`${root}/written`)), [3, 3]);
        await assertRejects(() => Deno.writeTextFile(`${root}/new`, ""), Error, "os error 30");
      });
      assertEquals(names(`${t.dir}/upper,1`), ["written"]);
      await setTempMountLocation("/tmp");
    },
  );
}

kernelTest(
  "a temporary location that is gone fails with its name, and the layers stay as they were",
  { root: true, features: ["mountSetattr", "overlay"] },
  async (t) => {
    using _ = pretendMissing("detachedLayers");
    t.make("target", "temporary", "a", "b");
    await setTempMountLocation(`${t.dir}/temporary`);
    Deno.removeSync(`${t.dir}/temporary`);
    const overlay = { type: "overlay", source: "o", options: [`lowerdir=${t.dir}/a:${t.dir}/b`, ...maps] };
    await assertRejects(() => mount(overlay, `${t.dir}/target`), MountError, `${t.dir}/temporary`);
    assertEquals(t.mounts(), []);
    assert(Deno.statSync(`${t.dir}/a`).isDirectory && Deno.statSync(`${t.dir}/b`).isDirectory);
    await setTempMountLocation("/tmp");
  },
);

kernelTest("a temporary mount of a volatile overlay can be made twice", {
  root: true,
  features: ["overlay"],
}, async (t) => {
  t.make("lower", "upper", "work", "temporary");
  await setTempMountLocation(`${t.dir}/temporary`);
  const layers = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
  for (const word of ["volatile", "fsync=volatile", "volatile"]) {
    const overlay = { type: "overlay", source: "o", options: [word, ...layers] };
    await withTempMount([overlay], (root) => Deno.writeTextFileSync(`${root}/${word}`, ""));
  }
  assertEquals(names(`${t.dir}/upper`), ["fsync=volatile", "volatile"]);
  await setTempMountLocation("/tmp");
});

/** A sparse file for a loop device. */
function image(t: KernelContext, bytes = 4096): string {
  Deno.writeTextFileSync(`${t.dir}/image`, "");
  Deno.truncateSync(`${t.dir}/image`, bytes);
  return `${t.dir}/image`;
}

kernelTest("setupLoop() of a file that does not exist fails with ENOENT", { root: true }, async (t) => {
  for (const readonly of [false, true]) {
    const error = await assertRejects(() => setupLoop(`${t.dir}/none`, { readonly }), SyscallError);
    assertEquals([error.code, error.path], ["ENOENT", `${t.dir}/none`]);
  }
  assertEquals(loopDevices(t.dir), []);
});

/** Writes to a device as another program does. */
async function writeTo(device: string): Promise<boolean> {
  const args = ["if=/proc/version", `of=${device}`, "bs=4", "count=1", "conv=fsync,notrunc"];
  return (await new Deno.Command("dd", { args, stderr: "null" }).output()).success;
}

kernelTest("what is written to a loop device is in its file, unless it is read-only", {
  root: true,
  tools: ["dd"],
}, async (t) => {
  const file = image(t);
  {
    using device = await setupLoop(file, { readonly: true });
    assertEquals(await writeTo(device.path), false);
  }
  assert(Deno.readFileSync(file).every((byte) => byte === 0));
  {
    using device = await setupLoop(file);
    assertEquals(await writeTo(device.path), true);
  }
  assertEquals(new TextDecoder().decode(Deno.readFileSync(file).subarray(0, 4)), "Linu");
  assertEquals(await loopDevicesLeft(t.dir), []);
});

kernelTest("a loop device is detached at its last close with autoclear, and stays without", {
  root: true,
}, async (t) => {
  const file = image(t);
  (await setupLoop(file, { autoclear: true })).close();
  assertEquals(await loopDevicesLeft(t.dir), []);
  const device = await setupLoop(file, { autoclear: false });
  const { path } = device;
  device.close();
  await new Promise((done) => setTimeout(done, 100));
  assertEquals(loopDevices(t.dir), [`${path.slice("/dev/".length)} ${file}`]);
  await detachLoop(path);
  assertEquals(await loopDevicesLeft(t.dir), []);
  await detachLoop(await attachLoop(file));
  assertEquals(await loopDevicesLeft(t.dir), []);
});

for (const [type, megabytes] of [["ext4", 16], ["xfs", 320]] as const) {
  kernelTest(`lookupMount() finds the ${type} of an image, of its bind, and of a directory in it`, {
    root: true,
    tools: [`mkfs.${type}`],
  }, async (t) => {
    t.make("target", "bound");
    const file = image(t, megabytes << 20);
    const { success } = await new Deno.Command(`mkfs.${type}`, { args: ["-q", file] }).output();
    assert(success);
    await using _image = await mount({ type, source: file, options: ["loop"] }, `${t.dir}/target`);
    const bind = { type: "bind", source: `${t.dir}/target`, options: ["bind"] };
    await using _bound = await mount(bind, `${t.dir}/bound`);
    t.make("bound/some/directory");
    const cases = [["target", "target"], ["bound", "bound"], ["bound/some/directory", "bound"]];
    for (const [path, mountpoint] of cases) {
      const found = await lookupMount(`${t.dir}/${path}`);
      assertEquals([found.fsType, found.mountpoint], [type, `${t.dir}/${mountpoint}`]);
      assert(/^\/dev\/loop\d+$/.test(found.source));
    }
  });
}

kernelTest("lookupMount() finds the overlay of a directory and of a file in it", {
  root: true,
  features: ["overlay"],
}, async (t) => {
  t.make("lower", "upper", "work", "target");
  const options = [`lowerdir=${t.dir}/lower`, `upperdir=${t.dir}/upper`, `workdir=${t.dir}/work`];
  await using _stack = await mount({ type: "overlay", source: "o", options }, `${t.dir}/target`);
  t.make("target/directory");
  Deno.writeTextFileSync(`${t.dir}/target/file`, "");
  for (const path of ["target", "target/directory", "target/file"]) {
    const found = await lookupMount(`${t.dir}/${path}`);
    assertEquals([found.fsType, found.mountpoint], ["overlay", `${t.dir}/target`]);
  }
});
