import { SyscallError } from "../../ffi/errno.ts";
import { errno, errnoOfCall, isRedirected, libc } from "../../ffi/libc.ts";
import { cString, scratchCString } from "../../ffi/memory.ts";
import { currentThread, NamespaceThread } from "../../ffi/namespace_thread.ts";
import { onPrivateThread } from "../../ffi/private_thread.ts";
import { listMounts } from "../../mod.ts";
import {
  MNT_DETACH,
  mount,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  open,
  realpath,
  umount2,
} from "../../linux/mod.ts";
import { mountOffThread, statxOffThread, umount2OffThread } from "../../linux/syscalls/mod.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "../assert.ts";
import { kernelTest } from "../harness.ts";
import { linkText, names, parseTable, readText } from "../kernel.ts";
import { MountNamespace } from "../namespace/namespaces.ts";

const needs = {
  tools: ["unshare", "nsenter"],
  permissions: { run: true } satisfies Deno.PermissionOptionsObject,
};
const SYS_STATX = Deno.build.arch === "aarch64" ? "291 " : "332 "; // asm/unistd.h
const threads = () => names("/proc/self/task");
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until a thread of this process has ended. */
async function ended(id: number): Promise<boolean> {
  for (let tries = 0; tries < 200 && threads().includes(`${id}`); tries++) await pause(5);
  return !threads().includes(`${id}`);
}

async function enter(pid: number): Promise<NamespaceThread> {
  using namespace = open(`/proc/${pid}/ns/mnt`, O_RDONLY);
  return await NamespaceThread.start(namespace);
}

kernelTest(
  "a private thread has its own working directory, and returns the result of each call",
  {},
  async (t) => {
    t.make("inside");
    const before = Deno.cwd();
    const results = await onPrivateThread([
      { name: "gettid", args: [] },
      { name: "chdir", args: [cString(t.dir)] },
      { name: "mkdir", args: [cString("made"), 0o700] },
      { name: "open", args: [cString("inside"), O_PATH, 0] },
    ]);
    const [id = 0, changed, made, fd = -1] = results;
    assertEquals([results.length, changed, made], [4, 0, 0]);
    assertEquals(linkText(`/proc/self/fd/${fd}`), `${t.dir}/inside`);
    libc().close(fd);
    assertEquals(names(t.dir), ["inside", "made"]);
    assertEquals(Deno.cwd(), before);
    assert(id > 0 && await ended(id), "the thread has not ended");
  },
);

kernelTest(
  "a call that fails on a private thread is the last, and its error has its errno and path",
  {},
  async (t) => {
    for (let round = 0; round < 4; round++) { // the thread may be ended before it makes a later call
      const error = await assertRejects(
        () =>
          onPrivateThread([
            { name: "chdir", args: [cString(t.dir)] },
            { name: "umount2", syscall: "umount2(2)", args: [cString("none"), 0], path: `${t.dir}/none` },
            { name: "mkdir", args: [cString("later"), 0o700] },
          ]),
        SyscallError,
      );
      assertEquals([error.code, error.syscall, error.path], ["ENOENT", "umount2(2)", `${t.dir}/none`]);
      assertEquals(names(t.dir), []);
    }
    const unnamed = await assertRejects(
      () => onPrivateThread([{ name: "chdir", args: [cString(`${t.dir}/none`)] }]),
      SyscallError,
    );
    assertEquals([unnamed.syscall, unnamed.path], ["chdir", undefined]);
  },
);

kernelTest(
  "the calls of a namespace's thread resolve paths in that namespace, and the others here",
  needs,
  async (t) => {
    t.make("a");
    await using other = await MountNamespace.start();
    await other.run("mount", "-t", "tmpfs", "theirs", `${t.dir}/a`);
    await other.run("mkdir", `${t.dir}/a/theirs`);
    Deno.mkdirSync(`${t.dir}/a/ours`);
    await using thread = await enter(other.pid);
    assert(threads().includes(`${thread.id}`) && thread.id !== libc().gettid());
    assertEquals(linkText(`/proc/self/task/${thread.id}/ns/mnt`), linkText(`/proc/${other.pid}/ns/mnt`));
    assertEquals([currentThread(), isRedirected()], [undefined, false]);
    await thread.run(async () => {
      await pause(1); // the redirection follows the code through an await
      assertEquals([currentThread(), isRedirected()], [thread, true]);
      assertEquals(realpath(`${t.dir}/a/theirs`), `${t.dir}/a/theirs`);
      assertThrows(() => realpath(`${t.dir}/a/ours`), SyscallError, "ENOENT");
      const ours = assertThrows(() => open(`${t.dir}/a/ours`, O_PATH), SyscallError);
      assertEquals([ours.code, ours.path], ["ENOENT", `${t.dir}/a/ours`]);
      assertThrows(() => open(`${t.dir}/a/theirs`, O_WRONLY), SyscallError, "EISDIR");
      libc().close(-1);
      assertEquals(errnoOfCall(errno[0]), 9, "EBADF of this thread, after an errno of the other");
    });
    open(`${t.dir}/a/ours`, O_PATH).close();
    assertThrows(() => open(`${t.dir}/a/theirs`, O_PATH), SyscallError, "ENOENT");
  },
);

kernelTest("below /proc/self, only mountinfo is that of the other namespace", needs, async (t) => {
  t.make("a");
  await using other = await MountNamespace.start();
  await other.run("mount", "-t", "tmpfs", "theirs", `${t.dir}/a`);
  await other.run("mount", "-t", "tmpfs", "hidden", "/proc");
  await using thread = await enter(other.pid);
  await thread.run(async () => {
    const theirs = parseTable(readText(`/proc/${other.pid}/mountinfo`) ?? "").map(({ source }) => source);
    assertEquals((await listMounts()).map(({ source }) => source), theirs);
    using status = open("/proc/self/ns/mnt", O_RDONLY);
    assertEquals(linkText(`/proc/self/fd/${status.fd}`), linkText("/proc/self/ns/mnt"));
    assertThrows(() => open("/proc/version", O_RDONLY), SyscallError, "ENOENT");
  });
});

kernelTest(
  "nonblocking calls of a namespace's thread run one after the other, and don't block this one",
  needs,
  async (t) => {
    t.make("a", "b");
    await using other = await MountNamespace.start();
    await using thread = await enter(other.pid);
    await thread.run(async () => {
      const places = ["a", "b"].map((name) => `${t.dir}/${name}`);
      await Promise.all(places.map((place) => mountOffThread("t", place, "tmpfs", 0, "size=64k")));
      const seen = parseTable(readText(`/proc/${other.pid}/mountinfo`) ?? "").map(({ mountpoint }) =>
        mountpoint
      );
      assertEquals(places.filter((place) => seen.includes(place)), places);
      assertEquals(t.mounts(), []);
      const bad = libc().umount2_nonblocking(cString(`${t.dir}/none`), 0);
      const good = places.map((place) => umount2OffThread(place, MNT_DETACH));
      assertEquals(await bad, -1);
      await Promise.all(good);
    });
    assert(!(readText(`/proc/${other.pid}/mountinfo`) ?? "").includes(t.dir));
  },
);

kernelTest("a call is refused while another runs on a namespace's thread", needs, async (t) => {
  await using other = await MountNamespace.start();
  await using thread = await enter(other.pid);
  await thread.run(async () => {
    let refused = 0;
    for (let tries = 0; tries < 500 && refused === 0; tries++) { // the call may be over before this thread looks
      const pending = libc().umount2_nonblocking(cString(`${t.dir}/none`), 0);
      await Promise.resolve(); // the call is passed to the thread
      try {
        open("/", O_PATH).close();
      } catch (error) {
        assert(error instanceof Error && error.message.includes("busy with another call"));
        refused++;
      }
      assertEquals(await pending, -1);
    }
    assertEquals(refused, 1);
  });
});

for (const isBusy of [false, true]) {
  const when = isBusy ? "has ended during a call" : "has ended";
  kernelTest(
    `code that still runs after its namespace's thread ${when} makes no call here`,
    needs,
    async (t) => {
      const ours = t.make("a");
      await using other = await MountNamespace.start();
      mount("ours", ours, "tmpfs", 0, null);
      const thread = await enter(other.pid);
      const { promise: isOver, resolve: over } = Promise.withResolvers<void>();
      const late = thread.run(async () => {
        await isOver;
        assert(isRedirected());
        assertThrows(() => umount2(ours, MNT_DETACH), Error, "has ended");
        await assertRejects(() => umount2OffThread(ours, MNT_DETACH), Error, "has ended");
      });
      if (isBusy) {
        thread.run(() => libc().umount2_nonblocking(cString(`${t.dir}/none`), 0)).catch(() => {});
        await Promise.resolve();
      }
      await thread[Symbol.asyncDispose]();
      assert(await ended(thread.id), "the thread has not ended");
      over();
      await late;
      assertEquals([currentThread(), isRedirected()], [undefined, false]);
      assertEquals(t.mounts().map(({ source }) => source), ["ours"]);
      umount2(ours, 0);
    },
  );
}

for (const delay of [0, 20]) {
  kernelTest(`a thread that is ended during a call ends when the call returns, ${delay} ms later`, {
    ...needs,
    root: true,
  }, async (t) => {
    const target = t.make("a");
    await using other = await MountNamespace.start();
    const server = open("/dev/fuse", O_RDWR); // it never answers
    const thread = await enter(other.pid);
    const options = `fd=${server.fd},rootmode=40000,user_id=0,group_id=0`;
    thread.run(() => mount("s", target, "fuse", 0, options));
    thread.run(() => statxOffThread(`${target}/file`, 0)).catch(() => {});
    const isHanging = () => readText(`/proc/self/task/${thread.id}/syscall`)?.startsWith(SYS_STATX);
    for (let tries = 0; tries < 200 && !isHanging(); tries++) await pause(2);
    assert(isHanging());
    const ending = thread[Symbol.asyncDispose]();
    if (delay > 0) await pause(delay);
    server.close(); // the call fails
    await ending;
    assert(await ended(thread.id), "the thread has not ended");
  });
}

kernelTest(
  "a descriptor that is no mount namespace is refused, and no thread is left",
  { root: true },
  async () => {
    const before = threads();
    using file = open("/proc/self/status", O_RDONLY);
    using network = open("/proc/self/ns/net", O_RDONLY);
    for (const wrong of [file, network]) {
      const error = await assertRejects(() => NamespaceThread.start(wrong), SyscallError);
      assertEquals([error.code, error.syscall], ["EINVAL", "setns"]);
    }
    for (let tries = 0; tries < 100 && threads().length > before.length; tries++) await pause(5);
    assertEquals(threads().filter((id) => !before.includes(id)), []);
    assert(!isRedirected());
  },
);

kernelTest("two threads in the same process keep their namespaces and errors apart", needs, async (t) => {
  t.make("a");
  await using one = await MountNamespace.start();
  await using two = await MountNamespace.start();
  await one.run("mount", "-t", "tmpfs", "one", `${t.dir}/a`);
  await using first = await enter(one.pid);
  {
    await using second = await enter(two.pid);
    const sources = (thread: NamespaceThread) =>
      thread.run(async () => (await listMounts()).map(({ source }) => source).includes("one"));
    assertEquals(await Promise.all([sources(first), sources(second), sources(first)]), [true, false, true]);
  }
  // The end of one thread leaves the other.
  assertEquals(first.run(() => libc().rmdir(scratchCString(`${t.dir}/none`))), -1);
  assertEquals(first.run(() => isRedirected()), true);
  assertEquals(first.run(() => errnoOfCall(0)), 2);
});
