import {
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  STATX_BASIC_STATS,
  STATX_MNT_ID,
} from "../../linux/syscalls/constants.ts";
import { statfs, statx } from "../../linux/syscalls/mod.ts";
import { assertEquals, assertMatch } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { readText } from "../kernel.ts";

const root = new URL("../../", import.meta.url).href;

// All calls run on the main thread, the only one that strace follows. strace knows the numbers, flags and structs of each
// architecture from the kernel's headers.
const calls: [call: string, seen: RegExp][] = [
  [
    "linux.open(dir, linux.O_PATH | linux.O_DIRECTORY | linux.O_NOFOLLOW)",
    /openat\(AT_FDCWD, "DIR", O_RDONLY\|O_NOFOLLOW\|O_CLOEXEC\|O_PATH\|O_DIRECTORY\) = \d+/,
  ],
  [
    "linux.open(file, linux.O_RDWR | linux.O_DIRECT | linux.O_NONBLOCK)",
    /openat\(AT_FDCWD, "DIR\/file", O_RDWR\|O_NONBLOCK\|O_DIRECT\|O_CLOEXEC\) = /,
  ],
  [
    "linux.getdents64(linux.open(dir, linux.O_RDONLY).fd)",
    /getdents64\(\d+, \[\{d_ino=\d+, d_off=\d+, d_reclen=\d+, d_type=DT_\w+, d_name=".*"\}.*\], 32768\) = \d+/,
  ],
  [
    "linux.openat2(linux.AT_FDCWD, dir, linux.O_PATH | linux.O_DIRECTORY, 31 ^ linux.RESOLVE_BENEATH)",
    new RegExp(
      String.raw`openat2\(AT_FDCWD, "DIR", \{flags=O_RDONLY\|O_CLOEXEC\|O_PATH\|O_DIRECTORY, ` +
        String
          .raw`resolve=RESOLVE_NO_XDEV\|RESOLVE_NO_MAGICLINKS\|RESOLVE_NO_SYMLINKS\|RESOLVE_IN_ROOT\}, 24\) = `,
    ),
  ],
  [
    `linux.openTree(linux.AT_FDCWD, dir, linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE)`,
    /open_tree\(AT_FDCWD, "DIR", OPEN_TREE_CLONE\|OPEN_TREE_CLOEXEC\|AT_RECURSIVE\) = \d+/,
  ],
  [
    "linux.moveMount(tree, '', linux.AT_FDCWD, dir + '/none', linux.MOVE_MOUNT_F_EMPTY_PATH)",
    /move_mount\(\d+, "", AT_FDCWD, "DIR\/none", MOVE_MOUNT_F_EMPTY_PATH.*\) = -1 ENOENT/,
  ],
  ["context = linux.fsopen('tmpfs').fd", /fsopen\("tmpfs", FSOPEN_CLOEXEC\) = \d+/],
  ["linux.fsconfigSetFlag(context, 'ro')", /fsconfig\(\d+, FSCONFIG_SET_FLAG, "ro", NULL, 0\) = 0/],
  [
    "linux.fsconfigSetString(context, 'size', '1m')",
    /fsconfig\(\d+, FSCONFIG_SET_STRING, "size", "1m", 0\) = 0/,
  ],
  ["linux.fsconfigCreate(context)", /fsconfig\(\d+, FSCONFIG_CMD_CREATE, NULL, NULL, 0\) = 0/],
  [
    "made = linux.fsmount(context, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODIRATIME).fd",
    /fsmount\(\d+, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID\|MOUNT_ATTR_NODIRATIME\) = \d+/,
  ],
  [
    "linux.fspick(made, '', linux.FSPICK_EMPTY_PATH)",
    /fspick\(\d+, "", FSPICK_CLOEXEC\|FSPICK_EMPTY_PATH\) = /,
  ],
  [
    "linux.mountSetattr(made, '', linux.AT_EMPTY_PATH, { set: linux.MOUNT_ATTR_RDONLY, clear: linux.MOUNT_ATTR_NOSUID, " +
    "propagation: linux.MS_PRIVATE })",
    new RegExp(
      String.raw`mount_setattr\(\d+, "", AT_EMPTY_PATH, \{attr_set=MOUNT_ATTR_RDONLY, ` +
        String.raw`attr_clr=MOUNT_ATTR_NOSUID, propagation=MS_PRIVATE, userns_fd=0\}, 32\) = 0`,
    ),
  ],
  [
    "linux.statx(linux.AT_FDCWD, dir, linux.AT_STATX_DONT_SYNC, linux.STATX_BASIC_STATS)",
    /statx\(AT_FDCWD, "DIR", AT_STATX_DONT_SYNC, STATX_BASIC_STATS, \{/,
  ],
  [
    "linux.mount('a', dir + '/none', 'tmpfs', linux.MS_NOSUID | linux.MS_NOATIME | linux.MS_LAZYTIME, 'size=1m')",
    /mount\("a", "DIR\/none", "tmpfs", MS_NOSUID\|MS_NOATIME\|MS_LAZYTIME, "size=1m"\) = -1 ENOENT/,
  ],
  [
    "linux.umount2(dir + '/none', linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)",
    /umount2\("DIR\/none", MNT_DETACH\|UMOUNT_NOFOLLOW\) = -1 ENOENT/,
  ],
  [
    "linux.unlinkat(linux.AT_FDCWD, dir + '/none', linux.AT_REMOVEDIR)",
    /unlinkat\(AT_FDCWD, "DIR\/none", AT_REMOVEDIR\) = -1 ENOENT/,
  ],
  ["at = linux.open(dir, linux.O_PATH).fd", /openat\(AT_FDCWD, "DIR", O_RDONLY\|O_CLOEXEC\|O_PATH\) = \d+/],
  ["linux.mkdirat(at, 'new', 0o700)", /mkdirat\(\d+, "new", 0700\) = 0/],
  [
    "linux.mknodat(at, 'device', linux.S_IFBLK | 0o640, 259, 1048575)",
    /mknodat\(\d+, "device", S_IFBLK\|0640, makedev\(0x103, 0xfffff\)\) = /,
  ],
  ["linux.mknodat(at, 'pipe', linux.S_IFIFO | 0o600)", /mknodat\(\d+, "pipe", S_IFIFO\|0600\) = 0/],
  ["linux.linkat(at, 'pipe', at, 'linked')", /linkat\(\d+, "pipe", \d+, "linked", 0\) = 0/],
  ["linux.symlinkat('/usr', at, 'symlink')", /symlinkat\("\/usr", \d+, "symlink"\) = 0/],
  ["linux.readlinkat(at, 'symlink')", /readlinkat\(\d+, "symlink", "\/usr", 4096\) = 4/],
  [
    "linux.utimensat(at, 'symlink', { atime: -1, atimeNsec: 2, mtime: 3, mtimeNsec: 4 }, linux.AT_SYMLINK_NOFOLLOW)",
    new RegExp(
      String.raw`utimensat\(\d+, "symlink", \[\{tv_sec=-1, tv_nsec=2\}.*, \{tv_sec=3, tv_nsec=4\}.*\], ` +
        String.raw`AT_SYMLINK_NOFOLLOW\) = 0`,
    ),
  ],
  [
    "linux.setxattr(file, 'trusted.a', new Uint8Array([1, 0]))",
    /setxattr\("DIR\/file", "trusted\.a", "\\1", 2, 0\) = 0/,
  ],
  ["linux.listxattr(file)", /listxattr\("DIR\/file", "trusted\.a\\0", 65536\) = 10/],
  ["linux.getxattr(file, 'trusted.a')", /getxattr\("DIR\/file", "trusted\.a", "\\1", 65536\) = 2/],
  ["opened = linux.open(file, linux.O_RDWR).fd", /openat\(AT_FDCWD, "DIR\/file", O_RDWR\|O_CLOEXEC\) = /],
  ["linux.ftruncate(opened, 5000000000)", /ftruncate\(\d+, 5000000000\) = 0/],
  ["linux.lseek(opened, 4096, linux.SEEK_HOLE)", /lseek\(\d+, 4096, SEEK_HOLE\) = 4096/],
  ["linux.lseek(opened, 4096, linux.SEEK_DATA)", /lseek\(\d+, 4096, SEEK_DATA\) = -1 ENXIO/],
  ["linux.lseek(opened, 5000000000, linux.SEEK_SET)", /lseek\(\d+, 5000000000, SEEK_SET\) = 5000000000/],
  [
    "linux.sendDatagram('@none', new TextEncoder().encode('READY=1'))",
    /socket\(AF_UNIX, SOCK_DGRAM\|SOCK_CLOEXEC, 0\) = \d+/,
  ],
  [
    "",
    /sendto\(\d+, "READY=1", 7, MSG_NOSIGNAL, \{sa_family=AF_UNIX, sun_path=@"none"\}, 7\) = -1 ECONNREFUSED/,
  ],
  [
    "linux.sendDatagram(dir + '/none', new TextEncoder().encode('READY=1'))",
    /sendto\(\d+, "READY=1", 7, MSG_NOSIGNAL, \{sa_family=AF_UNIX, sun_path="DIR\/none"\}, \d+\) = -1 ENOENT/,
  ],
  ["pair = linux.socketPair()", /socketpair\(AF_UNIX, SOCK_SEQPACKET\|SOCK_CLOEXEC, 0, \[\d+, \d+\]\) = 0/],
  [
    "linux.sendMessage(pair[0].fd, new TextEncoder().encode('hello'), [1, 2])",
    new RegExp(
      String
        .raw`sendmsg\(\d+, \{msg_name=NULL, msg_namelen=0, msg_iov=\[\{iov_base="hello", iov_len=5\}\], ` +
        String.raw`msg_iovlen=1, msg_control=\[\{cmsg_len=24, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, ` +
        String
          .raw`cmsg_data=\[1, 2\]\}\], msg_controllen=24, msg_flags=0\}, MSG_DONTWAIT\|MSG_NOSIGNAL\) = 5`,
    ),
  ],
  [
    "linux.tryReceiveMessage(pair[1].fd, 64)",
    /recvmsg\(\d+, \{.*iov_base="hello", iov_len=64.*cmsg_type=SCM_RIGHTS, cmsg_data=\[\d+, \d+\].*\}, MSG_DONTWAIT\|MSG_CMSG_CLOEXEC\) = 5/,
  ],
  ["linux.memfdCreate('example')", /memfd_create\("example", MFD_CLOEXEC\) = \d+/],
  ["linux.pipe()", /pipe2\(\[\d+, \d+\], O_CLOEXEC\) = 0/],
  ["linux.setCloseOnExec(pair[0].fd, false)", /fcntl\(\d+, F_SETFD, 0\) = 0/],
  ["linux.isCloseOnExec(pair[0].fd)", /fcntl\(\d+, F_GETFD\) = 0/],
  ["linux.dup2(2, pair[0].fd)", /dup2\(2, \d+\) = \d+|dup3\(2, \d+, 0\) = \d+/],
  ["linux.pivotRoot(dir + '/none', '/')", /pivot_root\("DIR\/none", "\/"\) = -1 ENOENT/],
  ["linux.setHostname('x'.repeat(65))", /sethostname\(0x[0-9a-f]+, 65\) = -1 EINVAL/],
  ["linux.waitidAny()", /waitid\(P_ALL, 0, .*, WNOHANG\|WEXITED, NULL\) = /],
  ["linux.signalGroup(Deno.pid, 0)", /kill\(-\d+, 0\) = /],
  ["linux.setIds(0, 0)", /setresgid\(0, 0, 0\) = 0/],
  ["", /setresuid\(0, 0, 0\) = 0/],
  ["linux.getegid()", /getegid\(\) = 0/],
  [
    "linux.posixSpawn({ path: dir + '/none', args: ['none'], env: {}, stdio: [0, 1, 2] })",
    /close_range\(3, 4294967295, CLOSE_RANGE_CLOEXEC\) = 0/,
  ],
  ["linux.pidfdSendSignal(linux.pidfdOpen(Deno.pid).fd, 0)", /pidfd_open\(\d+, 0\) = \d+/],
  ["", /pidfd_send_signal\(\d+, 0, NULL, 0\) = 0/],
  // These can't be undone, so they are the last.
  ["linux.joinSessionKeyring()", /keyctl\(KEYCTL_JOIN_SESSION_KEYRING, NULL\) = \d+/],
  ["(await createUserNamespace('0:0:1', '0:0:1')).close()", /clone\(.*flags=.*CLONE_PIDFD.*CLONE_NEWUSER/],
  ["", /waitid\(P_PIDFD, \d+, \{.*\}, WEXITED\|__WALL, NULL\) = 0/],
  ["linux.dropCapabilities()", /prctl\(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0\) = 0/],
  ["", /prctl\(PR_CAPBSET_DROP, CAP_SYS_ADMIN\) = 0/],
  [
    "",
    /capset\(\{version=_LINUX_CAPABILITY_VERSION_3, pid=0\}, \{effective=0, permitted=0, inheritable=0\}\) = 0/,
  ],
  ["linux.setParentDeathSignal(9)", /prctl\(PR_SET_PDEATHSIG, SIGKILL\) = 0/],
  [
    "linux.lockForReading(linux.open('/etc/passwd', 0).fd)",
    /fcntl\(\d+, F_SETLK, \{l_type=F_RDLCK, l_whence=SEEK_SET, l_start=0, l_len=0\}\) = 0/,
  ],
  ["linux.setNoNewPrivs()", /prctl\(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0\) = 0/],
  ["linux.setUndumpable()", /prctl\(PR_SET_DUMPABLE, SUID_DUMP_DISABLE\) = 0/],
];

kernelTest("strace decodes each call as written: its number, its flags and its structs", {
  features: ["mountSetattr", "openat2"],
  root: true,
  tools: ["strace"],
  permissions: { run: true },
}, async (t) => {
  Deno.writeTextFileSync(`${t.dir}/file`, "");
  // A call may fail: the test checks only how strace decodes it.
  const attempts = calls.filter(([call]) => call !== "").map(([call]) => `try { ${call}; } catch {}`);
  const program = `
    import * as linux from "${root}linux/mod.ts";
    import { createUserNamespace } from "${root}mod.ts";
    const dir = ${JSON.stringify(t.dir)}, file = dir + "/file";
    let context = -1, made = -1, at = -1, opened = -1, pair = [];
    const tree = linux.openTree(linux.AT_FDCWD, dir, linux.OPEN_TREE_CLONE).fd;
    ${attempts.join("\n")}
    Deno.exit();`;
  Deno.writeTextFileSync(`${t.dir}/program.ts`, program);
  const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`];
  const { code, stderr } = await new Deno.Command("strace", {
    args: ["-qq", "-v", "-o", `${t.dir}/trace`, ...deno],
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  const lines = Deno.readTextFileSync(`${t.dir}/trace`).replaceAll(t.dir, "DIR").replaceAll(/ +=/g, " =")
    .split("\n");
  // Only the calls of the program, without those of the runtime's start.
  const trace = lines.slice(lines.findIndex((line) => line.startsWith("open_tree("))).join("\n");
  for (const [, seen] of calls) assertMatch(trace, seen);
});

kernelTest("statx() and statfs() read the fields that stat(1) prints", {
  root: true,
  tools: ["stat", "mknod"],
}, async (t) => {
  await new Deno.Command("mknod", { args: ["-m", "640", `${t.dir}/device`, "c", "7", "259"] }).output();
  Deno.chownSync(`${t.dir}/device`, 1234, 56789);
  const print = async (...args: string[]) =>
    new TextDecoder().decode((await new Deno.Command("stat", { args }).output()).stdout).trim();

  const flags = AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC;
  const seen = statx(AT_FDCWD, `${t.dir}/device`, flags, STATX_BASIC_STATS | STATX_MNT_ID);
  const { mode, uid, gid, inode, devMajor, devMinor, rdevMajor, rdevMinor } = seen;
  const said = await print("--format=%f %u %g %i %Hd %Ld %Hr %Lr", `${t.dir}/device`);
  assertEquals(
    [mode.toString(16), uid, gid, inode, devMajor, devMinor, rdevMajor, rdevMinor].join(" "),
    said,
  );
  Deno.writeFileSync(`${t.dir}/file`, new Uint8Array(100_000));
  Deno.linkSync(`${t.dir}/file`, `${t.dir}/other-name`);
  await Deno.utime(`${t.dir}/file`, -3.5, 5_000_000_000.25);
  const file = statx(AT_FDCWD, `${t.dir}/file`, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS);
  assertEquals(
    `${file.links} ${file.blocks} ${file.size}`,
    await print("--format=%h %b %s", `${t.dir}/file`),
  );
  // stat(1) prints -3.5 for -4 seconds and 500,000,000 nanoseconds.
  const [atime = "", mtime = ""] = (await print("--format=%.9X %.9Y", `${t.dir}/file`)).split(" ");
  assertEquals([file.atime + file.atimeNsec / 1e9, file.mtime + file.mtimeNsec / 1e9], [
    Number(atime),
    Number(mtime),
  ]);
  const row = (readText("/proc/self/mountinfo") ?? "").split("\n").find((line) =>
    line.startsWith(`${seen.mountId} `)
  );
  assertMatch(row ?? "", new RegExp(`^\\d+ \\d+ ${devMajor}:${devMinor} `));

  const system = statfs("/proc");
  const { blockSize, blocks, files } = system;
  assertEquals(`${blockSize} ${blocks} ${files}`, await print("--file-system", "--format=%s %b %c", "/proc"));
  const whole = statfs(t.dir);
  assertEquals(
    `${whole.blockSize} ${whole.blocks}`,
    await print("--file-system", "--format=%s %b", t.dir),
  );
});
