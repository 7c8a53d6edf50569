import { check, errnoName, errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { requirePermission } from "../../ffi/permission.ts";
import { assert, assertEquals, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { say } from "../use/ways.ts";

kernelTest("the message of a failed call has the call, its paths, the errno's text and name", {}, () => {
  const message = (syscall: string, errno: number, path?: string, dest?: string, reason?: string) =>
    new SyscallError({ syscall, errno, path, dest, reason }).message;
  assertEquals(message("read", 5), "read: Input/output error (EIO)");
  assertEquals(message("open", 2, "/a"), "open '/a': No such file or directory (ENOENT)");
  assertEquals(message("mount", 16, "/a", "/b"), "mount '/a' -> '/b': Device or resource busy (EBUSY)");
  assertEquals(message("mount", 19, undefined, "/b"), "mount '/b': No such device (ENODEV)");
  assertEquals(message("open", 2, "/a", "/b", "the disk is gone"), "the disk is gone (open: ENOENT)");
});

kernelTest("a call that is not permitted names the capability of its man page", {}, () => {
  const message = (syscall: string, errno = 1, path = "/a") =>
    new SyscallError({ syscall, errno, path }).message;
  const calls = [
    "mount",
    "umount2",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsmount",
    "fspick",
    "mount_setattr",
  ];
  for (const call of calls) {
    assertEquals(message(call), `${call} '/a': Operation not permitted, it needs CAP_SYS_ADMIN (EPERM)`);
    assertEquals(message(call, 16), `${call} '/a': Device or resource busy (EBUSY)`);
  }
  assertEquals(message("chmod"), "chmod '/a': Operation not permitted (EPERM)");
  assertEquals(
    ["uid_map", "gid_map"].map((file) => /CAP_\w+/.exec(message("write", 1, file))?.[0]),
    ["CAP_SETUID", "CAP_SETGID"],
  );
});

kernelTest(
  "a SyscallError has the fields of Node's system errors",
  {},
  () => {
    const whole = new SyscallError({ syscall: "mount", errno: 16, path: "/a", dest: "/b", reason: "busy" });
    const { name, code, errno, syscall, path, dest, reason } = whole;
    assertEquals([name, code, errno, syscall, path, dest, reason], [
      "SyscallError",
      "EBUSY",
      16,
      "mount",
      "/a",
      "/b",
      "busy",
    ]);
    const bare = new SyscallError({ syscall: "read", errno: 5 });
    assertEquals([bare.path, bare.dest, bare.reason], [undefined, undefined, undefined]);
  },
);

kernelTest("check() returns a result, and throws the errno of a failed call", {}, () => {
  assertEquals([check(0, 5, "a"), check(7, 5, "a"), check(7n, 5, "a")], [0, 7, 7]);
  for (const result of [() => libc().close(-1), () => libc().lseek(-1, 0n, 0)]) {
    const error = assertThrows(() => check(result(), errno[0], "a", "/p", "/q"), SyscallError);
    assertEquals([error.code, error.path, error.dest], ["EBADF", "/p", "/q"]);
  }
});

Deno.test("isErrno() knows a SyscallError by its code, and no other error", () => {
  const busy = Object.assign(new Error("busy"), { code: "EBUSY" });
  assert(!isErrno(busy, "EBUSY"));
  assert(!isErrno(undefined, "EBUSY"));
  assertEquals([errnoNumber("EBUSY"), errnoNumber("ECHILD"), errnoNumber("none")], [16, 10, 0]);
  assertEquals([errnoName(16), errnoName(-1), errnoName(1000)], ["EBUSY", "E-1", "E1000"]);
});

kernelTest("isErrno() takes several codes", {}, () => {
  const error = new SyscallError({ syscall: "umount2", errno: 16 });
  assert(isErrno(error, "EINVAL", "EBUSY") && isErrno(error, "EBUSY") && !isErrno(error, "EINVAL"));
  assert(!isErrno(error));
});

Deno.test({
  name: "a permission that is not granted is an error that names its flag, not a prompt",
  permissions: { env: true },
  fn() {
    requirePermission({ name: "env" });
    const cases: [Deno.PermissionDescriptor, string][] = [
      [{ name: "ffi" }, "Requires ffi access, run again with the --allow-ffi flag"],
      [{ name: "read", path: "/a" }, 'Requires read access to "/a", run again with the --allow-read flag'],
      [{ name: "run", command: "b" }, 'Requires run access to "b", run again with the --allow-run flag'],
    ];
    for (const [descriptor, message] of cases) {
      const error = assertThrows(() => requirePermission(descriptor), Deno.errors.NotCapable);
      assertEquals(error.message, message);
    }
  },
});

/** Runs a program that imports the C library, without any permission unless flags grant one. */
async function run(dir: string, text: string, flags: string[], wrap: (command: string[]) => string[]) {
  const module = new URL("../../ffi/libc.ts", import.meta.url).href;
  Deno.writeTextFileSync(`${dir}/program.ts`, `import { libc, warmUpErrno } from "${module}";\n${text}`);
  const command = [
    Deno.execPath(),
    "run",
    "--quiet",
    "--no-config",
    "--no-check",
    ...flags,
    `${dir}/program.ts`,
  ];
  const [program = "", ...args] = wrap(command);
  return await say(program, args, { stdin: "null" });
}

kernelTest("the code that reads errno is compiled before the first call", {
  permissions: { run: true, env: true },
}, async (t) => {
  const text =
    `warmUpErrno(() => console.log("warm", libc().gettid() > 0)); libc().gettid(); libc().gettid();`;
  const { out } = await run(t.dir, text, ["--allow-ffi"], (command) => command);
  assertEquals(out, ["warm true"]);
});

kernelTest("without the permission for FFI, the first call fails on a terminal too, and does not prompt", {
  tools: ["script", "timeout"],
  permissions: { run: true, env: true },
}, async (t) => {
  const text = `try { libc(); } catch (error) { console.log(error.name, error.message); }`;
  const { out } = await run(
    t.dir,
    text,
    [],
    (command) => ["timeout", "20", "script", "-qec", command.join(" "), "/dev/null"], // a prompt waits for ever
  );
  assertEquals(out.join("").trim(), "NotCapable Requires ffi access, run again with the --allow-ffi flag");
});
