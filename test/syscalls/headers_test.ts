import { errnoName } from "../../ffi/errno.ts";
import * as constants from "../../linux/syscalls/constants.ts";
import { assert, assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";

// The C compiler evaluates every constant, offset and size of the library by the installed headers. What the headers of
// Debian 12 (Linux 6.1) lack is listed here, with the version of the header that has it.

const root = new URL("../..", import.meta.url).pathname;

/** Includes of a C program. The headers of the kernel and those of the C library define the same structs. */
const KERNEL = `
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <linux/fanotify.h>
#include <linux/fs.h>
#include <linux/nsfs.h>
#include <linux/ioctl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <linux/loop.h>
#include <linux/sched.h>
#include <linux/time_types.h>
#include <linux/wait.h>
#include <linux/un.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <asm/poll.h>
#include <asm/signal.h>
#include <asm/statfs.h>
#include <asm/unistd.h>`;
const LIBC = `
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/ioctl.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <dirent.h>
#include <spawn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <signal.h>`;

/** Constants that no header of the kernel exports to programs. */
const ofLibc = ["MNT_FORCE", "MNT_DETACH", "MNT_EXPIRE", "UMOUNT_NOFOLLOW", "EFD_CLOEXEC", "EFD_NONBLOCK"];

const newer: Readonly<Record<string, [version: string, value: string]>> = {
  MOVE_MOUNT_BENEATH: ["6.5", "0x200"],
  STATX_MNT_ID_UNIQUE: ["6.8", "0x4000"],
  STATMOUNT_SB_BASIC: ["6.8", "0x1"],
  STATMOUNT_MNT_BASIC: ["6.8", "0x2"],
  STATMOUNT_PROPAGATE_FROM: ["6.8", "0x4"],
  STATMOUNT_MNT_ROOT: ["6.8", "0x8"],
  STATMOUNT_MNT_POINT: ["6.8", "0x10"],
  STATMOUNT_FS_TYPE: ["6.8", "0x20"],
  STATMOUNT_MNT_OPTS: ["6.11", "0x80"],
  STATMOUNT_FS_SUBTYPE: ["6.13", "0x100"],
  STATMOUNT_SB_SOURCE: ["6.13", "0x200"],
  STATMOUNT_SUPPORTED_MASK: ["6.15", "0x1000"],
  STATMOUNT_MNT_UIDMAP: ["6.15", "0x2000"],
  STATMOUNT_MNT_GIDMAP: ["6.15", "0x4000"],
  LSMT_ROOT: ["6.8", "0xffffffffffffffff"],
  FAN_REPORT_MNT: ["6.15", "0x4000"],
  FAN_MARK_MNTNS: ["6.15", "0x110"],
  FAN_MNT_ATTACH: ["6.15", "0x01000000"],
  FAN_MNT_DETACH: ["6.15", "0x02000000"],
  FAN_EVENT_INFO_TYPE_MNT: ["6.15", "7"],
  NS_GET_MNTNS_ID: ["6.11", "_IOR(0xb7, 5, __u64)"],
  PIDFD_GET_MNT_NAMESPACE: ["6.11", "_IO(0xff, 3)"],
  PIDFD_GET_USER_NAMESPACE: ["6.11", "_IO(0xff, 9)"],
  __NR_statmount: ["6.8", "457"],
  __NR_listmount: ["6.8", "458"],
  __NR_open_tree_attr: ["6.15", "467"],
};

/** Structs that are newer than the headers: their fields in order. */
const newerStructs = `
struct new_mnt_id_req { __u32 size, mnt_ns_fd; __u64 mnt_id, param; };                        /* 6.8 */
struct new_mnt_id_req_1 { __u32 size, mnt_ns_fd; __u64 mnt_id, param, mnt_ns_id; };           /* 6.11 */
struct new_statmount {                                                                        /* 6.15 */
  __u32 size, mnt_opts; __u64 mask; __u32 sb_dev_major, sb_dev_minor; __u64 sb_magic; __u32 sb_flags, fs_type;
  __u64 mnt_id, mnt_parent_id; __u32 mnt_id_old, mnt_parent_id_old; __u64 mnt_attr, mnt_propagation;
  __u64 mnt_peer_group, mnt_master, propagate_from; __u32 mnt_root, mnt_point; __u64 mnt_ns_id;
  __u32 fs_subtype, sb_source, opt_num, opt_array, opt_sec_num, opt_sec_array; __u64 supported_mask;
  __u32 mnt_uidmap_num, mnt_uidmap, mnt_gidmap_num, mnt_gidmap; char unused[344]; char str[];
};
struct new_info_mnt { struct { __u8 info_type, pad; __u16 len; } hdr; __u64 mnt_id; };         /* 6.15 */
struct utimensat_argument { struct __kernel_timespec times[2]; };`;

/** The structs of each file that accesses fields by their offsets: those that it reads, and those that it writes. */
const structs: Readonly<Record<string, { get?: string[]; set?: string[] }>> = {
  "linux/syscalls/at.ts": { set: ["struct utimensat_argument"] },
  "linux/syscalls/stat.ts": { get: ["struct statx", "struct statfs"] },
  "linux/syscalls/open.ts": { set: ["struct open_how"] },
  "linux/syscalls/open_how.ts": { set: ["struct open_how"] },
  "linux/syscalls/mount_tree.ts": { set: ["struct mount_attr"] },
  "linux/syscalls/statmount.ts": { get: ["struct new_statmount"], set: ["struct new_mnt_id_req_1"] },
  "linux/syscalls/notify.ts": { get: ["struct pollfd"], set: ["struct pollfd"] },
  "linux/syscalls/file.ts": { get: ["struct dirent64"] },
  "linux/syscalls/socket.ts": { set: ["struct sockaddr_un"] },
  "linux/syscalls/confine.ts": { set: ["struct __user_cap_header_struct"] },
  "linux/syscalls/path.ts": { get: ["struct file_handle"], set: ["struct file_handle"] },
  "linux/mountinfo/statx_mount.ts": { get: ["struct statx"] },
};

/** Structs of the C library, by how the names of their fields begin. */
const byPrefix: Readonly<Record<string, string>> = {
  f_: "struct statfs",
  cmsg_: "struct cmsghdr",
  msg_: "struct msghdr",
  iov_: "struct iovec",
  si_: "siginfo_t",
  l_: "struct flock",
};

/** Tables of offsets, by their file and name. */
const tables: [file: string, table: string, struct: string][] = [
  ["linux/mountinfo/watch_fanotify.ts", "METADATA", "struct fanotify_event_metadata"],
  ["linux/mountinfo/watch_fanotify.ts", "INFO", "struct new_info_mnt"],
  ["linux/syscalls/statmount.ts", "UIDMAP", "struct new_statmount"],
  ["linux/syscalls/statmount.ts", "GIDMAP", "struct new_statmount"],
  ["linux/loop/attached.ts", "INFO", "struct loop_info64"],
  ["linux/loop/loop.ts", "CONFIG", "struct loop_config"],
];

/** Other numbers, by the text before and after them. */
const numbers: [file: string, find: RegExp, expression: string, headers?: typeof LIBC][] = [
  ["linux/syscalls/stat.ts", /SIZE_OF_STATX = (\d+);/, "sizeof(struct statx)"],
  ["linux/syscalls/socket.ts", /SIZE_OF_SUN_PATH = (\d+);/, "sizeof(((struct sockaddr_un *)0)->sun_path)"],
  ["linux/syscalls/stat.ts", /SIZE_OF_STATFS = (\d+)/, "sizeof(struct statfs)"],
  ["linux/mountinfo/statx_mount.ts", /scratch = new Scratch\((\d+)\)/, "sizeof(struct statx)"],
  ["linux/syscalls/open.ts", /how = new Scratch\((\d+)\)/, "sizeof(struct open_how)"],
  ["linux/syscalls/open.ts", /how\.address, (\d+)n/, "sizeof(struct open_how)"],
  ["linux/syscalls/mount_tree.ts", /MOUNT_ATTR_SIZE = (\d+)n/, "MOUNT_ATTR_SIZE_VER0"],
  ["linux/syscalls/statmount.ts", /const request = new Scratch\((\d+)\)/, "sizeof(struct new_mnt_id_req_1)"],
  ["linux/syscalls/statmount.ts", /=== 0n \? (\d+) :/, "sizeof(struct new_mnt_id_req)"],
  ["linux/syscalls/statmount.ts", /=== 0n \? \d+ : (\d+)/, "sizeof(struct new_mnt_id_req_1)"],
  ["linux/syscalls/statmount.ts", /basicRequest = new Scratch\((\d+)\)/, "sizeof(struct new_mnt_id_req)"],
  [
    "linux/syscalls/statmount.ts",
    /setUint32\(0, (\d+), true\); \/\/ size/,
    "sizeof(struct new_mnt_id_req)",
  ],
  ["linux/syscalls/statmount.ts", /basicResult = new Scratch\((\d+)\)/, "sizeof(struct new_statmount)"],
  ["linux/syscalls/statmount.ts", /STRINGS_OFFSET = (\d+);/, "__builtin_offsetof(struct new_statmount, str)"],
  ["linux/syscalls/notify.ts", /struct\((\d+) \* fds/, "sizeof(struct pollfd)"],
  ["linux/syscalls/file.ts", /at \+ (\d+)\); \/\/ d_name/, "offsetof(struct dirent64, d_name)", LIBC],
  ["linux/syscalls/process.ts", /siginfo = new Uint8Array\((\d+)\)/, "sizeof(siginfo_t)", LIBC],
  ["linux/syscalls/at.ts", /times = new Scratch\((\d+)\)/, "sizeof(struct utimensat_argument)"],
  ["linux/syscalls/xattr.ts", /LARGEST = (\d+);/, "XATTR_LIST_MAX"],
  ["linux/syscalls/xattr.ts", /LARGEST = (\d+);/, "XATTR_SIZE_MAX"],
  ["linux/syscalls/at.ts", /PATH_MAX = (\d+);/, "PATH_MAX"],
  ["linux/syscalls/descriptor.ts", /FLOCK = (\d+);/, "sizeof(struct flock)", LIBC],
  ["linux/syscalls/descriptor.ts", /F_SETLK = (\d+);/, "F_SETLK", LIBC],
  ["linux/sandbox/terminal.ts", /TIOCSWINSZ = (\w+);/, "TIOCSWINSZ", LIBC],
  ["linux/sandbox/terminal.ts", /TIOCGPTN = (\w+);/, "TIOCGPTN", LIBC],
  ["linux/sandbox/terminal.ts", /TIOCSPTLCK = (\w+);/, "TIOCSPTLCK", LIBC],
  ["linux/syscalls/path.ts", /PATH_MAX = (\d+);/, "PATH_MAX"],
  ["linux/path/path.ts", /PATH_MAX = (\d+);/, "PATH_MAX"],
  ["linux/loop/attached.ts", /BLKSSZGET = (\w+);/, "BLKSSZGET"],
  ["linux/loop/attached.ts", /LO_NAME_SIZE: (\d+)/, "LO_NAME_SIZE"],
  ["linux/namespace/user.ts", /SIG_SETMASK = (\d+);/, "SIG_SETMASK"],
  ["linux/namespace/user.ts", /SIGSET = (\d+);/, "sizeof(sigset_t)", LIBC],
  ["linux/syscalls/process.ts", /SI_CODE = (\d+);/, "offsetof(siginfo_t, si_code) / 4", LIBC],
  ["linux/syscalls/process.ts", /SI_PID = (\d+);/, "offsetof(siginfo_t, si_pid) / 4", LIBC],
  ["linux/syscalls/process.ts", /SI_STATUS = (\d+);/, "offsetof(siginfo_t, si_status) / 4", LIBC],
  ["linux/syscalls/process.ts", /CLD_EXITED = (\d+);/, "CLD_EXITED", LIBC],
  ["linux/syscalls/message.ts", /MSG_NOSIGNAL = (\w+);/, "MSG_NOSIGNAL", LIBC],
  ["linux/syscalls/message.ts", /MSG_CMSG_CLOEXEC = (\w+);/, "MSG_CMSG_CLOEXEC", LIBC],
  ["linux/syscalls/spawn.ts", /SIGSET = (\d+);/, "sizeof(sigset_t)", LIBC],
  ["linux/syscalls/spawn.ts", /POSIX_SPAWN_SETSID = (\w+);/, "POSIX_SPAWN_SETSID", LIBC],
  ["linux/syscalls/confine.ts", /PR_SET_PDEATHSIG = (\d+);/, "PR_SET_PDEATHSIG"],
  ["linux/syscalls/confine.ts", /PR_SET_DUMPABLE = (\d+);/, "PR_SET_DUMPABLE"],
  ["linux/syscalls/confine.ts", /PR_CAPBSET_READ = (\d+);/, "PR_CAPBSET_READ"],
  ["linux/syscalls/confine.ts", /PR_CAPBSET_DROP = (\d+);/, "PR_CAPBSET_DROP"],
  ["linux/syscalls/confine.ts", /PR_SET_NO_NEW_PRIVS = (\d+);/, "PR_SET_NO_NEW_PRIVS"],
  ["linux/syscalls/confine.ts", /PR_CAP_AMBIENT = (\d+);/, "PR_CAP_AMBIENT"],
  ["linux/syscalls/confine.ts", /PR_CAP_AMBIENT_CLEAR_ALL = (\d+)n;/, "PR_CAP_AMBIENT_CLEAR_ALL"],
  ["linux/syscalls/confine.ts", /KEYCTL_JOIN_SESSION_KEYRING = (\d+);/, "KEYCTL_JOIN_SESSION_KEYRING"],
  ["linux/syscalls/confine.ts", /LINUX_CAPABILITY_VERSION_3 = (\w+);/, "_LINUX_CAPABILITY_VERSION_3"],
  ["linux/syscalls/message.ts", /\bMSGHDR = (\d+)/, "sizeof(struct msghdr)", LIBC],
  ["linux/syscalls/message.ts", /CMSGHDR = (\d+)/, "sizeof(struct cmsghdr)", LIBC],
  ["linux/syscalls/message.ts", /SCM_RIGHTS = (\w+);/, "SCM_RIGHTS", LIBC],
  ["ffi/private_thread.ts", /CLONE_FS = (\w+);/, "CLONE_FS"],
  ["ffi/namespace_thread.ts", /CLONE_FS = (\w+);/, "CLONE_FS"],
  ["ffi/namespace_thread.ts", /CLONE_NEWNS = (\w+);/, "CLONE_NEWNS"],
];

/** A number of the library, and the C expression of the same. */
interface Fact {
  /** Where it is, for the failure. */
  name: string;
  value: number | bigint;
  expression: string;
  headers: string;
}

function sources(): string[] {
  const files = (directory: string): string[] =>
    [...Deno.readDirSync(root + directory)].flatMap(({ name, isDirectory }) =>
      isDirectory ? files(`${directory}/${name}`) : `${directory}/${name}`
    );
  return ["ffi", "linux"].flatMap(files).filter((file) => file.endsWith(".ts")).sort();
}

const readSource = (file: string) => Deno.readTextFileSync(root + file);

/** The lines of code, without those of documentation. */
const codeLines = (file: string) =>
  readSource(file).split("\n").filter((line) => !/^\s*(\*|\/\*|\/\/)/.test(line));

/** Evaluates the facts by the compiler; undefined for a fact that the headers don't have. */
async function evaluate(
  t: KernelContext,
  headers: string,
  expressions: string[],
): Promise<Map<string, bigint>> {
  const optional = (name: string, print: string) =>
    name in newer ? `#ifdef ${name}\n${print}\n#endif` : print;
  const prints = expressions.map((text, index) =>
    optional(text, `printf("%d %lld\\n", ${index}, (long long) (${text}));`)
  );
  const source = `${headers}\n#include <stddef.h>\n#include <stdio.h>\n${
    headers === KERNEL ? newerStructs : ""
  }
int main(void) {\n${prints.join("\n")}\nreturn 0;\n}\n`;
  const program = `${t.dir}/${headers === KERNEL ? "kernel" : "libc"}`;
  Deno.writeTextFileSync(`${program}.c`, source);
  const compiler = await new Deno.Command("cc", { args: ["-o", program, `${program}.c`] }).output();
  assertEquals([compiler.code, new TextDecoder().decode(compiler.stderr)], [0, ""]);
  const { stdout } = await new Deno.Command(program).output();
  const rows = new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.split(" "));
  return new Map(rows.map(([index, value = ""]) => [expressions[Number(index)] ?? "", BigInt(value)]));
}

async function compare(t: KernelContext, facts: readonly Fact[]): Promise<void> {
  for (const [headers, all] of Map.groupBy(facts, (fact) => fact.headers)) {
    const values = await evaluate(t, headers, [...new Set(all.map(({ expression }) => expression))]);
    for (const { name, value, expression } of all) {
      const wanted = values.get(expression);
      if (wanted === undefined) assert(expression in newer, `${name}: ${expression} was not evaluated`);
      else assertEquals(BigInt.asIntN(64, BigInt(value)), wanted, `${name} is not ${expression}`);
    }
  }
}

const needs = { tools: ["cc"], permissions: { run: true } satisfies Deno.PermissionOptionsObject };

kernelTest("every constant has the value of the kernel's headers", needs, async (t) => {
  const exported = Object.entries(constants).flatMap(([name, value]): Fact[] => [
    { name, value, expression: name, headers: ofLibc.includes(name) ? LIBC : KERNEL },
    ...name in newer ? [{ name, value, expression: newer[name]?.[1] ?? "", headers: KERNEL }] : [],
  ]);
  const calls = sources().flatMap((file) =>
    [...readSource(file).matchAll(/const SYS_([a-z]\w*) = (.*?);/g)].flatMap(
      ([, call, text = ""]): Fact[] => {
        const [, arm64, x86] = /(?:aarch64"|arm64) \? (\d+) : (\d+)/.exec(text) ?? [];
        const value = Number(arm64 === undefined ? text : Deno.build.arch === "aarch64" ? arm64 : x86);
        const name = `__NR_${call}`;
        const expressions = [name, ...name in newer ? [newer[name]?.[1] ?? ""] : []];
        return expressions.map((expression) => ({
          name: `${file}: ${name}`,
          value,
          expression,
          headers: KERNEL,
        }));
      },
    )
  );
  const others = numbers.map(([file, find, expression, headers = KERNEL]): Fact => {
    const [, value] = find.exec(readSource(file)) ?? [];
    assert(value !== undefined, `${file} has no ${find}`);
    return { name: `${file}: ${find.source}`, value: Number(value), expression, headers };
  });
  assert(exported.length > 150 && calls.length >= 14, "constants are missing");
  await compare(t, [...exported, ...calls, ...others]);
});

kernelTest(
  "every field of a struct has the offset and the size of the kernel's headers",
  needs,
  async (t) => {
    const facts: Fact[] = [];
    const add = (file: string, struct: string, field: string, offset: number, bits: number) => {
      const name = `${file}: ${struct}.${field}`;
      const headers = /dirent|file_handle|msghdr|iovec|siginfo|flock/.test(struct) ? LIBC : KERNEL;
      const member = struct === "struct new_info_mnt" && field !== "mnt_id" ? `hdr.${field}` : field;
      facts.push({ name, value: offset, expression: `__builtin_offsetof(${struct}, ${member})`, headers });
      if (bits === 0) return;
      // A 64-bit field is also read and written by its lower half.
      const fits = `sizeof(((${struct} *) 0)->${member}) ${bits === 32 ? ">" : "="}= ${bits / 8}`;
      facts.push({ name: `${name}, ${bits} bits`, value: 1, expression: fits, headers });
    };

    for (const [file, table, struct] of tables) {
      const [, fields = ""] = new RegExp(`const ${table} = \\{([^}]*)\\}`).exec(readSource(file)) ?? [];
      const entries = [...fields.matchAll(/([a-z]\w*): (\d+)/g)];
      assert(entries.length > 1, `${file} has no ${table}`);
      for (const [, field = "", value] of entries) {
        if (field === "size") {
          facts.push({
            name: `${file}: ${table}.size`,
            value: Number(value),
            expression: `sizeof(${struct})`,
            headers: KERNEL,
          });
        } else add(file, struct, field, Number(value), 0);
      }
    }

    const access = /(get|set)(?:Big)?(?:Uint|Int)(16|32|64)(?:AsNumber)?\((?:[\w.]*view, )?([^,()]+)[,)]/;
    const string = /offset: (\d+) \}/;
    for (const file of sources()) {
      for (const line of codeLines(file)) {
        const [, way = "get", bits = "32", argument = ""] = access.exec(line) ??
          string.exec(line)?.toSpliced(1, 0, "get", "32") ?? [];
        const place = argument.replace(/\bat\b|8 \* index|index \* 8/, "0");
        if (
          !/^[\d +]+$/.test(place) || line.includes("idResult")
        ) continue;
        if (file === "linux/namespace/user.ts") continue; // tcbhead_t is internal to the C library
        const [, field = "", part] = /\/\/ (\w[\w.[\]]*)(, upper half)?/.exec(line) ?? [];
        const known = structs[file]?.[way as "get" | "set"] ?? [];
        const struct = known.find((name) => !name.endsWith("statfs") || field.startsWith("f_"));
        const chosen = Object.entries(byPrefix).find(([prefix]) => field.startsWith(prefix))?.[1] ?? struct;
        assert(
          chosen !== undefined && field !== "",
          `${file} names no field of a known struct: ${line.trim()}`,
        );
        const offset = place.split("+").reduce((sum, number) => sum + Number(number), 0);
        add(file, chosen, field, part === undefined ? offset : offset - 4, Number(bits));
      }
    }
    assert(facts.length > 120, `only ${facts.length} facts`);
    await compare(t, facts);
  },
);

kernelTest("every error number has the name of the kernel's headers", needs, async (t) => {
  Deno.writeTextFileSync(`${t.dir}/errno.c`, "#include <asm/errno.h>\n");
  const { stdout } = await new Deno.Command("cc", { args: ["-E", "-dM", `${t.dir}/errno.c`] }).output();
  const defined = [...new TextDecoder().decode(stdout).matchAll(/^#define (E\w+)\s+(\d+)$/gm)];
  assert(defined.length > 130);
  assertEquals(
    defined.map(([, , number]) => `${number} ${errnoName(Number(number))}`),
    defined.map(([, name, number]) => `${number} ${name}`),
  );
  for (const unused of [0, 41, 58, 134, 4000]) assertEquals(errnoName(unused), `E${unused}`);
});
