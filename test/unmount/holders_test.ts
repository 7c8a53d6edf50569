import {
  BusyError,
  type Holder,
  mount,
  type ProcessHolder,
  setupLoop,
  unmount,
  unmountAll,
  unmountMounts,
  type UnmountOptions,
  unmountRecursive,
} from "../../mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { assertInTime, watch } from "../hang/watch.ts";
import { isEmulated, type KernelContext, kernelTest } from "../harness.ts";
import { linkText, names, readText } from "../kernel.ts";
import { MountNamespace } from "../namespace/namespaces.ts";

const run: Deno.PermissionOptionsObject = { run: true };
const list = [{ type: "tmpfs", source: "t" }];

/** Mounts a tmpfs with the directory "in"; unmounts it at the end of the scope, even if it is busy. */
async function busyTmpfs(t: KernelContext): Promise<AsyncDisposable & { target: string }> {
  const target = t.make("target");
  await mount({ type: "tmpfs", source: "t", options: ["mode=777"] }, target);
  Deno.mkdirSync(`${target}/in`);
  return { target, [Symbol.asyncDispose]: () => unmount(target, { detach: true }) };
}

async function busyError(target: string, options: UnmountOptions = {}): Promise<BusyError> {
  const error = await completeSearch(() =>
    assertRejects(() => unmount(target, { timeout: 0, ...options }), BusyError)
  );
  assertEquals([error.code, error.errno, error.syscall, error.path], ["EBUSY", 16, "umount2", target]);
  return error;
}

/** In an emulated machine the second of a search may be over before it has seen all processes: it is repeated. */
async function completeSearch(search: () => Promise<BusyError>): Promise<BusyError> {
  for (let tries = 1;; tries++) {
    const start = performance.now();
    const error = await search();
    if (!isEmulated || tries >= 5 || performance.now() - start < 900) return error;
  }
}

async function holders(target: string): Promise<readonly Holder[]> {
  return (await busyError(target)).holders;
}

/** Starts a shell command that prints "up" when it uses the mount and then waits; ends it at the end of the scope. */
async function startShell(
  script: string,
  options: Deno.CommandOptions & { program?: string[] } = {},
): Promise<AsyncDisposable & { pid: number }> {
  const { program = [], ...rest } = options;
  const [command = "sh", ...args] = [...program, "sh", "-c", script];
  const child = new Deno.Command(command, { ...rest, args, stdin: "piped", stdout: "piped" }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await Promise.all([reader.cancel(), child.stdin.abort().catch(() => {}), child.status]);
    },
  };
}

/** {@linkcode startShell} in the mount namespace of a process. */
function startShellIn(pid: number, cwd: string): ReturnType<typeof startShell> {
  const program = ["nsenter", `--mount=/proc/${pid}/ns/mnt`, "sh", "-c", `cd ${cwd} && exec "$@"`, "sh"];
  return startShell("echo up; read line", { program });
}

function usesOf(found: readonly Holder[], pid: number): ProcessHolder["uses"] {
  return found.find((holder): holder is ProcessHolder => holder.kind === "process" && holder.pid === pid)
    ?.uses ?? [];
}

/** A program that maps a file and closes it. */
const MAP_FILE = `
const { symbols: libc } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  close: { parameters: ["i32"], result: "i32" },
});
const fd = libc.open(new TextEncoder().encode(Deno.args[0] + "\\0"), 0);
libc.mmap(null, 4096n, 1, 1, fd, 0n); // PROT_READ, MAP_SHARED
libc.close(fd);
console.log("up");
Deno.stdin.readSync(new Uint8Array(1));`;

kernelTest("the error of a busy mount names a working directory, an open file and a socket", {
  permissions: { ...run, net: true },
  tools: ["sh"],
}, async (t) => {
  await using busy = await busyTmpfs(t);
  const { target } = busy;
  await using shell = await startShell("echo up; read line", { cwd: `${target}/in` });
  using file = Deno.createSync(`${target}/a\nb`);
  using _listener = Deno.listen({ transport: "unix", path: `${target}/socket` });
  const error = await busyError(target);
  assertEquals(usesOf(error.holders, shell.pid), [{ by: "cwd", path: `${target}/in` }]);
  const own = usesOf(error.holders, Deno.pid);
  assertEquals(own.map(({ by, path }) => [by, path]).sort(), [
    ["file", `${target}/a\nb`],
    ["socket", `${target}/socket`],
  ]);
  const descriptor = own.find(({ by }) => by === "file")?.fd;
  file.close();
  assert(descriptor !== undefined && descriptor > 2);
  assertStringIncludes(error.message, `sh (pid ${shell.pid}): working directory ${target}/in`);
  assertStringIncludes(
    error.message,
    `this process (pid ${Deno.pid}): open file ${target}/a\nb (descriptor ${descriptor})`,
  );
  assertEquals(error.holders.length, 2);
});

kernelTest("the error of a busy mount names a root directory, a program and a mapped file", {
  root: true,
  permissions: run,
  tools: ["sh", "busybox", "chroot"],
}, async (t) => {
  await using busy = await busyTmpfs(t);
  const { target } = busy;
  Deno.copyFileSync("/bin/busybox", `${target}/in/busybox`);
  Deno.chmodSync(`${target}/in/busybox`, 0o755);
  Deno.writeFileSync(`${target}/mapped file`, new Uint8Array(4096));
  const program = [`${target}/in/busybox`];
  {
    await using shell = await startShell("echo up; read line", { program });
    assertEquals(usesOf(await holders(target), shell.pid), [{ by: "exe", path: `${target}/in/busybox` }]);
  }
  {
    await using shell = await startShell("echo up; read line", {
      program: ["chroot", `${target}/in`, "/busybox"],
    });
    const uses = usesOf(await holders(target), shell.pid);
    assertEquals(uses.map(({ by }) => by), ["cwd", "root", "exe"]);
  }
  Deno.writeTextFileSync(`${t.dir}/map.ts`, MAP_FILE);
  const deno = [Deno.execPath(), "run", "-A", "--no-config", `${t.dir}/map.ts`, `${target}/mapped file`];
  await using mapped = await startShell("", { program: deno });
  assertEquals(usesOf(await holders(target), mapped.pid), [{ by: "map", path: `${target}/mapped file` }]);
});

kernelTest("the error of a busy mount names a mount on it, a loop device and a process of another user", {
  root: true,
  permissions: run,
  tools: ["sh", "setpriv"],
}, async (t) => {
  await using busy = await busyTmpfs(t);
  const { target } = busy;
  await using _below = await mount({ type: "ramfs", source: "r" }, `${target}/in`);
  Deno.writeFileSync(`${target}/image`, new Uint8Array(1 << 16));
  using device = await setupLoop(`${target}/image`);
  const program = ["setpriv", "--reuid=65534", "--clear-groups"];
  await using other = await startShell("echo up; read line", { program, cwd: target });
  const found = await holders(target);
  assertEquals(found.find(({ kind }) => kind === "mount"), {
    kind: "mount",
    mountpoint: `${target}/in`,
    fsType: "ramfs",
  });
  assertEquals(usesOf(found, other.pid), [{ by: "cwd", path: target }]);
  assertEquals(found.find(({ kind }) => kind === "loop"), {
    kind: "loop",
    device: device.path,
    backingFile: `${target}/image`,
  });
  const message = (await busyError(target)).message;
  assertStringIncludes(message, `the ramfs mount on ${target}/in`);
  assertStringIncludes(message, `the loop device ${device.path}, whose file is ${target}/image`);
});

kernelTest("what uses a bind of the mount, or the mount below it, is not named", {
  permissions: run,
  tools: ["sh"],
}, async (t) => {
  t.make("bind");
  await using busy = await busyTmpfs(t);
  const { target } = busy;
  await using _bind = await mount({ type: "bind", source: target, options: ["bind"] }, `${t.dir}/bind`);
  await using _elsewhere = await startShell("echo up; read line", { cwd: `${t.dir}/bind/in` });
  await using _covered = await startShell("echo up; read line", { cwd: `${target}/in` });
  await mount({ type: "tmpfs", source: "top" }, target);
  Deno.mkdirSync(`${target}/in`);
  {
    await using above = await startShell("echo up; read line", { cwd: `${target}/in` });
    assertEquals((await holders(target)).map((holder) => holder.kind === "process" && holder.pid), [
      above.pid,
    ]);
  }
  await unmount(target);
});

kernelTest("what is on a mount below, or beside the mount with a longer name, is not named", {
  root: true,
}, async (t) => {
  t.make("target-other");
  await using busy = await busyTmpfs(t);
  const { target } = busy;
  const below = `${target}/in`;
  await using _below = await mount({ type: "tmpfs", source: "b" }, below);
  const images = [`${below}/image`, `${t.dir}/target-other/image`];
  for (const image of images) Deno.writeFileSync(image, new Uint8Array(1 << 16));
  using _file = Deno.openSync(images[0] ?? "");
  using _first = await setupLoop(images[0] ?? "");
  using _second = await setupLoop(images[1] ?? "");
  assertEquals(await holders(target), [{ kind: "mount", mountpoint: below, fsType: "tmpfs" }]);
});

kernelTest("a copy of the mount in another mount namespace is named if nothing else is found", {
  root: true,
  permissions: run,
  tools: ["unshare", "nsenter", "mount"],
}, async (t) => {
  t.make("shared/target");
  const shared = `${t.dir}/shared`;
  const target = `${shared}/target`;
  await mount({ type: "tmpfs", source: "t", options: ["shared"] }, shared);
  Deno.mkdirSync(target);
  await mount({ type: "tmpfs", source: "t" }, target);
  {
    await using namespace = await MountNamespace.start("--propagation", "unchanged");
    await using user = await startShellIn(namespace.pid, target);
    const error = await assertRejects(() => unmount(target, { timeout: 0 }), BusyError);
    const found = error.holders.map((holder) => holder.kind === "namespace" ? holder.pid : holder);
    assert(
      found.some((pid) => pid === namespace.pid || pid === user.pid),
      `${JSON.stringify(error.holders)}, not ${namespace.pid}`,
    );
    const own = linkText("/proc/self/ns/mnt");
    assert(found.every((pid) => linkText(`/proc/${pid}/ns/mnt`) !== own), "its own namespace is named");
  }
  await unmount(target);
  await unmount(shared);
});

kernelTest(
  "unmountAll(), unmountRecursive(), unmountMounts() and the handle throw the same error",
  {},
  async (t) => {
    const target = t.make("target");
    const handle = await mount({ type: "tmpfs", source: "t" }, target);
    using _held = Deno.openSync(target);
    const options = { timeout: 0 };
    const calls = [
      () => unmountAll(target, options),
      () => unmountRecursive(target, options),
      () => unmountMounts(list, target, options),
      () => handle.unmount(options),
    ];
    for (const call of calls) {
      const error = await assertRejects(call, BusyError);
      assertEquals(usesOf(error.holders, Deno.pid).map(({ by, path }) => [by, path]), [["file", target]]);
    }
    await handle.unmount({ detach: true });
  },
);

kernelTest("the holders of a mount in another mount namespace are named", {
  root: true,
  permissions: run,
  tools: ["unshare", "nsenter"],
}, async (t) => {
  const target = t.make("target");
  await using namespace = await MountNamespace.start();
  const handle = await mount({ type: "tmpfs", source: "t" }, target, { namespace: namespace.pid });
  {
    await using user = await startShellIn(namespace.pid, target);
    const error = await assertRejects(
      () => unmount(target, { timeout: 0, namespace: namespace.pid }),
      BusyError,
    );
    assertEquals(usesOf(error.holders, user.pid), [{ by: "cwd", path: target }]);
    await assertRejects(() => handle.unmount({ timeout: 0 }), BusyError, `(pid ${user.pid})`);
  }
  await handle.unmount();
});

kernelTest("a busy mount is named within a second, by at most ten holders", {
  permissions: run,
  tools: ["sh"],
}, async (t) => {
  await using busy = await busyTmpfs(t);
  const { target } = busy;
  await using processes = new AsyncDisposableStack();
  for (let count = 0; count < 12; count++) {
    processes.use(await startShell("echo up; read line", { cwd: target }));
  }
  const watched = await watch(() => unmount(target, { timeout: 0 }));
  assertInTime(watched, 1000);
  const { error } = watched;
  assert(error instanceof BusyError);
  assertEquals(error.holders.length, 12);
  assertEquals(error.message.match(/ \(pid /g)?.length, 10);
  assert(error.message.endsWith("; and 2 more"), error.message);
});

/** The process of a FUSE server, by its command line. */
function serverOf(target: string): number {
  const pid = names("/proc").find((name) => readText(`/proc/${name}/cmdline`)?.includes(`\0${target}\0`));
  assert(pid !== undefined, `no server of ${target}`);
  return Number(pid);
}

kernelTest("the holders of a mount whose FUSE server has stopped are named in time", {
  root: true,
  notEmulated: "the search has one second, too little for an emulated processor",
  permissions: run,
  tools: ["sh", "mount.fuse3", "bindfs"],
}, async (t) => {
  t.make("source/in", "target");
  const target = `${t.dir}/target`;
  const handle = await mount({ type: "fuse3.bindfs", source: `${t.dir}/source` }, target);
  const server = serverOf(target);
  {
    await using shell = await startShell("echo up; read line", { cwd: `${target}/in` });
    Deno.kill(server, "SIGSTOP");
    const watched = await watch(() => unmount(target, { timeout: 0 }));
    Deno.kill(server, "SIGCONT");
    assertInTime(watched, 1500);
    const { error } = watched;
    assert(error instanceof BusyError, `${error}`);
    assertEquals(usesOf(error.holders, shell.pid), [{ by: "cwd", path: `${target}/in` }]);
  }
  await handle.unmount();
});
