/**
 * The options of each function that unmounts, in this mount namespace and in another.
 *
 * @module
 */

import {
  BusyError,
  type Mount,
  mount,
  mountAll,
  SyscallError,
  unmount,
  unmountAll,
  unmountMounts,
  type UnmountOptions,
  unmountRecursive,
} from "../../mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { names, parseTable, readText } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";

const tmpfs = { type: "tmpfs", source: "t" };
const elsewhere: Needs = {
  root: true,
  tools: ["unshare", "nsenter", "mount", "umount", "sh"],
  permissions: { run: true },
};

type Call = (target: string, options: UnmountOptions) => Promise<void>;
const calls: Record<string, Call> = {
  unmount,
  unmountAll,
  unmountRecursive,
  unmountMounts: (target, options) => unmountMounts([tmpfs], target, options),
};

/** The types of what is mounted on the target in the namespace of a process. */
function typesAt(target: string, pid: number | "self"): string[] {
  return parseTable(readText(`/proc/${pid}/mountinfo`) ?? "")
    .filter(({ mountpoint }) => mountpoint === target).map(({ fsType }) => fsType);
}

for (const [name, call] of Object.entries(calls)) {
  kernelTest(
    `${name}() carries out detach, timeout and signal, and refuses a wrong timeout`,
    {},
    async (t) => {
      const target = t.make("target");
      await mount(tmpfs, target);
      using _busy = Deno.openSync(target);
      for (const timeout of [-1, NaN]) {
        await assertRejects(
          () => call(target, { timeout }),
          TypeError,
          "a timeout is a number of milliseconds",
        );
      }
      await assertRejects(() => call(target, { expire: true, detach: true }), TypeError, "expire");
      await assertRejects(() => call(target, { expire: true, force: true }), TypeError, "expire");
      const start = performance.now();
      await assertRejects(() => call(target, { timeout: 0 }), BusyError);
      await assertRejects(
        () => call(target, { signal: AbortSignal.abort(new RangeError("mine")) }),
        RangeError,
      );
      await assertRejects(() => call(target, { signal: AbortSignal.timeout(20) }), DOMException);
      assert(performance.now() - start < 2400, "it took the timeout that is the default");
      assertEquals(t.mounts().length, 1);
      await call(target, { detach: true });
      assertEquals(t.mounts(), []);
    },
  );

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

kernelTest("expire marks a mount first, and unmounts it if it was not used since", {}, async (t) => {
  const target = t.make("target");
  await mount(tmpfs, target);
  const expire = () => unmount(target, { expire: true });
  for (const use of [false, true]) {
    const error = await assertRejects(expire, SyscallError);
    assertEquals([error.code, error.path, t.mounts().length], ["EAGAIN", target, 1]);
    if (use) Deno.statSync(`${target}/.`);
    if (use) Deno.readDirSync(target)[Symbol.iterator]().next();
    if (!use) {
      await expire();
      assertEquals(t.mounts(), []);
      await mount(tmpfs, target);
    }
  }
  assertEquals((await assertRejects(expire, SyscallError)).code, "EAGAIN"); // it was used
  await expire();
  assertEquals(t.mounts(), []);
});

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

kernelTest("noFollow leaves alone what a symbolic link leads to", {}, async (t) => {
  const target = t.make("target");
  Deno.symlinkSync(target, `${t.dir}/link`);
  await mount(tmpfs, target);
  for (const call of [unmount, unmountAll]) await call(`${t.dir}/link`, { noFollow: true });
  assertEquals(t.mounts().length, 1);
  await unmount(`${t.dir}/link`);
  assertEquals(t.mounts(), []);
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

kernelTest("a busy disk is an error, stays mounted, and is retried", {
  root: true,
  tools: ["mkfs.ext4"],
  permissions: { run: true },
}, async (t) => {
  const target = t.make("target");
  await run("mkfs.ext4", "-q", `${t.dir}/image`, "1M");
  await mount({ type: "ext4", source: `${t.dir}/image`, options: ["loop"] }, target);
  const busy = Deno.openSync(target);
  const error = await assertRejects(() => unmount(target, { timeout: 0 }), BusyError);
  assertEquals([error.code, error.path, t.mounts().length], ["EBUSY", target, 1]);
  setTimeout(() => busy.close(), 60);
  await unmount(target);
  assertEquals(t.mounts(), []);
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

kernelTest("a helper that hangs is given up, and umount2(2) unmounts", {
  root: true,
  tools: ["sh", "mount.fuse3", "bindfs"],
  permissions: { run: true, env: true },
}, async (t) => {
  t.make("source", "target", "bin");
  await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, `${t.dir}/target`);
  Deno.writeTextFileSync(`${t.dir}/bin/fusermount3`, "#!/bin/sh\nexec sleep 5\n", { mode: 0o755 });
  const path = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", `${t.dir}/bin:${path}`);
  const start = performance.now();
  try {
    await unmount(`${t.dir}/target`, { timeout: 0 });
  } finally {
    Deno.env.set("PATH", path);
  }
  assert(performance.now() - start < 4000, "the helper was waited for");
  assertEquals(t.mounts(), []);
});

kernelTest("a helper gets the mountpoint and -z, and umount2(2) unmounts what it leaves", {
  root: true,
  tools: ["sh", "mount.fuse3", "bindfs"],
  permissions: { run: true, env: true },
}, async (t: KernelContext) => {
  t.make("source", "target", "bin");
  const target = `${t.dir}/target`;
  const log = `#!/bin/sh\necho "$\{0##*/}" "$@" >> ${t.dir}/log\nexit 1\n`;
  const path = Deno.env.get("PATH") ?? "";
  const lines: string[] = [];
  for (const detach of [false, true]) {
    await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, target);
    for (const name of ["fusermount3", "fusermount"]) {
      Deno.writeTextFileSync(`${t.dir}/bin/${name}`, log, { mode: 0o755 });
    }
    Deno.env.set("PATH", `${t.dir}/bin:${path}`);
    try {
      await unmount(target, { detach });
    } finally {
      Deno.env.set("PATH", path);
    }
    assertEquals(t.mounts(), []);
    lines.push(
      ...["fusermount3", "fusermount"].map((name) => `${name} -u${detach ? " -z" : ""} -- ${target}`),
    );
  }
  assertEquals(Deno.readTextFileSync(`${t.dir}/log`).trim().split("\n"), lines);
  assertEquals(names(`${t.dir}/target`), []);
});

kernelTest("a mount that a user namespace has locked is an error, and its own tree is unmounted", {
  tools: ["unshare"],
  permissions: { run: true },
}, async (t) => {
  t.make("source", "target");
  await using _source = await mountAll([
    tmpfs,
    { ...tmpfs, target: "/sub", options: ["X-mount.mkdir"] },
  ], `${t.dir}/source`);
  Deno.writeTextFileSync(
    `${t.dir}/script.ts`,
    `import { listMounts, mount, prefixFilter, unmount, unmountAll, unmountMounts } from ${
      JSON.stringify(new URL("../../mod.ts", import.meta.url))
    };
    const [dir] = Deno.args;
    const code = (work) => work.then(() => "unmounted", (error) => error.code);
    console.log(await code(unmount(dir + "/source")), await code(unmountAll(dir + "/source")));
    const rbind = { type: "bind", source: dir + "/source", options: ["rbind"] };
    const left = async () => (await listMounts({ filter: prefixFilter(dir + "/target") })).length;
    for (const unmountTree of [(handle) => handle.unmount(), () => unmountMounts([rbind], dir + "/target")]) {
      const handle = await mount(rbind, dir + "/target");
      console.log(await left(), await code(unmountTree(handle)), await left());
    }`,
  );
  const deno = [Deno.execPath(), "run", "-A", "--quiet", "--no-config", `${t.dir}/script.ts`, t.dir];
  const said = await run("unshare", "-Urm", "--propagation", "private", ...deno);
  assertEquals(said.trim().split("\n"), ["EINVAL EINVAL", "2 unmounted 0", "2 unmounted 0"]);
});
