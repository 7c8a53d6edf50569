import { listMounts, parseMountInfo } from "../../mod.ts";
import { diffTables, type MountEvent } from "../../linux/mountinfo/diff.ts";
import { isServed, PSEUDO_FILESYSTEMS } from "../../linux/mountinfo/filesystem_types.ts";
import type { MountInfo } from "../../linux/mountinfo/parse_mountinfo.ts";
import {
  mountAt,
  mountIdAt,
  statxMount,
  statxMountUnique,
  statxMountUniqueFd,
  uniqueMountAt,
} from "../../linux/mountinfo/statx_mount.ts";
import * as linux from "../../linux/mod.ts";
import { atOnce } from "../../linux/path/steps.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";

/** The events between two tables, without pauses. */
function compared(...tables: Parameters<typeof diffTables<number>>): MountEvent[] {
  return atOnce(diffTables(...tables));
}

Deno.test("parseMountInfo() refuses a line that is not of mountinfo, and names it", () => {
  const good = "36 35 98:0 / /mnt rw - ext4 /dev/sda1 rw";
  const bad = [
    "x 35 98:0 / /mnt rw - ext4 /dev/sda1 rw",
    "36 35x 98:0 / /mnt rw - ext4 /dev/sda1 rw",
    "-36 35 98:0 / /mnt rw - ext4 /dev/sda1 rw",
    "36 35 98 / /mnt rw - ext4 /dev/sda1 rw",
    "36 35 98:x / /mnt rw - ext4 /dev/sda1 rw",
    "36 35 :0 / /mnt rw - ext4 /dev/sda1 rw",
    "36 35 98:0  /mnt rw - ext4 /dev/sda1 rw",
    "36 35 98:0 /  rw - ext4 /dev/sda1 rw",
    "36 35 98:0 / /mnt  - ext4 /dev/sda1 rw",
    "36 35 98:0 / /mnt rw -  /dev/sda1 rw",
    "36 35 98:0 / /mnt rw ext4 /dev/sda1 rw",
    "36 35 98:0 / /mnt rw - ext4",
    "36 35 98:0 / /mnt - ext4 /dev/sda1 rw",
    "1234567890123456 35 98:0 / /mnt rw - ext4 /dev/sda1 rw",
    "36",
    " ",
  ];
  for (const line of bad) {
    for (const table of [line, `${line}\n`, `${good}\n${line}\n${good}`]) {
      const number = table.startsWith(good) ? 2 : 1;
      assertThrows(
        () => parseMountInfo(table),
        TypeError,
        `line ${number} is not in the format of mountinfo: "`,
      );
    }
  }
  assertEquals(parseMountInfo("").length, 0);
  assertEquals(parseMountInfo(`\n${good}\n\n${good}`).length, 2);
  assertThrows(() => parseMountInfo(`${good}\n\nbad`), TypeError, "line 3");
});

Deno.test("parseMountInfo() takes any number of optional fields, and what only looks like a separator", () => {
  const [one] = parseMountInfo("1 2 3:4 / /- - a:1 b:2 c - t - rw,x - y\n");
  assertEquals(one, {
    id: 1,
    parent: 2,
    major: 3,
    minor: 4,
    root: "/",
    mountpoint: "/-",
    options: "-",
    optional: "a:1 b:2 c",
    fsType: "t",
    source: "-",
    vfsOptions: "rw,x - y",
  });
  assertEquals(parseMountInfo("1 2 3:4 / / rw - t s\n")[0]?.vfsOptions, "");
  const [escaped] = parseMountInfo("1 2 3:4 /r\\040 /m\\012 rw - t\\134 s\\011 rw,o=\\054\n");
  assertEquals([escaped?.root, escaped?.mountpoint, escaped?.fsType, escaped?.source, escaped?.vfsOptions], [
    "/r ",
    "/m\n",
    "t\\",
    "s\t",
    "rw,o=\\054", // its options stay as they are written
  ]);
});

Deno.test("isServed() is true for the file systems that a process or a peer serves", () => {
  const all = ["fuse", "fuseblk", "fuse.sshfs", "fuseblk.ntfs", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph"];
  for (const type of [...all, "afs", "autofs", "virtiofs"]) assert(isServed(type), type);
  const local = [
    "fusectl",
    "nfsd",
    "ext4",
    "tmpfs",
    "overlay",
    "proc",
    "fuseblks",
    "xnfs",
    "cephx",
    "",
    "btrfs",
  ];
  for (const type of local) assert(!isServed(type), type);
});

Deno.test("file systems that show the kernel's own state hold no data", () => {
  assert(
    ["proc", "sysfs", "cgroup2", "devpts", "devtmpfs", "mqueue", "fusectl"].every((type) =>
      PSEUDO_FILESYSTEMS.has(type)
    ),
  );
  assert(
    ["tmpfs", "ramfs", "overlay", "hugetlbfs", "ext4", "fuse"].every((type) => !PSEUDO_FILESYSTEMS.has(type)),
  );
});

const info = (id: number, mountpoint: string, more: Partial<MountInfo> = {}): MountInfo => ({
  id,
  parent: 1,
  major: 0,
  minor: id,
  root: "/",
  mountpoint,
  options: "rw",
  optional: "",
  fsType: "tmpfs",
  source: "t",
  vfsOptions: "rw",
  ...more,
});
const table = (...mounts: MountInfo[]) =>
  new Map([info(1, "/", { parent: 0 }), ...mounts].map((mount) => [mount.id, mount]));
const kindsOf = (events: MountEvent[]) =>
  events.map((event) => event.kind === "transient" ? event.kind : `${event.kind} ${event.mount.mountpoint}`);

Deno.test("two tables: what was unmounted comes first and in reverse, then what was mounted", () => {
  const before = table(info(2, "/a"), info(3, "/a/b"), info(4, "/c"));
  const after = table(info(4, "/c"), info(5, "/d"), info(6, "/d/e"));
  assertEquals(kindsOf(compared(before, after, false)), [
    "unmounted /a/b",
    "unmounted /a",
    "mounted /d",
    "mounted /d/e",
  ]);
  assertEquals(compared(after, after, true), []);
});

Deno.test("two tables: a mount with the id of another is not the same", () => {
  const old = info(2, "/a");
  const others = [
    info(2, "/a", { major: 8 }),
    info(2, "/a", { minor: 9 }),
    info(2, "/a", { root: "/sub" }),
    info(2, "/a", { fsType: "ramfs" }),
    info(2, "/a", { source: "other" }),
  ];
  for (const other of others) {
    assertEquals(kindsOf(compared(table(old), table(other), false)), ["unmounted /a", "mounted /a"]);
  }
});

Deno.test("two tables: a moved mount is reported, and not those below it", () => {
  const before = table(info(2, "/a"), info(3, "/a/b", { parent: 2 }), info(4, "/x"));
  const after = table(info(2, "/c"), info(3, "/c/b", { parent: 2 }), info(4, "/x"));
  const [event, ...more] = compared(before, after, true);
  assertEquals(more, []);
  assert(event?.kind === "moved");
  assertEquals([event.before.mountpoint, event.mount.mountpoint], ["/a", "/c"]);
  const parent = table(info(2, "/a"), info(3, "/a/b", { parent: 4 }), info(4, "/a"));
  assertEquals(
    kindsOf(compared(table(info(2, "/a"), info(3, "/a/b", { parent: 2 }), info(4, "/a")), parent, true)),
    [
      "moved /a/b",
    ],
  );
  const inside = table(info(2, "/a"), info(3, "/a/d", { parent: 2 }), info(4, "/x"));
  assertEquals(kindsOf(compared(before, inside, false)), ["moved /a/d"]);
});

Deno.test("two tables: options and propagation are changes, and reported only if asked for", () => {
  const before = table(info(2, "/a"));
  for (const change of [{ options: "ro" }, { vfsOptions: "ro" }, { optional: "shared:1" }]) {
    const after = table(info(2, "/a", change));
    assertEquals(kindsOf(compared(before, after, true)), ["changed /a"]);
    assertEquals(compared(before, after, false), []);
    const [event] = compared(before, after, true);
    assert(event?.kind === "changed");
    assertEquals([event.before, event.mount], [info(2, "/a"), info(2, "/a", change)]);
  }
});

kernelTest("a path's mount is read by statx(2): its ids, its device, and whether the path is its root", {
  root: true,
}, async (t) => {
  const root = t.make("root");
  linux.mount("t", root, "tmpfs", 0, null);
  try {
    t.make("root/in", "bound");
    Deno.writeTextFileSync(`${t.dir}/file`, "");
    Deno.symlinkSync(root, `${t.dir}/link`);
    linux.mount(`${root}/in`, `${t.dir}/bound`, null, linux.MS_BIND, null);
    const rows = new Map((await listMounts()).map((row) => [row.mountpoint, row]));
    const [top, bound] = [rows.get(root), rows.get(`${t.dir}/bound`)];
    assert(top && bound);
    const device = top.major * 2 ** 20 + top.minor;
    const mount = statxMount(root);
    assertEquals(mount, { isRoot: true, mountId: top.id, isUnique: false, device, isFirst: true });
    const below = statxMount(t.dir); // usually on a disk, whose major number is not 0
    const disk = [...rows.values()].find(({ id }) => id === below.mountId);
    assertEquals(below.device, (disk?.major ?? 0) * 2 ** 20 + (disk?.minor ?? 0));
    assertEquals(statxMount(`${root}/in`), { ...mount, isRoot: false, isFirst: false });
    assertEquals(statxMount(`${t.dir}/bound`), { ...mount, mountId: bound.id, isFirst: false });
    assertEquals(statxMount(`${t.dir}/link`), mount);
    assertEquals(statxMount(`${t.dir}/link`, linux.AT_SYMLINK_NOFOLLOW).isRoot, false);
    assertEquals([mountIdAt(linux.AT_FDCWD, root), mountIdAt(linux.AT_FDCWD, `${t.dir}/bound`)], [
      top.id,
      bound.id,
    ]);
    assertEquals([mountAt(root)?.mountId, uniqueMountAt(root)?.isRoot], [top.id, true]);
    for (const none of [`${root}/in`, `${t.dir}/none`, `${t.dir}/file/below`]) {
      assertEquals([mountAt(none), uniqueMountAt(none)], [undefined, undefined]);
    }
    assertThrows(() => mountAt("x".repeat(300)), linux.SyscallError, "ENAMETOOLONG");

    const unique = statxMountUnique(root);
    using file = linux.open(root, linux.O_PATH);
    assertEquals(statxMountUniqueFd(file), unique);
    assertEquals(mountIdAt(file.fd, ""), top.id);
    if (linux.hasFeature("statmount")) {
      assertEquals([unique.isUnique, uniqueMountAt(root)?.mountId], [true, unique.mountId]);
      assertEquals(linux.statmount(BigInt(unique.mountId), linux.STATMOUNT_MNT_BASIC).oldId, top.id);
    }
    using _older = linux.pretendMissing("statmount");
    assertEquals(statxMountUnique(root), mount);
  } finally {
    for (const name of ["bound", "root"]) {
      if (t.mounts().some(({ mountpoint }) => mountpoint === `/${name}`)) {
        linux.umount2(`${t.dir}/${name}`, 0);
      }
    }
  }
});

kernelTest("listMounts() reads the table of a process, and refuses a pid that is none", {}, async () => {
  for (const pid of [0, -1, 1.5, NaN, 2 ** 60]) {
    await assertRejects(() => listMounts({ pid }), TypeError, "a pid is a positive whole number");
  }
  await assertRejects(() => listMounts({ pid: 2 ** 22 + 1 }), linux.SyscallError, "ENOENT");
  assertEquals(await listMounts({ pid: Deno.pid }), await listMounts());
});

Deno.test("parseMountInfo() reads a long table of bytes as it reads its text, and counts its lines", () => {
  const line = (number: number) =>
    `${number} 1 0:${number} / /mnt/ü${"x".repeat(number % 300)} rw - tmpfs t${number} rw\n`;
  const text = Array.from({ length: 2000 }, (_, number) => line(number)).join("");
  const bytes = new TextEncoder().encode(text);
  assertEquals(parseMountInfo(bytes), parseMountInfo(text));
  assertEquals(parseMountInfo(bytes.subarray(0, -1)), parseMountInfo(text));
  assertThrows(() => parseMountInfo(new TextEncoder().encode(`${text}bad`)), TypeError, "line 2001 ");
});

Deno.test("a mount that is kept of a list does not keep the table", async () => {
  const program = `
    import { parseMountInfo } from "${import.meta.resolve("../../mod.ts")}";
    const line = "36 35 98:0 / /a/mountpoint/with/a/long/name rw,noatime - ext4 /dev/a/long/name rw,errors=continue\\n";
    const table = new TextEncoder().encode(line.repeat(10_000)); // a megabyte
    const first = () => ({ stop: true });
    parseMountInfo(table, first);
    gc();
    const before = Deno.memoryUsage().heapUsed;
    const kept = Array.from({ length: 100 }, () => parseMountInfo(table, first));
    gc();
    console.log(kept.length, Deno.memoryUsage().heapUsed - before);`;
  const args = ["eval", "--v8-flags=--expose-gc", "--no-config", program];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args }).output();
  const [count = 0, bytes = Infinity] = new TextDecoder().decode(stdout).trim().split(" ").map(Number);
  assertEquals(count, 100);
  assert(bytes < 5_000_000, `100 mounts keep ${bytes} bytes`);
});
