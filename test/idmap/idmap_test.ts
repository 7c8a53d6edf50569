import {
  createUserNamespace,
  idMapMount,
  mount,
  mountAll,
  MountError,
  removeIdMapOption,
  unmount,
  userNamespaceOf,
  withReadonlyTempMount,
} from "../../mod.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { otherMount } from "../other_mount.ts";

const OVERFLOW_ID = 65534; // shown for an id that is not in the map

// Three ranges in one map, and another map for groups.
const uidmap = "0:100000:1000,1000:300000:1,2000:200000:500";
const gidmap = "0:400000:65536";
const options = [`uidmap=${uidmap}`, `gidmap=${gidmap}`];

/** The owners of the files on disk, and their owners through the id-mapped mount. */
const files: [name: string, uid: number, gid: number, seenUid: number, seenGid: number][] = [
  ["root", 0, 0, 100000, 400000],
  ["first-range-end", 999, 999, 100999, 400999],
  ["one-id", 1000, 1, 300000, 400001],
  ["outside-uid", 1001, 5, OVERFLOW_ID, 400005],
  ["third-range", 2499, 65535, 200499, 465535],
  ["outside-both", 2500, 65536, OVERFLOW_ID, OVERFLOW_ID],
];

const owner = ({ uid, gid }: Deno.FileInfo) => [uid, gid];

async function makeFiles(dir: string): Promise<void> {
  for (const [name, uid, gid] of files) {
    Deno.writeTextFileSync(`${dir}/${name}`, name);
    Deno.chownSync(`${dir}/${name}`, uid, gid);
  }
  Deno.symlinkSync("nowhere", `${dir}/link`);
  await new Deno.Command("chown", { args: ["-h", "7:8", `${dir}/link`] }).output();
  await new Deno.Command("mknod", { args: [`${dir}/device`, "c", "1", "3"] }).output();
  Deno.chownSync(`${dir}/device`, 9, 10);
  Deno.writeTextFileSync(`${dir}/setuid`, "");
  Deno.chownSync(`${dir}/setuid`, 11, 12);
  Deno.chmodSync(`${dir}/setuid`, 0o6755);
}

/** Checks that the mount shows mapped ids and unchanged modes, and that the source keeps its owners. */
function checkFiles(mapped: string, below: string): void {
  for (const [name, uid, gid, seenUid, seenGid] of files) {
    assertEquals(owner(Deno.lstatSync(`${mapped}/${name}`)), [seenUid, seenGid], name);
    assertEquals(owner(Deno.lstatSync(`${below}/${name}`)), [uid, gid], name);
  }
  assertEquals(owner(Deno.lstatSync(`${mapped}/link`)), [100007, 400008]);
  assert(Deno.lstatSync(`${mapped}/link`).isSymlink);
  assertEquals(owner(Deno.lstatSync(`${mapped}/device`)), [100009, 400010]);
  assertEquals(Deno.lstatSync(`${mapped}/device`).rdev, 0x103);
  assertEquals(owner(Deno.lstatSync(`${mapped}/setuid`)), [100011, 400012]);
  assertEquals(Deno.lstatSync(`${mapped}/setuid`).mode, 0o106755);
}

/** Id-mapped mounts came with Linux 5.12. A test below holds the error of an older kernel. */
const idMaps = { root: true, features: ["mountSetattr"] } as const;

kernelTest(
  "a bind is id-mapped: several ranges, unmapped ids, devices, links, setuid",
  { ...idMaps, tools: ["chown", "mknod"] },
  async (t) => {
    t.make("source", "target");
    await makeFiles(`${t.dir}/source`);
    const bind = { type: "bind", source: `${t.dir}/source`, options: ["bind", ...options] };
    await using _stack = await mount(bind, `${t.dir}/target`);
    checkFiles(`${t.dir}/target`, `${t.dir}/source`);
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/target"]);
    assert(t.mounts()[0]?.options.includes("idmapped"));
  },
);

kernelTest("a file written through an id-mapped bind has the owner on disk that the id map assigns", {
  ...idMaps,
  tools: ["setpriv"],
}, async (t) => {
  t.make("source", "target");
  Deno.chmodSync(t.dir, 0o711);
  Deno.chownSync(`${t.dir}/source`, 42, 43);
  const bind = { type: "bind", source: `${t.dir}/source`, options: ["bind", ...options] };
  await using _stack = await mount(bind, `${t.dir}/target`);
  const ids = ["--reuid=100042", "--regid=400043", "--clear-groups"];
  await new Deno.Command("setpriv", { args: [...ids, "touch", `${t.dir}/target/new`] }).output();
  assertEquals(owner(Deno.statSync(`${t.dir}/source/new`)), [42, 43]);
  // The host's root has no id in the map: the kernel fails with EOVERFLOW.
  await assertRejects(() => Deno.writeTextFile(`${t.dir}/target/root`, ""), Error, "os error 75");
});

kernelTest("an id-mapped bind gets its attributes, and rro and rbind include submounts", {
  ...idMaps,
}, async (t) => {
  t.make("source/below", "target");
  await using _below = await otherMount(`${t.dir}/source/below`);
  Deno.writeTextFileSync(`${t.dir}/source/below/file`, "");
  const attributes = () => t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/target"));
  const mapped = { type: "bind", source: `${t.dir}/source` };
  {
    await using _stack = await mount(
      { ...mapped, options: ["rbind", "ro", "nosuid", "rnoexec", ...options] },
      `${t.dir}/target`,
    );
    assertEquals(owner(Deno.statSync(`${t.dir}/target/below/file`)), [100000, 400000]);
    const [top, below] = attributes().map((row) => row.options);
    for (const option of ["ro", "nosuid", "noexec", "idmapped"]) assert(top?.includes(option), option);
    for (const option of ["rw", "noexec", "idmapped"]) assert(below?.includes(option), option);
  }
  {
    await using _stack = await mount(
      { ...mapped, options: ["bind", "rro", "rw", ...options] },
      `${t.dir}/target`,
    );
    assertEquals(attributes().map(({ mountpoint }) => mountpoint), ["/target"]);
    assert(attributes()[0]?.options.includes("rw"), "the last option decides");
  }
});

kernelTest("a new file system can be id-mapped", {
  root: true,
  features: ["mappedTmpfs"],
}, async (t) => {
  t.make("target");
  await using _stack = await mount(
    { type: "tmpfs", source: "t", options: ["size=1m", "nodev", ...options] },
    `${t.dir}/target`,
  );
  assertEquals(owner(Deno.statSync(`${t.dir}/target`)), [100000, 400000]);
  assert(t.mounts()[0]?.options.includes("idmapped"));
});

kernelTest("idMapMount() maps through a given user namespace, and keeps the caller's descriptor open", {
  ...idMaps,
  tools: ["chown", "mknod", "unshare"],
}, async (t) => {
  t.make("source/below", "target");
  await makeFiles(`${t.dir}/source`);
  using userns = await createUserNamespace(uidmap, gidmap);
  for (let round = 0; round < 2; round++) {
    await idMapMount(`${t.dir}/source`, `${t.dir}/target`, userns, { readonly: true, nosuid: true });
    checkFiles(`${t.dir}/target`, `${t.dir}/source`);
    const [row] = t.mounts();
    for (const option of ["ro", "nosuid", "idmapped"]) assert(row?.options.includes(option), option);
    await using _off = { [Symbol.asyncDispose]: () => unmount(`${t.dir}/target`) };
    using _missing = pretendMissing("openTreeAttr");
    await assertRejects(
      () => idMapMount(`${t.dir}/target`, `${t.dir}/source/below`, userns),
      MountError,
      `${t.dir}/target is id-mapped already: another map for it needs open_tree_attr(2), which came with Linux 6.15 ` +
        "(mount_setattr: EPERM)",
    );
  }
  using initial = await userNamespaceOf(Deno.pid);
  await assertRejects(
    () => idMapMount(`${t.dir}/source`, `${t.dir}/target`, initial),
    MountError,
    "the initial user namespace maps nothing",
  );
});

kernelTest("the user namespace of a running process can be the id map", {
  ...idMaps,
  tools: ["chown", "mknod", "unshare"],
}, async (t) => {
  t.make("source", "target");
  await makeFiles(`${t.dir}/source`);
  await using child = new Deno.Command("unshare", {
    args: ["--user", "--map-root-user", "sh", "-c", "echo; read _"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  {
    using userns = await userNamespaceOf(child.pid);
    await idMapMount(`${t.dir}/source`, `${t.dir}/target`, userns);
  }
  assertEquals(owner(Deno.statSync(`${t.dir}/target/root`)), [0, 0]);
  assertEquals(owner(Deno.statSync(`${t.dir}/target/one-id`)), [OVERFLOW_ID, OVERFLOW_ID]);
  await unmount(`${t.dir}/target`);
  await reader.cancel();
  await child.stdin.close();
  await child.status;
});

kernelTest(
  "a mount that can't be id-mapped is refused by name, and nothing is mounted",
  idMaps,
  async (t) => {
    t.make("target", "source/proc");
    const target = `${t.dir}/target`;
    const refused: [string, string, string[], string][] = [
      ["bind", "/proc", ["bind"], "proc, at /proc, can't be id-mapped (mount_setattr: EINVAL)"],
      ["proc", "proc", [], "proc can't be id-mapped (mount_setattr: EINVAL)"],
      ["bind", "/usr", ["remount", "bind"], "an id map is for a new mount"],
      ["", "", ["rprivate"], "an id map is for a new mount"],
      ["fuse3.bindfs", "/usr", [], "a FUSE helper mounts it itself"],
      ["overlay", "o", ["lowerdir=/proc:/sys"], "proc, at /proc, can't be id-mapped (mount_setattr: EINVAL)"],
      ["tmpfs", "t", [`size=${"1".repeat(300)}`], "no option can be longer than 255 bytes"],
    ];
    for (const [type, source, own, message] of refused) {
      await assertRejects(
        () => mount({ type, source, options: [...own, ...options] }, target),
        MountError,
        message,
      );
    }
    await using _proc = await mount({ type: "proc", source: "proc" }, `${t.dir}/source/proc`);
    await assertRejects(
      () => mount({ type: "bind", source: `${t.dir}/source`, options: ["rbind", ...options] }, target),
      MountError,
      `proc, at ${t.dir}/source/proc, can't be id-mapped`,
    );
    assertEquals(t.mounts().map(({ mountpoint }) => mountpoint), ["/source/proc"]);
  },
);

kernelTest(
  "before Linux 5.12 an id map fails with an error that names the version",
  { root: true },
  async (t) => {
    t.make("target");
    using _missing = pretendMissing("mountSetattr");
    const bind = { type: "bind", source: "/usr", options: ["bind", ...options] };
    await assertRejects(() => mount(bind, `${t.dir}/target`), MountError, "came with Linux 5.12");
  },
);

kernelTest(
  "a frozen list can be mounted ten times, and each entry gets its own id map",
  idMaps,
  async (t) => {
    t.make("source", "target/a", "target/b", "lower", "other");
    const maps = (host: number) => Object.freeze([`uidmap=0:${host}:10`, `gidmap=0:${host}:10`]);
    const bind = (target: string, host: number) =>
      Object.freeze({
        type: "bind",
        source: `${t.dir}/source`,
        target,
        options: Object.freeze(["bind", ...maps(host)]),
      });
    const overlay = Object.freeze({
      type: "overlay",
      source: "o",
      target: "c",
      options: Object.freeze([`lowerdir=${t.dir}/lower:${t.dir}/other`, ...maps(7000)]),
    });
    t.make("target/c");
    const list = Object.freeze([bind("a", 7000), bind("b", 8000), overlay]);
    for (let round = 0; round < 10; round++) {
      await using _stack = await mountAll(list, `${t.dir}/target`);
      const uids = ["a", "b", "c"].map((name) => Deno.statSync(`${t.dir}/target/${name}`).uid);
      assertEquals(uids, [7000, 8000, 7000]);
    }
  },
);

Deno.test("removeIdMapOption() removes id maps from options, also from entries with commas", () => {
  const bind = { type: "bind", source: "/source" };
  const list = [
    { ...bind, options: ["rbind", ...options] },
    { ...bind, options: ["rbind,uidmap=0:1:1,5:6:7,gidmap=0:1:1,nosuid"] },
    bind,
  ];
  const plain = removeIdMapOption(list);
  assertEquals(plain.map((mount) => mount.options), [["rbind"], ["rbind", "nosuid"], undefined]);
});

kernelTest(
  "without the id maps, a user without CAP_SETUID can mount the list, read-only as a tree",
  { features: ["mountSetattr"] },
  async (t) => {
    const source = t.make("source");
    const mapped = [{ type: "bind", source, options: ["rbind", ...options] }];
    const [uid] = await withReadonlyTempMount(
      removeIdMapOption(mapped),
      (root) => owner(Deno.statSync(root)),
    );
    assertEquals(uid, Deno.statSync(source).uid);
  },
);
