/**
 * A list is mounted as a whole or not at all, here and in another mount namespace.
 *
 * @module
 */

import {
  createUserNamespace,
  idMapMount,
  mount,
  mountAll,
  MountError,
  setTempMountLocation,
  unmountRecursive,
  withTempMount,
} from "../../mod.ts";
import { type Feature, pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { loopDevices, loopDevicesLeft, names, parseTable, readText } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";

const tmpfs = { type: "tmpfs", source: "t" };
const elsewhere: Needs = {
  root: true,
  tools: ["unshare", "nsenter", "mount", "umount", "mkdir"],
  permissions: { run: true },
};
const mountpoints = (t: KernelContext) => t.mounts().map(({ mountpoint }) => mountpoint);

/** The mountpoints below the test's directory in the namespace of a process. */
function seenBy(pid: number, { dir }: KernelContext): string[] {
  return parseTable(readText(`/proc/${pid}/mountinfo`) ?? "")
    .filter(({ mountpoint }) => mountpoint.startsWith(dir))
    .map(({ mountpoint, fsType }) => `${fsType} ${mountpoint.slice(dir.length)}`);
}

kernelTest(
  "a list that fails is unmounted from its end, with the directories that it made",
  {},
  async (t) => {
    t.make("root");
    Deno.writeTextFileSync(`${t.dir}/root/file`, "");
    const made = (target: string) => ({ ...tmpfs, target, options: ["X-mount.mkdir"] });
    const list = [made("/a"), made("/a/b"), made("/c"), tmpfs, made("/d/e"), { ...tmpfs, target: "/none/x" }];
    const error = await assertRejects(() => mountAll(list, `${t.dir}/root`), MountError);
    assertEquals([error.target, error.mount, error.code], [`${t.dir}/root/none/x`, list.at(-1), "ENOENT"]);
    assertEquals([mountpoints(t), names(`${t.dir}/root`)], [[], ["file"]]);
    const own = await assertRejects(
      () => mount({ ...tmpfs, options: ["bogus"] }, `${t.dir}/root`),
      MountError,
    );
    assertEquals(own.target, `${t.dir}/root`);
  },
);

kernelTest("a list that fails in another namespace is unmounted there alone", elsewhere, async (t) => {
  t.make("root");
  await using other = await MountNamespace.start();
  await using _here = await mountAll([{ ...tmpfs, type: "ramfs" }], `${t.dir}/root`);
  await other.run("mount", "-t", "tmpfs", "base", `${t.dir}/root`);
  const list = [
    { ...tmpfs, target: "/a", options: ["X-mount.mkdir"] },
    { ...tmpfs, target: "/a/b", options: ["X-mount.mkdir"] },
    { type: "bind", source: `${t.dir}/none`, target: "/a" },
  ];
  const namespace = other.pid;
  await assertRejects(() => mountAll(list, `${t.dir}/root`, { namespace }), MountError, "/none");
  assertEquals(seenBy(namespace, t), ["tmpfs /root"]);
  assertEquals((await other.run("ls", `${t.dir}/root`)).trim(), "");
  assertEquals([mountpoints(t), names(`${t.dir}/root`)], [["/root"], []]);
  await assertRejects(() => mount(tmpfs, "relative", { namespace }), MountError, "an absolute path");
  {
    using _ = pretendMissing("mountSetattr");
    const change = { type: "", source: "", options: ["remount", "bind", "ro"] };
    const propagation = { ...tmpfs, options: ["shared"] };
    for (const refused of [change, propagation]) {
      await assertRejects(
        () => mount(refused, `${t.dir}/root`, { namespace }),
        MountError,
        "a change of a mount in another mount namespace needs",
      );
    }
    const bind = { type: "bind", source: t.make("source"), options: ["ro"] };
    await using _staged = await mount(bind, `${t.dir}/root`, { namespace });
    assertEquals(seenBy(namespace, t).length, 2);
  }
  assertEquals(seenBy(namespace, t), ["tmpfs /root"]);
  assertEquals(mountpoints(t), ["/root"]);
});

kernelTest("an aborted signal stops a list, and what is mounted is unmounted again", elsewhere, async (t) => {
  const target = t.make("root");
  const reason = new RangeError("mine");
  const long = Array.from({ length: 1500 }, () => tmpfs);
  await using other = await MountNamespace.start();
  for (const where of [{}, { namespace: other.pid }]) {
    const aborted = AbortSignal.abort(reason);
    assertEquals(await mount(tmpfs, target, { ...where, signal: aborted }).catch((error) => error), reason);
    const later = new AbortController();
    setTimeout(() => later.abort(reason));
    const ended = await mountAll(long, target, { ...where, signal: later.signal }).catch((error) => error);
    assertEquals([ended, mountpoints(t), seenBy(other.pid, t)], [reason, [], []]);
  }
  await assertRejects(() => mount(tmpfs, target, { timeout: NaN }), TypeError);
});

kernelTest(
  "a handle unmounts its list from the end, once, and leaves what was there before",
  {},
  async (t) => {
    const target = t.make("root");
    await using _before = await mountAll([tmpfs, tmpfs], target);
    const handle = await mountAll([tmpfs, { ...tmpfs, target: "/a", options: ["X-mount.mkdir"] }], target);
    assertEquals(handle.mountpoints, [target, `${target}/a`]);
    assert(Object.isFrozen(handle.mountpoints));
    {
      using _busy = Deno.openSync(target);
      await assertRejects(() => handle.unmount({ timeout: 0 }), Error, "EBUSY");
      assertEquals(mountpoints(t), ["/root", "/root", "/root"]);
    }
    await Promise.all([handle.unmount(), handle.unmount(), handle.unmount()]);
    await handle.unmount();
    assertEquals(mountpoints(t), ["/root", "/root"]);
  },
);

kernelTest("a list carries out none of its entries after its signal has aborted", {}, async (t) => {
  const target = t.make("root/a", "root/kept").slice(0, -"/a".length);
  await using _kept = await mount(tmpfs, `${target}/kept`);
  const controller = new AbortController();
  const last = { type: "none", source: "none", target: "/kept", options: ["remount", "bind", "ro"] }; // it stays so
  const mounting = mountAll([{ ...tmpfs, target: "/a" }, last], target, controller);
  controller.abort(new RangeError("mine")); // no entry waits, so no other call sees the signal
  await assertRejects(() => mounting, RangeError, "mine");
  assertEquals(t.mounts().map(({ mountpoint, options }) => [mountpoint, options[0]]), [["/root/kept", "rw"]]);
});

kernelTest("two unmounts of a handle that fail leave it whole, for a third", {}, async (t) => {
  const target = t.make("root");
  const made = { options: ["X-mount.mkdir"] };
  const list = [tmpfs, { ...tmpfs, ...made, target: "/a" }, { ...tmpfs, ...made, target: "/b" }];
  const handle = await mountAll(list, target);
  {
    using _busy = Deno.openSync(`${target}/a`);
    const calls = [handle.unmount({ timeout: 0 }), handle.unmount({ timeout: 0 })];
    const ended = await Promise.allSettled(calls);
    assertEquals(ended.map(({ status }) => status), ["rejected", "rejected"]);
    assertEquals(mountpoints(t), ["/root", "/root/a"]);
  }
  await handle.unmount({ timeout: 0 });
  assertEquals(mountpoints(t), []);
});

for (const missing of [[], ["openat2"]] as Feature[][]) {
  const without = missing.length > 0 ? `, without ${missing}` : "";

  kernelTest(`X-mount.mkdir resolves an absolute link in the target${without}`, {}, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("outside", `root${t.dir}/outside`);
    Deno.symlinkSync(`${t.dir}/outside`, `${t.dir}/root/link`);
    const entry = { ...tmpfs, target: "/link/new/er", options: ["X-mount.mkdir"] };
    await using mounted = await mount(entry, `${t.dir}/root`);
    assertEquals(mounted.mountpoints, [`${t.dir}/root${t.dir}/outside/new/er`]);
    assertEquals(names(`${t.dir}/outside`), []);
  });
}

kernelTest("a read-only image is never opened for writing, and its device goes with the mount", {
  root: true,
  tools: ["mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  t.make("media", "target");
  await using _media = await mount(tmpfs, `${t.dir}/media`);
  const image = `${t.dir}/media/image`;
  await run("mkfs.ext4", "-q", "-O", "^has_journal", image, "1M");
  const ext4 = (...options: string[]) => ({ type: "ext4", source: image, options: ["loop", ...options] });
  const isReadonly = () => {
    const [name = ""] = loopDevices(t.dir)[0]?.split(" ") ?? [];
    return readText(`/sys/block/${name}/ro`)?.trim();
  };
  for (const [options, expected] of [[["ro"], "1"], [["rw", "ro"], "1"], [["ro", "rw"], "0"]] as const) {
    const handle = await mount(ext4(...options), `${t.dir}/target`);
    assertEquals(isReadonly(), expected, options.join());
    await handle.unmount();
    assertEquals(await loopDevicesLeft(t.dir), []);
  }
  await assertRejects(() => mount(ext4("ro", "bogus"), `${t.dir}/target`), MountError, "bogus");
  assertEquals(await loopDevicesLeft(t.dir), []);
  await mount({ type: "", source: "", options: ["remount", "ro"] }, `${t.dir}/media`);
  await using _mounted = await mount(ext4("ro"), `${t.dir}/target`);
  const error = await assertRejects(() => mount(ext4(), `${t.dir}/target`), MountError);
  assertStringIncludes(error.message, `${image} can't be opened for writing; add the option "ro"`);
});

kernelTest(
  "withTempMount() unmounts what its function mounts, and removes what the list made",
  {},
  async (t) => {
    t.make("temporary");
    await setTempMountLocation(`${t.dir}/temporary`);
    const list = [{ ...tmpfs, target: "/a/b", options: ["X-mount.mkdir"] }];
    let count = 0;
    await withTempMount(list, async (root) => {
      await mount(tmpfs, `${root}/a/b`);
      Deno.mkdirSync(`${root}/a/b/c`);
      await mount(tmpfs, `${root}/a/b/c`);
      count = mountpoints(t).length;
    });
    assertEquals([count, mountpoints(t), names(`${t.dir}/temporary`)], [3, [], []]);
    await withTempMount(list, () => {});
    assertEquals(names(`${t.dir}/temporary`), []);
    await setTempMountLocation("/tmp");
  },
);

kernelTest("idMapMount() sets each of its attributes, on the tree or on one mount", {
  root: true,
  features: ["mountSetattr", "nosymfollow", "mappedTmpfs"],
}, async (t) => {
  t.make("source", "root");
  await using _source = await mountAll([
    tmpfs,
    { ...tmpfs, target: "/sub", options: ["X-mount.mkdir"] },
  ], `${t.dir}/source`);
  using userns = await createUserNamespace("0:100000:65536", "0:100000:65536");
  const words = {
    readonly: "ro",
    nosuid: "nosuid",
    nodev: "nodev",
    noexec: "noexec",
    nosymfollow: "nosymfollow",
  };
  for (const [attribute, word] of Object.entries(words)) {
    for (const recursive of [true, false]) {
      await idMapMount(`${t.dir}/source`, `${t.dir}/root`, userns, { [attribute]: true, recursive });
      const rows = t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/root"));
      const expected = recursive ? ["/root", "/root/sub"] : ["/root"];
      assertEquals(rows.map(({ mountpoint }) => mountpoint), expected);
      assert(rows.every(({ options }) => options.includes(word)), `${word}: ${JSON.stringify(rows)}`);
      assertEquals(Deno.statSync(`${t.dir}/root`).uid, 100000);
      await unmountRecursive(`${t.dir}/root`);
    }
  }
});
