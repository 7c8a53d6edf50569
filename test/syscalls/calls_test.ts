import * as linux from "../../linux/mod.ts";
import { pollOffThread } from "../../linux/syscalls/mod.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { linkText, names, parseTable, readText } from "../kernel.ts";
import * as raw from "../raw.ts";
import { say } from "../use/ways.ts";

const url = (file: string) => new URL(`../../${file}`, import.meta.url).href;
const isMounted = (source: string) =>
  parseTable(readText("/proc/self/mountinfo") ?? "").some((row) => row.source === source);

/** Runs a program in a new process, with these imports, and returns the lines that it prints. */
async function program(dir: string, text: string): Promise<string[]> {
  Deno.writeTextFileSync(
    `${dir}/program.ts`,
    `import * as linux from "${url("linux/mod.ts")}";
     import { linkText, names, readText } from "${url("test/kernel.ts")}";\n${text}`,
  );
  const args = ["run", "--quiet", "-A", "--no-config", "--no-check", `${dir}/program.ts`];
  const { out, err } = await say(Deno.execPath(), args);
  assertEquals(err, "");
  return out;
}

kernelTest("every descriptor that a call returns is closed by execve(2)", {
  features: ["mountApi"],
  root: true,
}, (t) => {
  using opened = new DisposableStack();
  const context = opened.use(linux.fsopen("tmpfs"));
  linux.fsconfigCreate(context.fd);
  const mounted = opened.use(linux.fsmount(context.fd, 0));
  const all = [
    context,
    mounted,
    linux.open(t.dir, linux.O_PATH),
    linux.openat(linux.AT_FDCWD, t.dir, linux.O_PATH),
    linux.openat2(linux.AT_FDCWD, t.dir, linux.O_PATH, 0),
    linux.openTree(linux.AT_FDCWD, t.dir, 0),
    linux.openTree(linux.AT_FDCWD, t.dir, linux.OPEN_TREE_CLONE),
    linux.fspick(mounted.fd, "", linux.FSPICK_EMPTY_PATH),
    linux.pidfdOpen(Deno.pid),
    linux.eventfd(linux.EFD_CLOEXEC),
  ];
  for (const owned of all) {
    opened.use(owned);
    const [, flags = "0"] = /flags:\s+(\d+)/.exec(readText(`/proc/self/fdinfo/${owned.fd}`) ?? "") ?? [];
    assert(parseInt(flags, 8) & linux.O_CLOEXEC, linkText(`/proc/self/fd/${owned.fd}`));
  }
});

kernelTest("readAll() and getdents64() return all of a long file and of a large directory", {}, (t) => {
  const content = new Uint8Array(200_000).map((_, index) => index * 7);
  Deno.writeFileSync(`${t.dir}/file`, content);
  using file = linux.open(`${t.dir}/file`, linux.O_RDONLY);
  for (const size of [1, 1000, 100_000, 199_999, 200_000, 200_001]) {
    linux.lseekStart(file.fd);
    assert(linux.readAll(file.fd, new Uint8Array(size)).toHex() === content.toHex(), `${size}`);
  }
  assertEquals(linux.readAll(file.fd), new Uint8Array(0));

  t.make("many");
  const longest = Array.from({ length: 1500 }, (_, index) => `${index}`.padStart(40, "n"));
  for (const name of longest) Deno.writeTextFileSync(`${t.dir}/many/${name}`, "");
  raw.mkdir(raw.path(`${t.dir}/many`, Uint8Array.of(0xff)));
  using directory = linux.open(`${t.dir}/many`, linux.O_RDONLY | linux.O_DIRECTORY);
  assertEquals(linux.getdents64(directory.fd).sort(), [...longest, "\udcff"].sort());
});

kernelTest("listmount() returns all mounts, also more than fit one call", {
  features: ["statmount"],
  root: true,
}, (t) => {
  linux.mount("base", t.dir, "tmpfs", linux.MS_NOSUID, "size=1m");
  linux.mount(null, t.dir, null, linux.MS_PRIVATE, null);
  try {
    t.make(...Array.from({ length: 11 }, (_, index) => `${index}`));
    for (let index = 0; index < 11; index++) { // each doubles the number of mounts
      linux.mount(t.dir, `${t.dir}/${index}`, null, linux.MS_BIND | linux.MS_REC, null);
    }
    const listed = linux.listmount(linux.LSMT_ROOT);
    const count = (readText("/proc/self/mountinfo") ?? "").trim().split("\n").length;
    assert(count > 2048);
    // The mount of the namespace's root directory is not in the list of mountinfo if this process's root is another.
    assert(listed.length === count || listed.length === count + 1, `${listed.length} of ${count}`);
    assertEquals(listed, [...new Set(listed)].sort((a, b) => a < b ? -1 : 1));
  } finally {
    linux.umount2(t.dir, linux.MNT_DETACH);
  }
});

kernelTest("statmount() returns fields that are longer than its first memory", {
  features: ["statmount"],
  root: true,
}, (t) => {
  const source = "s".repeat(4000);
  linux.mount(source, t.dir, "tmpfs", 0, "size=1m");
  try {
    const { mountId } = linux.statx(linux.AT_FDCWD, t.dir, 0, linux.STATX_MNT_ID_UNIQUE);
    const wanted = linux.STATMOUNT_SB_SOURCE | linux.STATMOUNT_MNT_POINT | linux.STATMOUNT_FS_TYPE;
    const mount = linux.statmount(mountId, wanted);
    assertEquals([mount.source, mount.mountpoint, mount.fsType, mount.root], [source, t.dir, "tmpfs", ""]);
    const { magic, superFlags } = linux.statmountBasic(Number(mountId));
    assertEquals([magic, superFlags & linux.MS_RDONLY], [linux.TMPFS_MAGIC, 0]);
    assertEquals(
      linux.statmount(mountId, linux.STATMOUNT_FS_TYPE).source,
      "",
      "a field that is not asked for",
    );
    const error = assertThrows(() => linux.statmount(2n ** 62n, wanted), linux.SyscallError);
    assertEquals([error.code, error.syscall], ["ENOENT", "statmount"]);
  } finally {
    linux.umount2(t.dir, 0);
  }
});

kernelTest("statmount() reads the subtype of a file system, also if nothing else is asked for", {
  features: ["statmount"],
  root: true,
}, (t) => {
  using server = linux.open("/dev/fuse", linux.O_RDWR); // it never answers
  linux.mount("s", t.dir, "fuse.odd", 0, `fd=${server.fd},rootmode=40000,user_id=0,group_id=0`);
  try {
    const { mountId } = linux.statx(
      linux.AT_FDCWD,
      t.dir,
      linux.AT_STATX_DONT_SYNC,
      linux.STATX_MNT_ID_UNIQUE,
    );
    const { fsSubtype, fsType, source, options } = linux.statmount(mountId, linux.STATMOUNT_FS_SUBTYPE);
    assertEquals([fsSubtype, fsType, source, options], ["odd", "", "", ""]);
  } finally {
    linux.umount2(t.dir, linux.MNT_DETACH);
  }
});

kernelTest("statmount() reads the flags of a superblock, and the group from which a slave's mounts come", {
  features: ["statmount"],
  root: true,
}, (t) => {
  t.make("a", "b", "c");
  const [a = "", b = "", c = ""] = ["a", "b", "c"].map((name) => `${t.dir}/${name}`);
  linux.mount("t", a, "tmpfs", linux.MS_RDONLY | linux.MS_LAZYTIME, null);
  try {
    linux.mount(null, a, null, linux.MS_SHARED, null);
    for (const [from, to, flags] of [[a, b, linux.MS_SHARED], [b, c, 0]] as const) {
      linux.mount(from, to, null, linux.MS_BIND, null);
      linux.mount(null, to, null, linux.MS_SLAVE, null);
      if (flags) linux.mount(null, to, null, flags, null);
    }
    // A peer of b that is not below this process's root, so that c's mounts come from a.
    using _peer = linux.openTree(linux.AT_FDCWD, b, linux.OPEN_TREE_CLONE);
    linux.umount2(b, linux.MNT_DETACH);
    const { mountId } = linux.statx(linux.AT_FDCWD, c, 0, linux.STATX_MNT_ID_UNIQUE);
    const wanted = linux.STATMOUNT_PROPAGATE_FROM | linux.STATMOUNT_MNT_BASIC | linux.STATMOUNT_SB_BASIC;
    const mount = linux.statmount(mountId, wanted);
    const row = t.mounts().find(({ mountpoint }) => mountpoint === "/c");
    assertMatch(row?.optional ?? "", /^master:\d+ propagate_from:\d+$/);
    assertEquals(`master:${mount.master} propagate_from:${mount.propagateFrom}`, row?.optional);
    assertEquals([mount.peerGroup, mount.propagation], [0, linux.MS_SLAVE]);
    assertEquals(
      mount.superFlags & (linux.MS_RDONLY | linux.MS_LAZYTIME),
      linux.MS_RDONLY | linux.MS_LAZYTIME,
    );
    assertEquals(linux.statmountBasic(Number(mountId)).superFlags, mount.superFlags);
  } finally {
    for (const { mountpoint } of t.mounts()) linux.umount2(`${t.dir}${mountpoint}`, linux.MNT_DETACH);
  }
});

kernelTest("statfs() counts the inodes of a file system, and those that are free", { root: true }, (t) => {
  linux.mount("t", t.dir, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,nr_inodes=100");
  try {
    t.make("one", "two");
    Deno.writeFileSync(`${t.dir}/file`, new Uint8Array(8192));
    const { type, blockSize, blocks, blocksFree, files, filesFree, flags } = linux.statfs(t.dir);
    assertEquals([type, blockSize, blocks, blocksFree], [linux.TMPFS_MAGIC, 4096, 256, 254]);
    assertEquals([files, filesFree, flags & 0xf], [100, 96, 6]); // ST_NOSUID, ST_NODEV
  } finally {
    linux.umount2(t.dir, 0);
  }
});

kernelTest("a mount or an unmount that fails on another thread fails with its errno and paths", {
  root: true,
}, async (t) => {
  const a = t.make("a");
  const failed = await assertRejects(
    () => linux.mountOffThread("s", `${t.dir}/none`, "tmpfs", 0, null),
    linux.SyscallError,
  );
  assertEquals([failed.code, failed.path, failed.dest], ["ENOENT", "s", `${t.dir}/none`]);
  await linux.mountOffThread("off-thread", a, "tmpfs", linux.MS_NODEV, "size=1m");
  assertEquals(t.mounts().map(({ source, options }) => [source, options.includes("nodev")]), [[
    "off-thread",
    true,
  ]]);
  Deno.symlinkSync(a, `${t.dir}/link`);
  const call = () => linux.umount2OffThread(`${t.dir}/link`, linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH);
  const link = await assertRejects(call, linux.SyscallError);
  assertEquals([link.code, isMounted("off-thread")], ["EINVAL", true]);
  {
    using _busy = linux.open(a, linux.O_RDONLY);
    const busy = await assertRejects(() => linux.umount2OffThread(a, 0), linux.SyscallError);
    assertEquals([busy.code, busy.path, isMounted("off-thread")], ["EBUSY", a, true]);
    await linux.umount2OffThread(a, linux.MNT_DETACH);
  }
  assertEquals(t.mounts(), []);
});

kernelTest("umount2() and mount() fail with the errno and the paths of the call", {
  features: ["mountSetattr", "openat2"],
  root: true,
}, (t) => {
  const none = `${t.dir}/none`;
  const cases: [() => void, string, string, string?][] = [
    [() => linux.mount("s", none, "tmpfs", 0, null), "ENOENT", "s", none],
    [() => linux.mount(null, none, null, linux.MS_REMOUNT, null), "ENOENT", none],
    [() => linux.umount2(t.dir, 0), "EINVAL", t.dir],
    [() => linux.open(none, 0), "ENOENT", none],
    [() => linux.openat2(linux.AT_FDCWD, none, 0, 0), "ENOENT", none],
    [() => linux.openTree(linux.AT_FDCWD, none, 0), "ENOENT", none],
    [() => linux.mountSetattr(linux.AT_FDCWD, none, 0, { set: linux.MOUNT_ATTR_RDONLY }), "ENOENT", none],
    [() => linux.fsopen("no-such-type"), "ENODEV", "no-such-type"],
    [() => linux.statx(linux.AT_FDCWD, none, 0, 0), "ENOENT", none],
    [() => linux.statfs(none), "ENOENT", none],
    [() => linux.readlink(t.dir), "EINVAL", t.dir],
    [() => linux.realpath(none), "ENOENT", none],
    [() => linux.mkdir(t.dir, 0o700), "EEXIST", t.dir],
    [() => linux.rmdir(none), "ENOENT", none],
    [() => linux.chmod(none, 0o700), "ENOENT", none],
    [() => linux.unlink(none), "ENOENT", none],
    [() => linux.link(t.dir, none), "EPERM", none],
    [() => linux.symlink("x", t.dir), "EEXIST", t.dir],
    [() => linux.mkdtemp(`${none}/`), "ENOENT", `${none}/XXXXXX`],
    [() => linux.pidfdOpen(2 ** 22 + 1), "ESRCH", `${2 ** 22 + 1}`],
  ];
  for (const [call, code, path, dest] of cases) {
    const error = assertThrows(call, linux.SyscallError);
    const paths = [error.path, error.dest].filter((text) => text !== undefined);
    assertEquals([error.code, ...paths], [code, path, ...dest === undefined ? [] : [dest]], `${call}`);
  }
});

kernelTest("pollOffThread() returns the events of each descriptor, once one has some", {}, async () => {
  const flags = linux.EFD_CLOEXEC | linux.EFD_NONBLOCK;
  using first = linux.eventfd(flags);
  using second = linux.eventfd(flags);
  const fds = [first, second].map(({ fd }) => ({ fd, events: linux.POLLIN }));
  const waiting = pollOffThread([...fds, { fd: first.fd, events: 4 }]); // POLLOUT: an eventfd can be written
  assertEquals(await waiting, [0, 0, 4]);
  const both = pollOffThread(fds);
  linux.write(second.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
  assertEquals(await both, [0, linux.POLLIN]);
  linux.write(first.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
  assertEquals(await pollOffThread(fds), [linux.POLLIN, linux.POLLIN]);
});

kernelTest("fsconfig(2): what fails names the parameter, and the kernel's messages are read", {
  features: ["mountApi"],
  root: true,
}, async () => {
  using context = linux.fsopen("tmpfs");
  const set = assertThrows(() => linux.fsconfigSetString(context.fd, "bogus", "1"), linux.SyscallError);
  assertEquals([set.code, set.path], ["EINVAL", "bogus=1"]);
  const flag = assertThrows(() => linux.fsconfigSetFlag(context.fd, "strange"), linux.SyscallError);
  assertEquals(flag.path, "strange");
  assertEquals(linux.readKernelMessages(context.fd), [
    "tmpfs: Unknown parameter 'bogus'",
    "tmpfs: Unknown parameter 'strange'",
  ]);
  const many = assertThrows(
    () => linux.fsconfigSetStrings(context.fd, "size", ["1m", "x"]),
    linux.SyscallError,
  );
  assertEquals([many.code, many.path], ["EINVAL", "size=x"]);
  for (let index = 0; index < 200; index++) { // more names than are kept
    const error = assertThrows(
      () => linux.fsconfigSetFlag(context.fd, `unknown${index}`),
      linux.SyscallError,
    );
    assertEquals(linux.readKernelMessages(context.fd).at(-1), `tmpfs: Unknown parameter '${error.path}'`);
  }
  assertEquals(await linux.fsconfigOffThread(context.fd, linux.FSCONFIG_CMD_CREATE), true);
  assertEquals(await linux.fsconfigOffThread(context.fd, linux.FSCONFIG_CMD_CREATE), false);
});

kernelTest("mountSetattr() changes only what is asked for, after a call with other fields", {
  features: ["mountSetattr"],
  root: true,
}, (t) => {
  linux.mount("t", t.dir, "tmpfs", linux.MS_NOSUID, null);
  try {
    using top = linux.open(t.dir, linux.O_PATH);
    const options = () => t.mounts().map(({ options, optional }) => [...options, optional].join(" "));
    linux.mountSetattr(top.fd, "", linux.AT_EMPTY_PATH, {
      set: linux.MOUNT_ATTR_NODEV,
      propagation: linux.MS_UNBINDABLE,
    });
    assertEquals(options(), ["rw nosuid nodev relatime unbindable"]);
    linux.mount(null, t.dir, null, linux.MS_PRIVATE, null);
    linux.mountSetattr(linux.AT_FDCWD, t.dir, 0, { clear: linux.MOUNT_ATTR_NOSUID });
    assertEquals(options(), ["rw nodev relatime "]);
    linux.mount(null, t.dir, null, linux.MS_UNBINDABLE, null);
    linux.mountSetattr(linux.AT_FDCWD, t.dir, 0, { propagation: linux.MS_PRIVATE });
    assertEquals(options(), ["rw nodev relatime "]);
  } finally {
    linux.umount2(t.dir, 0);
  }
});

kernelTest("the calls on paths do as their man pages say", { root: true }, (t) => {
  linux.mkdir(`${t.dir}/made`, 0o750);
  assertEquals((Deno.lstatSync(`${t.dir}/made`).mode ?? 0) & 0o777, 0o750);
  linux.chmod(`${t.dir}/made`, 0o705);
  linux.fchownat(linux.AT_FDCWD, `${t.dir}/made`, 12, -1, 0);
  using made = linux.open(`${t.dir}/made`, linux.O_RDONLY);
  linux.fchownat(made.fd, "", -1, 34, linux.AT_EMPTY_PATH);
  const { mode, uid, gid } = Deno.lstatSync(`${t.dir}/made`);
  assertEquals([(mode ?? 0) & 0o777, uid, gid], [0o705, 12, 34]);
  const long = "l".repeat(4095);
  Deno.symlinkSync(long, `${t.dir}/link`);
  assertEquals(linux.readlink(`${t.dir}/link`), long);
  Deno.symlinkSync("made/../made", `${t.dir}/short`);
  assertEquals([linux.readlink(`${t.dir}/short`), linux.realpath(`${t.dir}/short`)], [
    "made/../made",
    `${t.dir}/made`,
  ]);
  const temporary = linux.mkdtemp(`${t.dir}/x-`);
  assertMatch(temporary, new RegExp(`^${t.dir}/x-\\w{6}$`));
  linux.rmdir(temporary);
  {
    using file = linux.open(`${t.dir}/file`, linux.O_RDWR | linux.O_CREAT | linux.O_EXCL, 0o640);
    linux.ftruncate(file.fd, 2 ** 33);
    linux.link(`${t.dir}/file`, `${t.dir}/other`);
    const stat = Deno.lstatSync(`${t.dir}/other`);
    assertEquals([stat.size, (stat.mode ?? 0) & 0o777, stat.nlink, stat.blocks], [2 ** 33, 0o640, 2, 0]);
    linux.symlink("to/ä", `${t.dir}/symbolic`);
    assertEquals(Deno.readLinkSync(`${t.dir}/symbolic`), "to/ä");
    for (const name of ["file", "other", "symbolic"]) linux.unlink(`${t.dir}/${name}`);
  }
  assertEquals(names(t.dir), ["link", "made", "short"]);
  linux.flock(made.fd, linux.LOCK_EX);
  using again = linux.open(`${t.dir}/made`, linux.O_RDONLY);
  const error = assertThrows(() => linux.flock(again.fd, linux.LOCK_EX | linux.LOCK_NB), linux.SyscallError);
  assertEquals(error.code, "EAGAIN");
});

kernelTest("ignoreSignal() ignores a signal, also in the programs that the process starts", {
  permissions: { run: true, env: true },
}, async (t) => {
  const out = await program(
    t.dir,
    `const ignored = (text: string) => BigInt("0x" + /SigIgn:\\s*(\\w+)/.exec(text)![1]) & 1n;
     linux.ignoreSignal(1);
     const { stdout } = new Deno.Command("cat", { args: ["/proc/self/status"] }).outputSync();
     console.log(ignored(readText("/proc/self/status") ?? ""), ignored(new TextDecoder().decode(stdout)));`,
  );
  assertEquals(out, ["1n 1n"]);
});

kernelTest("a moment without free descriptors is not remembered as missing features", {
  permissions: { run: true, env: true },
  root: true,
}, async (t) => {
  const out = await program(
    t.dir,
    `const { symbols: libc } = Deno.dlopen("libc.so.6", {
       setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
       getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
     });
     linux.geteuid();
     const limit = new BigUint64Array(2);
     libc.getrlimit(7, limit); // RLIMIT_NOFILE
     const bytes = new Uint8Array(limit.buffer);
     libc.setrlimit(7, new Uint8Array(BigUint64Array.of(3n, limit[1]!).buffer));
     const during = linux.kernelFeatures();
     libc.setrlimit(7, bytes);
     console.log(JSON.stringify([during, linux.kernelFeatures()]));`,
  );
  const [during, after] = JSON.parse(out.join(""));
  const needDescriptor = [
    "openat2",
    "overlayLayers",
    "overlayDescriptors",
    "detachedLayers",
    "pidfdNamespaces",
    "mountEvents",
  ];
  assertEquals(needDescriptor.filter((name) => during[name]), []);
  assertEquals(after, linux.kernelFeatures());
});

kernelTest("statmountMany() reads what statmount() reads of each mount, also names that are not ASCII", {
  features: ["statmount"],
}, (t) => {
  const places = ["plain", "ärger→", "last"].map((name) => t.make(name));
  for (const place of places) linux.mount(`source of ${place}`, place, "tmpfs", 0, "size=64k");
  try {
    const ids = linux.listmount(linux.LSMT_ROOT);
    const mask = linux.STATMOUNT_MNT_BASIC | linux.STATMOUNT_MNT_POINT | linux.STATMOUNT_SB_SOURCE |
      linux.STATMOUNT_MNT_OPTS;
    const many = linux.statmountMany([...ids.map(Number), 2 ** 40], mask);
    assertEquals(many, [...ids.map((id) => linux.statmount(id, mask)), undefined]);
    const found = many.slice(-4, -1).map((mount) => [mount?.mountpoint, mount?.source]);
    assertEquals(found, places.map((place) => [place, `source of ${place}`]));
  } finally {
    for (const place of places) linux.umount2(place, 0);
  }
});
