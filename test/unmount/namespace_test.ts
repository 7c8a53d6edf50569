/**
 * The functions that unmount, and their options, in another mount namespace.
 *
 * @module
 */

import {
  BusyError,
  type Mount,
  mount,
  type MountHandle,
  SyscallError,
  unmount,
  unmountAll,
  type UnmountOptions,
} from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { kernelTest, type Needs } from "../harness.ts";
import { parseTable, readText } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import { tmpfs, unmountingCalls } from "./calls.ts";

const elsewhere: Needs = {
  root: true,
  tools: ["unshare", "nsenter", "mount", "umount", "sh"],
  permissions: { run: true },
};

/** The types of what is mounted on the target in the namespace of a process. */
function typesAt(target: string, pid: number | "self"): string[] {
  return parseTable(readText(`/proc/${pid}/mountinfo`) ?? "")
    .filter(({ mountpoint }) => mountpoint === target).map(({ fsType }) => fsType);
}

for (const [name, call] of Object.entries(unmountingCalls)) {
  kernelTest(
    `${name}() in another namespace carries out detach, timeout and signal`,
    elsewhere,
    async (t) => {
      const target = t.make("target");
      await using other = await MountNamespace.start();
      await using _here = await mount({ type: "ramfs", source: "here" }, target);
      await other.run("mount", "-t", "tmpfs", "there", target);
      await using _shell = await busyIn(other, target);
      const options = { namespace: other.pid };
      const start = performance.now();
      await assertRejects(() => call(target, { ...options, timeout: 0 }), BusyError);
      await assertRejects(() => call(target, { ...options, signal: AbortSignal.timeout(20) }), DOMException);
      assert(performance.now() - start < 2400, "it took the timeout that is the default");
      assertEquals(typesAt(target, other.pid), ["tmpfs"]);
      await call(target, { ...options, detach: true });
      assertEquals([typesAt(target, other.pid), typesAt(target, "self")], [[], ["ramfs"]]);
    },
  );
}

/** Each way to unmount a mount, which has a handle. */
const ways: Readonly<
  Record<string, (handle: MountHandle, target: string, where: UnmountOptions) => Promise<void>>
> = {
  ...Object.fromEntries(
    Object.entries(unmountingCalls).map((
      [name, call],
    ) => [`${name}()`, (_: MountHandle, target: string, where: UnmountOptions) => call(target, where)]),
  ),
  "handle.unmount()": (handle, _, { namespace: _of, ...options }) => handle.unmount(options),
};

for (const [name, unmountIt] of Object.entries(ways)) {
  kernelTest(
    `${name} unmounts in one namespace alone, if the same path is mounted in two`,
    elsewhere,
    async (t) => {
      const target = t.make("target");
      await using other = await MountNamespace.start();
      const tables = () => [typesAt(target, "self").length, typesAt(target, other.pid).length];
      for (const options of [{}, { detach: true }, { force: true }, { timeout: 0 }]) {
        const here = await mount(tmpfs, target);
        const there = await mount(tmpfs, target, { namespace: other.pid });
        assertEquals(tables(), [1, 1]);
        await unmountIt(here, target, options);
        assertEquals(tables(), [0, 1], JSON.stringify(options));
        const again = await mount(tmpfs, target);
        await unmountIt(there, target, { ...options, namespace: other.pid });
        assertEquals(tables(), [1, 0], JSON.stringify(options));
        for (const handle of [here, there, again]) await handle.unmount(); // also closes the namespace
      }
    },
  );
}

/** Starts a process in the namespace whose working directory is the target. */
async function busyIn(other: MountNamespace, target: string): Promise<AsyncDisposable> {
  const script = 'cd "$1" && echo up && exec sleep 60';
  const child = new Deno.Command("nsenter", {
    args: ["-m", "-t", `${other.pid}`, "sh", "-c", script, "sh", target],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await Promise.all([reader.cancel(), child.status]);
    },
  };
}

kernelTest("expire and noFollow work in another namespace, and there alone", elsewhere, async (t) => {
  const target = t.make("target");
  Deno.symlinkSync(target, `${t.dir}/link`);
  await using other = await MountNamespace.start();
  await using _here = await mount({ type: "ramfs", source: "here" }, target);
  await other.run("mount", "-t", "tmpfs", "there", target);
  const options = { namespace: other.pid };
  await unmount(`${t.dir}/link`, { ...options, noFollow: true });
  await unmountAll(`${t.dir}/link`, { ...options, noFollow: true });
  assertEquals(typesAt(target, other.pid), ["tmpfs"]);
  const expire = () => unmount(target, { ...options, expire: true });
  assertEquals((await assertRejects(expire, SyscallError)).code, "EAGAIN");
  await expire();
  assertEquals([typesAt(target, other.pid), typesAt(target, "self")], [[], ["ramfs"]]);
});

kernelTest("a disk and a FUSE mount in another namespace are unmounted there", {
  ...elsewhere,
  tools: [...elsewhere.tools ?? [], "mkfs.ext4", "mount.fuse3", "bindfs", "fusermount3"],
}, async (t) => {
  t.make("target", "source");
  const target = `${t.dir}/target`;
  await run("mkfs.ext4", "-q", `${t.dir}/image`, "1M");
  await using other = await MountNamespace.start();
  const entries: [Mount, string][] = [
    [{ type: "ext4", source: `${t.dir}/image`, options: ["loop", "ro"] }, "ext4"],
    [{ type: "fuse3.bindfs", source: `${t.dir}/source` }, "fuse"],
  ];
  for (const [entry, type] of entries) {
    for (const call of [unmount, unmountAll]) {
      await using _here = await mount(entry, target);
      const there = await mount(entry, target, { namespace: other.pid });
      assertEquals([typesAt(target, other.pid), typesAt(target, "self")], [[type], [type]]);
      await call(target, { namespace: other.pid });
      assertEquals([typesAt(target, other.pid), typesAt(target, "self")], [[], [type]]);
      await there.unmount(); // closes the namespace
    }
  }
});

kernelTest("force is passed to umount2(2) by each function, in each namespace", {
  ...elsewhere,
  tools: [...elsewhere.tools ?? [], "strace"],
}, async (t) => {
  const target = t.make("target");
  await using other = await MountNamespace.start();
  Deno.writeTextFileSync(
    `${t.dir}/program.ts`,
    `import { mount, unmount, unmountAll, unmountMounts, unmountRecursive } from ${
      JSON.stringify(new URL("../../mod.ts", import.meta.url))
    };
    const tmpfs = { type: "tmpfs", source: "t", options: ["size=1m"] };
    const [target] = Deno.args;
    for (const where of [{}, { namespace: ${other.pid} }]) {
      const options = { ...where, force: true };
      const calls = [
        () => unmount(target, options),
        () => unmountAll(target, options),
        () => unmountRecursive(target, options),
        () => unmountMounts([tmpfs], target, options),
      ];
      for (const call of calls) {
        await mount(tmpfs, target, where);
        await call();
      }
      const handle = await mount(tmpfs, target, where);
      await handle.unmount({ force: true });
    }`,
  );
  const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-config", `${t.dir}/program.ts`, target];
  await run("strace", "-f", "-qq", "--seccomp-bpf", "-o", `${t.dir}/trace`, "--trace=umount2", ...deno);
  const lines = Deno.readTextFileSync(`${t.dir}/trace`).split("\n").filter((line) => line.includes(target));
  assertEquals(lines.map((line) => /, (\w+)\)? /.exec(line)?.[1] ?? line), Array(10).fill("MNT_FORCE"));
});
