import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import { shown } from "../../ffi/text.ts";
import { forbiddenInUserNamespace } from "../../linux/filesystem/failure.ts";
import { ExplainedError, MountError } from "../../linux/spec/error.ts";
import type { Mount } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";

const failed = (syscall: string, code: string, path?: string) =>
  new SyscallError({ syscall, errno: errnoNumber(code), path });

const messageOf = (mount: Mount, cause: unknown, target = "/mnt") =>
  new MountError(mount, target, cause).message;

Deno.test("shown() cuts a long text, and escapes control characters and lone surrogates", () => {
  assertEquals(shown("a\nb\u001b[31m\u009bc\udcff"), "a\\nb\\u001b[31m\\u009bc\\udcff");
  assertEquals(shown('/tmp/a"b\\c/ü/😀'), '/tmp/a"b\\c/ü/😀');
  assertEquals(shown("x".repeat(300)), "x".repeat(300));
  assertEquals(shown("x".repeat(301)), `${"x".repeat(300)}… (301 characters)`);
});

const LONG = "x".repeat(10_000_000);
const long: [string, Mount, unknown, string?][] = [
  ["type", { type: LONG, source: "s" }, failed("fsopen", "ENODEV", LONG)],
  ["source", { type: "bind", source: `/${LONG}` }, failed("open_tree", "ENAMETOOLONG", `/${LONG}`)],
  ["missing source", { type: "bind", source: `/${LONG}` }, failed("open_tree", "ENOENT", `/${LONG}`)],
  ["target", { type: "tmpfs", source: "s" }, failed("move_mount", "EBUSY"), `/${LONG}`],
  ["option", { type: "tmpfs", source: "s", options: [LONG] }, failed("fsconfig", "EINVAL", LONG)],
  ["layer", { type: "overlay", source: "s" }, failed("fsconfig", "ENOENT", `lowerdir+=/${LONG}`)],
  [
    "kernel message",
    { type: "tmpfs", source: "s" },
    new ExplainedError(failed("fsconfig", "EINVAL"), [LONG]),
  ],
  ["reason", { type: "tmpfs", source: "s" }, new ExplainedError(failed("fsconfig", "EINVAL"), [], LONG)],
  ["sentence", { type: "tmpfs", source: "s" }, new TypeError(LONG)],
];
for (const [what, mount, cause, target = "/mnt"] of long) {
  Deno.test(`a ${what} of 10 MB is cut in the message, and whole in the error`, () => {
    const error = new MountError(mount, target, cause);
    assert(error.message.length < 3000, `${error.message.length}`);
    assert(error.message.includes("… (1000000"), error.message.slice(0, 500));
    assertEquals([error.mount, error.target], [mount, target]);
  });
}

Deno.test("the message of a mount error is one line without control characters", () => {
  const mount = { type: "tm\npfs", source: "\u001b[31m" };
  const error = new ExplainedError(failed("fsconfig", "EINVAL"), ["Unknown parameter '\u001b[2J'"]);
  assertEquals(
    messageOf(mount, error, "/a\nb"),
    "cannot mount tm\\npfs \\u001b[31m on /a\\nb: Unknown parameter '\\u001b[2J' (fsconfig: EINVAL)",
  );
});

Deno.test("an error of something that is no mount names it all the same", () => {
  for (const mount of [null, undefined, {}, { type: Symbol("x"), source: 1, options: null }]) {
    assert(messageOf(mount as unknown as Mount, failed("mount", "EPERM")).endsWith("(mount: EPERM)"));
  }
});

Deno.test("a reason that the call has found goes before a hint by errno", () => {
  const reason = "/i is attached to /dev/loop3 already";
  const cause = new SyscallError({ syscall: "fsopen", errno: errnoNumber("ENODEV"), reason });
  const mount = { type: "ext4", source: "/i" };
  assertEquals(messageOf(mount, cause), `cannot mount ext4 /i on /mnt: ${reason} (fsopen: ENODEV)`);
  const explained = new ExplainedError(cause, [], "it is another one");
  assertEquals(
    messageOf(mount, explained),
    "cannot mount ext4 /i on /mnt: it is another one (fsopen: ENODEV)",
  );
});

Deno.test("the kernel's own messages are kept, but for one that only names the device", () => {
  const of = (code: string, ...messages: string[]) =>
    messageOf({ type: "ext4", source: "/dev/x" }, new ExplainedError(failed("fsconfig", code), messages));
  assertEquals(
    of("EINVAL", "ext4: first", "ext4: second"),
    "cannot mount ext4 /dev/x on /mnt: ext4: first; ext4: second (fsconfig: EINVAL)",
  );
  assertEquals(of("EPERM", "no"), "cannot mount ext4 /dev/x on /mnt: no (fsconfig: EPERM)");
  const blockdev = "/dev/x: Can't lookup blockdev";
  assertEquals(
    of("ENOENT", blockdev),
    "cannot mount ext4 /dev/x on /mnt: the source /dev/x does not exist (fsconfig: ENOENT)",
  );
  assert(of("ENOENT", blockdev, "and more").includes(`${blockdev}; and more`));
  assert(
    of("ENOTBLK", blockdev).includes(
      `${blockdev}; /dev/x is not a block device; for an image file add the option "loop"`,
    ),
  );
});

const hints: [Mount, SyscallError, string][] = [
  [{ type: "bind", source: "/s" }, failed("open_tree", "ENOENT", "/s"), "the source /s does not exist"],
  [{ type: "bind", source: "s" }, failed("mount", "ENOENT", "s"), "the source s does not exist"],
  [{ type: "ext4", source: "i" }, failed("open", "ENOENT", "i"), "the source i does not exist"],
  [{ type: "ext4", source: "/dev/x" }, failed("fsconfig", "ENOENT"), "the source /dev/x does not exist"],
  [{ type: "tmpfs", source: "s" }, failed("mount", "ENOENT", "s"), "No such file or directory"],
  [
    { type: "overlay", source: "o" },
    failed("fsconfig", "ENOENT", "lowerdir+=/l"),
    "the layer /l does not exist",
  ],
  [
    { type: "overlay", source: "o" },
    failed("fsconfig", "ENOENT", "upperdir=/u"),
    "the upper directory /u does not exist",
  ],
  [
    { type: "overlay", source: "o" },
    failed("fsconfig", "ENOENT", "workdir=/w"),
    "the work directory /w does not exist",
  ],
  [{ type: "overlay", source: "o" }, failed("mount", "ENOENT", "o"), "No such file or directory"],
  [
    { type: "bind", source: "/s", options: ["uidmap=0:1:1"] },
    failed("clone", "ENOSPC"),
    "no more user namespaces: the sysctl user.max_user_namespaces limits their number",
  ],
  [{ type: "btrfs", source: "/dev/x" }, failed("fsconfig", "ENOSPC"), "No space left on device"],
  [{ type: "tmpfs", source: "s" }, failed("mount", "EINVAL", "s"), "Invalid argument"],
  [{ type: "ext4", source: "/i" }, failed("open", "EACCES", "/i"), "/i: Permission denied"],
  [{ type: "ext4", source: "/i" }, failed("statx", "EIO", "/proc/self/fd/7"), "Input/output error"],
  [{ type: "ext4", source: "/i" }, failed("mount", "EIO", "/i"), "Input/output error"],
  [{ type: "ext4", source: "/i" }, failed("open", "ENOTDIR", "/i/x"), "/i/x is not a directory"],
  [
    { type: "bind", source: "/s" },
    failed("move_mount", "ENOTDIR", "/s"),
    "a directory can't be mounted on a file, nor a file on a directory",
  ],
  [{ type: "bind", source: "/s" }, failed("open", "ELOOP", "/s"), "/s has too many symbolic links"],
  [
    { type: "overlay", source: "o" },
    failed("fsconfig", "ELOOP"),
    "its layers overlap: one of them lies inside another, or is the upper or work directory of an overlay",
  ],
  [{ type: "nofs", source: "s" }, failed("fsopen", "ENODEV"), 'this kernel knows no file system "nofs"'],
  [{ type: "none", source: "" }, failed("mount_setattr", "EINVAL"), "the target is not a mountpoint"],
  [
    { type: "bind", source: "/s" },
    failed("move_mount", "ENOSPC"),
    "a mount namespace that the mount would be in has as many mounts as the sysctl fs.mount-max allows",
  ],
  [
    { type: "bind", source: "/s", options: ["uidmap=0:1:1", "gidmap=0:1:1"] },
    failed("write", "EPERM"),
    "not permitted to map these ids: it needs CAP_SETUID and CAP_SETGID in the parent user namespace",
  ],
  [
    { type: "bind", source: "/s", options: ["X-mount.idmap=b:0:1:1"] },
    failed("mount_setattr", "EPERM"),
    "not permitted: only the user namespace that has mounted a file system maps its ids, and not to the initial one",
  ],
  [
    { type: "bind", source: "/s" },
    failed("mount_setattr", "EPERM"),
    "not permitted: it needs root (CAP_SYS_ADMIN), or a new user and mount namespace",
  ],
];
for (const [mount, cause, hint] of hints) {
  Deno.test(`${cause.code} of ${cause.syscall} for ${mount.type} ${mount.source}: ${hint}`, () => {
    const message = messageOf(mount, cause);
    assertEquals(message.slice(message.indexOf(": ") + 2), `${hint} (${cause.syscall}: ${cause.code})`);
  });
}

Deno.test("an overlay in a user namespace before Linux 5.11 names the version", () => {
  for (const syscall of ["fsconfig", "mount"]) {
    assertEquals(
      forbiddenInUserNamespace("overlay", syscall),
      "not permitted: an overlay in a user namespace needs Linux 5.11",
    );
  }
});

Deno.test("a proc that would show what other mounts hide is explained", () => {
  assertEquals(
    forbiddenInUserNamespace("proc", "fsmount"),
    "not permitted: in a user namespace it needs a proc without parts that other mounts hide in this mount namespace",
  );
});
