import {
  fsTypeFilter,
  isMountpoint,
  listMounts,
  lookupMount,
  mount,
  parentsFilter,
  parseMountInfo,
  prefixFilter,
  singleEntryFilter,
} from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import {
  AT_FDCWD,
  MNT_DETACH,
  mount as mountSyscall,
  MS_BIND,
  MS_SHARED,
  MS_SLAVE,
  OPEN_TREE_CLONE,
  openTree,
  umount2,
} from "../../linux/mod.ts";
import { assert, assertEquals, assertMatch, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { mountTable } from "../kernel.ts";

const line =
  "36 35 98:0 /mnt1 /mnt2\\040x rw,noatime master:1 shared:2 - ext3 /dev/root\\011a rw,errors=continue";

Deno.test("parseMountInfo() reads every field of a line", () => {
  assertEquals(parseMountInfo(line + "\n"), [{
    id: 36,
    parent: 35,
    major: 98,
    minor: 0,
    root: "/mnt1",
    mountpoint: "/mnt2 x",
    options: "rw,noatime",
    optional: "master:1 shared:2",
    fsType: "ext3",
    source: "/dev/root\ta",
    vfsOptions: "rw,errors=continue",
  }]);
  assertEquals(parseMountInfo("1 1 0:1 / / rw - tmpfs  rw\n")[0]?.source, "");
  assertThrows(() => parseMountInfo(line + "\nnonsense\n"), TypeError, "line 2");
});

Deno.test("a filter skips entries, and stops the parser", () => {
  const text = ["/", "/a", "/a/b", "/ab", "/c"].map((path, id) => `${id} 0 0:1 / ${path} rw - t${id} s rw`)
    .join("\n");
  const points = (filter: Parameters<typeof parseMountInfo>[1]) =>
    parseMountInfo(text, filter).map((m) => m.mountpoint);
  assertEquals(points(prefixFilter("/a")), ["/a", "/a/b"]);
  assertEquals(points(prefixFilter("/")).length, 5);
  assertEquals(points(parentsFilter("/a/b/c")), ["/", "/a", "/a/b"]);
  assertEquals(points(parentsFilter("/abc")), ["/"]);
  assertEquals(points(singleEntryFilter("/a")), ["/a"]);
  assertEquals(points(fsTypeFilter("t0", "t4")), ["/", "/c"]);
  assertEquals(parseMountInfo(text + "\nnonsense", singleEntryFilter("/c")).length, 1);
});

kernelTest(
  "lookupMount() returns the entry of the mount table for every mount, with and without statmount(2)",
  { privateDirectory: true },
  async (t) => {
    const odd = ["a b", "tab\there", "new\nline", "back\\slash", "#hash", "ärger→"];
    await using stack = new AsyncDisposableStack();
    for (const name of odd) {
      t.make(name);
      stack.use(
        await mount(
          { type: "tmpfs", source: name, options: ["size=1m", "nosuid", "noexec", "strictatime"] },
          `${t.dir}/${name}`,
        ),
      );
      assertEquals(
        t.mounts().some(({ mountpoint, source }) => mountpoint === `/${name}` && source === name),
        true,
      );
    }
    t.make("shared", "slave");
    stack.use(
      await mount(
        { type: "tmpfs", source: "t", options: ["shared", "sync", "dirsync", "lazytime"] },
        `${t.dir}/shared`,
      ),
    );
    stack.use(
      await mount(
        { type: "bind", source: `${t.dir}/shared`, options: ["bind", "slave", "ro", "nodiratime"] },
        `${t.dir}/slave`,
      ),
    );
    t.make("both");
    stack.use(
      await mount({ type: "bind", source: `${t.dir}/shared`, options: ["bind", "slave"] }, `${t.dir}/both`),
    );
    mountSyscall(null, `${t.dir}/both`, null, MS_SHARED, null);
    assertMatch(
      t.mounts().find(({ mountpoint }) => mountpoint === "/both")?.optional ?? "",
      /^shared:\d+ master:\d+$/,
    );
    const table = await listMounts();
    const topmost = new Map(table.map((info) => [info.mountpoint, info]));
    for (const info of topmost.values()) {
      const found = await lookupMount(info.mountpoint);
      if (table.filter(({ mountpoint }) => mountpoint === info.mountpoint).length === 1) {
        assertEquals(found, info);
      }
      using _ = pretendMissing("statmount");
      assertEquals(await lookupMount(info.mountpoint), found);
    }
    assertEquals(table.length, mountTable().length);
  },
);

kernelTest(
  "propagate_from is listed and looked up only if it is asked for",
  { privateDirectory: true },
  async (t) => {
    t.make("first", "second", "third");
    const [first = "", second = "", third = ""] = ["first", "second", "third"].map((name) =>
      `${t.dir}/${name}`
    );
    mountSyscall("t", first, "tmpfs", 0, "size=64k");
    mountSyscall(null, first, null, MS_SHARED, null);
    mountSyscall(first, second, null, MS_BIND, null);
    for (const propagation of [MS_SLAVE, MS_SHARED]) mountSyscall(null, second, null, propagation, null);
    mountSyscall(second, third, null, MS_BIND, null);
    mountSyscall(null, third, null, MS_SLAVE, null);
    // A peer of the second that is not below this process's root, so that the third gets its mounts from the first.
    using _peer = openTree(AT_FDCWD, second, OPEN_TREE_CLONE);
    umount2(second, MNT_DETACH);
    using _mounted = { [Symbol.dispose]: () => [third, first].forEach((path) => umount2(path, MNT_DETACH)) };
    const whole = t.mounts().find(({ mountpoint }) => mountpoint === "/third")?.optional ?? "";
    const [, master] = /^(master:\d+) propagate_from:\d+$/.exec(whole) ?? [];
    assert(master !== undefined, whole);
    const filter = singleEntryFilter(third);
    for (const missing of [[], ["statmount"]] satisfies Parameters<typeof pretendMissing>[]) {
      using _ = pretendMissing(...missing);
      const found = [
        ...await listMounts({ filter }),
        await lookupMount(third),
        ...await listMounts({ filter, propagation: true }),
        await lookupMount(third, { propagation: true }),
      ];
      assertEquals(found.map(({ optional }) => optional), [master, master, whole, whole]);
    }
  },
);

kernelTest(
  "isMountpoint() is true for binds of directories and files, and false for a path that does not exist",
  {},
  async (t) => {
    t.make("source", "target");
    Deno.writeTextFileSync(`${t.dir}/file`, "");
    Deno.writeTextFileSync(`${t.dir}/other`, "");
    assertEquals(await isMountpoint(`${t.dir}/target`), false);
    assertEquals(await isMountpoint(`${t.dir}/none/there`), false);
    await using _a = await mount(
      { type: "bind", source: `${t.dir}/source`, options: ["bind"] },
      `${t.dir}/target`,
    );
    await using _b = await mount(
      { type: "bind", source: `${t.dir}/file`, options: ["bind"] },
      `${t.dir}/other`,
    );
    assert(await isMountpoint(`${t.dir}/target`));
    assert(await isMountpoint(`${t.dir}/other`));
  },
);
