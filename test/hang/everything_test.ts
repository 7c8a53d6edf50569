/**
 * Every public function and every command that takes a path, with each of its paths on a FUSE server that is stopped:
 * each call ends, the event loop runs on, and Deno's own file system functions work afterwards.
 *
 * @module
 */

import { program } from "../../cli/commander.ts";
import { ensureTempLocation } from "../../linux/temp/temp_directory.ts";
import * as library from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { type StoppedServer, stoppedServer } from "./stopped_server.ts";
import { assertInTime, assertRepeatableInTime, watch, watchRepeatable } from "./watch.ts";

const TIMES = 40; // more than the 32 threads that Deno has for calls that block
const TIMEOUT = 100; // ms
const DEFAULT = 2500; // ms, of the calls that take no timeout
const BUSY = 30_000; // ms that a mount of another call may be on top on a busy machine
const WORKERS = 1000; // ms; Deno's constructor of a worker blocks until the worker's thread has begun, which needs a processor
const wait = { timeout: TIMEOUT };

const needs: Needs = {
  root: true,
  tools: ["bindfs", "mount.fuse3"],
  permissions: { run: true, env: true, sys: true },
  deadline: 300,
};

/** A call with one of its paths on the server. */
interface Case {
  /** Which path. */
  readonly name: string;
  /** Makes the call; releases what it returns. `path` is on the server, and may be cached. */
  call(path: string, t: KernelContext): Promise<unknown>;
  /** The timeout of the call, in milliseconds. */
  readonly timeout?: number;
  /** Whether the call goes on for as long as the path is cached, as a watch does. */
  readonly runsOn?: boolean;
  /** How long the event loop may be blocked, in milliseconds; less than 50 if left out. */
  readonly limit?: number;
  /** How many calls are made at once; 40 if left out. */
  readonly times?: number;
}

let targets = 0;

/** A mountpoint for one call: the calls run at the same time. */
function newTarget(t: KernelContext): string {
  return t.make(`target-${++targets}`);
}

let handles: AsyncDisposable[] = []; // of the calls that are made at once

/** Keeps what was mounted until the other calls have mounted too: these may share a target, where the last is on top. */
async function release(made: Promise<AsyncDisposable>): Promise<void> {
  handles.push(await made);
}

/** Unmounts what was mounted, the last first, all at once. */
async function releaseAll(): Promise<void> {
  const made = handles.reverse();
  handles = [];
  const ended: Promise<void>[] = [];
  for (const handle of made) {
    const end = unmounted(handle);
    end.catch(() => {}); // thrown below, when all have begun
    ended.push(end);
    await nextTurn(); // as for the calls
  }
  await Promise.all(ended);
}

/** Unmounts a mount; another one that is on top of it for a moment is waited for, and the calls of the stopped server. */
async function unmounted(handle: AsyncDisposable): Promise<void> {
  const start = performance.now();
  for (;;) {
    try {
      return await handle[Symbol.asyncDispose]();
    } catch (error) {
      const isBusy = error instanceof library.SyscallError && error.code === "EBUSY" ||
        error instanceof library.AbandonedCallsError;
      if (!isBusy || performance.now() - start > BUSY) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

function mounted(
  mount: (path: string, t: KernelContext) => library.Mount,
  target = (_path: string, t: KernelContext) => newTarget(t),
): Case["call"] {
  return (path, t) => release(library.mount(mount(path, t), target(path, t), wait));
}

const overlay = (options: string[]) => ({ type: "overlay", source: "overlay", options });
const parent = (path: string) => path.slice(0, path.lastIndexOf("/"));
const base = (path: string) => path.slice(path.lastIndexOf("/") + 1);
const bind = (source: string, ...options: string[]) => ({
  type: "bind",
  source,
  options: ["bind", ...options],
});

const mountCases: readonly Case[] = [
  { name: "bind's source", call: mounted((path) => bind(path)) },
  { name: "bind's source, rro,rw", call: mounted((path) => bind(path, "rbind", "rro", "rw")) },
  {
    name: "bind's X-mount.subdir",
    call: mounted((path) => bind(parent(path), `X-mount.subdir=${base(path)}`)),
  },
  { name: "target", call: mounted((_, t) => bind(`${t.dir}/source`), (path) => path) },
  {
    name: "entry's target",
    call: mounted(
      (path, t) => ({ ...bind(`${t.dir}/source`), target: path.slice(t.dir.length) }),
      (_, t) => t.dir,
    ),
  },
  {
    name: "entry's target behind a link",
    call: mounted(
      (path, t) => ({ ...bind(`${t.dir}/source`), target: `/link/${base(path)}` }),
      (_, t) => t.dir,
    ),
  },
  {
    name: "target of X-mount.mkdir",
    call: mounted((_, t) => bind(`${t.dir}/source`, "X-mount.mkdir"), (path) => `${path}/new`),
  },
  { name: "target of a tmpfs", call: mounted(() => ({ type: "tmpfs", source: "tmpfs" }), (path) => path) },
  { name: "image", call: mounted((path) => ({ type: "ext4", source: path, options: ["loop"] })) },
  {
    name: "image, read-only",
    call: mounted((path) => ({ type: "ext4", source: path, options: ["loop", "ro"] })),
  },
  { name: "block device", call: mounted((path) => ({ type: "ext4", source: path })) },
  { name: "lower layer", call: mounted((path, t) => overlay([`lowerdir=${path}:${t.dir}/source`])) },
  {
    name: "one of many lower layers",
    call: mounted((path, t) => overlay([`lowerdir=${t.dir}/source:${t.dir}/work:${path}:${t.dir}/target`])),
  },
  { name: "three lower layers", call: mounted((path) => overlay([`lowerdir=${path}:${path}:${path}`])) },
  {
    name: "upper layer",
    call: mounted((path, t) =>
      overlay([`lowerdir=${t.dir}/source`, `upperdir=${path}`, `workdir=${t.dir}/work`])
    ),
  },
  {
    name: "work directory",
    call: mounted((path, t) =>
      overlay([`lowerdir=${t.dir}/source`, `upperdir=${t.dir}/work`, `workdir=${path}`])
    ),
  },
  {
    name: "mapped lower layer",
    call: mounted((path, t) =>
      overlay([`lowerdir=${path}:${t.dir}/source`, "uidmap=0:1000:10", "gidmap=0:1000:10"])
    ),
  },
  { name: "X-mount.idmap", call: mounted((path, t) => bind(`${t.dir}/source`, `X-mount.idmap=${path}`)) },
  {
    name: "FUSE helper's source",
    times: 8, // each starts a program
    call: mounted((path) => ({ type: "fuse3.bindfs", source: path })),
    timeout: 2 * DEFAULT,
  },
  {
    name: "namespace",
    times: 8, // each starts a worker
    limit: WORKERS,
    timeout: DEFAULT,
    call: (path, t) =>
      release(library.mount(bind(`${t.dir}/source`), newTarget(t), { ...wait, namespace: path })),
  },
  {
    name: "user namespace",
    call: (path, t) =>
      release(library.mount(bind(`${t.dir}/source`), newTarget(t), { ...wait, userNamespace: path })),
  },
  {
    name: "target, replaced",
    call: (path, t) => release(library.mount(bind(`${t.dir}/source`), path, { ...wait, replace: true })),
  },
  {
    name: "target in a namespace",
    times: 8,
    limit: WORKERS,
    timeout: DEFAULT,
    call: (path, t) =>
      release(library.mount(bind(`${t.dir}/source`), path, { ...wait, namespace: Deno.pid })),
  },
];

const onPath = (call: (path: string, t: KernelContext) => Promise<unknown>, timeout = TIMEOUT): Case => ({
  name: "path",
  call,
  timeout,
});

async function withUserns(work: (userns: library.OwnedFd) => Promise<void>): Promise<void> {
  using userns = await library.createUserNamespace("0:1000:10", "0:1000:10");
  await work(userns);
}

/** TMPDIR is the temporary location until setTempMountLocation() is called. */
async function withTempLocation(path: string, work: () => Promise<unknown>): Promise<void> {
  Deno.env.set("TMPDIR", path);
  try {
    await work();
  } finally {
    Deno.env.delete("TMPDIR");
  }
}

/** The functions of mod.ts that take a path, and how. */
const FUNCTIONS: Readonly<Record<string, readonly Case[]>> = {
  mount: mountCases,
  mountAll: [{
    name: "second source",
    call: (path, t) => {
      const list = [bind(`${t.dir}/source`), { type: "tmpfs", source: "tmpfs" }, bind(path)];
      return release(library.mountAll(list, newTarget(t), wait));
    },
  }],
  idMapMount: [
    {
      name: "source",
      call: (path, t) =>
        withUserns(async (userns) => {
          const target = newTarget(t);
          await library.idMapMount(path, target, userns, wait);
          await library.unmount(target);
        }),
    },
    {
      name: "target",
      call: (path, t) =>
        withUserns(async (userns) => {
          await library.idMapMount(`${t.dir}/source`, path, userns, wait);
          await library.unmount(path, wait);
        }),
    },
  ],
  isMountpoint: [onPath((path) => library.isMountpoint(path, wait))],
  lookupMount: [onPath((path) => library.lookupMount(path, wait))],
  setupLoop: [
    onPath((path) => library.setupLoop(path, wait).then((device) => device.detach())),
    {
      name: "path, read-only",
      call: (path) => library.setupLoop(path, { ...wait, readonly: true }).then((device) => device.detach()),
    },
  ],
  attachLoop: [onPath((path) => library.attachLoop(path, wait).then((device) => library.detachLoop(device)))],
  detachLoop: [onPath((path) => library.detachLoop(path), DEFAULT)],
  canonicalizePath: [onPath((path) => library.canonicalizePath(path, wait))],
  rootPath: [
    { name: "root", call: (path) => library.rootPath(path, "x", wait) },
    { name: "path", call: (path) => library.rootPath(parent(path), base(path), wait) },
    {
      name: "path behind a link",
      call: (path, t) => library.rootPath(t.dir, `link/${base(path)}/../x`, wait),
    },
  ],
  withTempMount: [
    { name: "source", call: (path) => library.withTempMount([bind(path)], () => {}, wait) },
    {
      name: "location",
      call: (path, t) =>
        withTempLocation(path, () => library.withTempMount([bind(`${t.dir}/source`)], () => {}, wait)),
    },
  ],
  withReadonlyTempMount: [
    { name: "source", call: (path) => library.withReadonlyTempMount([bind(path)], () => {}, wait) },
  ],
  probe: [onPath((path) => library.probe(path, wait))],
  setTempMountLocation: [onPath((path) => library.setTempMountLocation(path, wait))],
  cleanupTempMounts: [{
    name: "location",
    call: (path) => withTempLocation(path, () => library.cleanupTempMounts({ timeout: TIMEOUT })),
    timeout: 500,
  }],
  unmount: [onPath((path) => library.unmount(path, wait), 500)],
  unmountAll: [onPath((path) => library.unmountAll(path, wait), 500)],
  unmountRecursive: [onPath((path) => library.unmountRecursive(path, wait), 500)],
  unmountMounts: [
    { name: "target", call: (path) => library.unmountMounts([bind("/x")], path, wait), timeout: 500 },
    {
      name: "entry's target",
      call: (path, t) =>
        library.unmountMounts([{ ...bind("/x"), target: path.slice(t.dir.length) }], t.dir, wait),
      timeout: 500,
    },
  ],
};

/** The other functions and classes of mod.ts: they take no path, or do nothing with it. */
const NO_PATH: readonly string[] = [
  "AbandonedCallsError",
  "BusyError",
  "LoopDevice",
  "MountError",
  "OwnedFd",
  "SyscallError",
  "bind",
  "createUserNamespace",
  "explain",
  "fsTypeFilter",
  "image",
  "isReadonly",
  "kernelFeatures",
  "listMounts",
  "overlay",
  "parentsFilter",
  "parseIdMappings",
  "parseMountInfo",
  "parseMounts",
  "prefixFilter",
  "readonlyMounts",
  "removeIdMapOption",
  "removeVolatileOption",
  "singleEntryFilter",
  "userNamespaceOf",
  "watchMounts",
  "tmpfs",
];

/** Runs the command as cli.ts does, without printing its error. */
async function command(...args: string[]): Promise<void> {
  let status = 0;
  await program((code) => status = code).parseAsync(args, { from: "user" });
  if (status !== 0) throw new Error(`denomount ${args.join(" ")} exited with ${status}`);
}

/** The bind of a cached directory succeeds. */
async function upAndDown(file: string, target: string): Promise<void> {
  await command("up", file, target);
  await library.unmount(target, { detach: true });
}

/** The same, of one bind. */
async function bindAndDown(source: string, target: string): Promise<void> {
  await command("mount", "--bind", source, target);
  await library.unmount(target, { detach: true });
}

let lists = 0;

/** A list whose bind has its source on the server. Each is a new file: ext4 waits for the disk if a file is rewritten. */
function listOf(path: string, t: KernelContext): string {
  const file = `${t.dir}/list-${++lists}.json`;
  Deno.writeTextFileSync(file, JSON.stringify([bind(path)]));
  return file;
}

const newName = () => `name-${++lists}`;
const MAPS = ["--uid", "0:1000:10"];

/** The subcommands that take a path, and how. */
const COMMANDS: Readonly<Record<string, readonly Case[]>> = {
  up: [
    { name: "FILE", call: (path, t) => command("up", path, newTarget(t)) },
    { name: "TARGET", call: (path, t) => upAndDown(listOf(`${t.dir}/source`, t), path) },
    { name: "source", call: (path, t) => upAndDown(listOf(path, t), newTarget(t)) },
  ],
  down: [
    { name: "FILE", call: (path, t) => command("down", path, newTarget(t)) },
    { name: "TARGET", call: (path, t) => command("down", listOf("/x", t), path) },
  ],
  mount: [
    { name: "SOURCE", call: (path, t) => command("mount", path, newTarget(t)) },
    { name: "SOURCE, --type", call: (path, t) => command("mount", "-t", "ext4", path, newTarget(t)) },
    { name: "SOURCE, --bind", call: (path, t) => bindAndDown(path, newTarget(t)) },
    { name: "SOURCE, --move", call: (path, t) => command("mount", "--move", path, newTarget(t)) },
    { name: "TARGET", call: (path, t) => bindAndDown(`${t.dir}/source`, path) },
    { name: "TARGET, --move", call: (path, t) => command("mount", "--move", `${t.dir}/source`, path) },
    { name: "TARGET, --beneath", call: (path) => command("mount", "--beneath", "-t", "tmpfs", "t", path) },
  ],
  umount: [
    { name: "TARGET", call: (path) => command("umount", path) },
    { name: "TARGET, --all", call: (path) => command("umount", "--all", path) },
    { name: "TARGET, --recursive", call: (path) => command("umount", "--recursive", path) },
  ],
  run: [
    { name: "FILE", call: (path) => command("run", path, "--", "true") },
    { name: "source", call: (path, t) => command("run", listOf(path, t), "--", "true") },
  ],
  "run-isolated": [{ name: "FILE", call: (path) => command("run-isolated", path, "--", "true") }],
  explain: [{ name: "FILE", call: (path) => command("explain", path, "/mnt") }],
  idmap: [
    { name: "SOURCE", call: (path, t) => command("idmap", ...MAPS, path, newTarget(t)) },
    { name: "TARGET", call: (path, t) => command("idmap", ...MAPS, `${t.dir}/source`, path) },
  ],
  loop: [
    { name: "attach FILE", call: (path) => command("loop", "attach", path) },
    { name: "detach DEVICE", call: (path) => command("loop", "detach", path) },
  ],
  ls: [
    { name: "PATH", call: (path) => command("ls", path) },
    { name: "PATH, --tree", call: (path) => command("ls", "--tree", path) },
  ],
  activate: [
    { name: "FILE", call: (path, t) => command("activate", newName(), path, "--root", `${t.dir}/state`) },
    {
      name: "--root",
      call: (path, t) => command("activate", newName(), listOf(`${t.dir}/source`, t), "--root", path),
    },
  ],
  deactivate: [{ name: "--root", call: (path) => command("deactivate", newName(), "--root", path) }],
  activations: [{ name: "--root", call: (path) => command("activations", "--root", path) }],
  snapshotter: [
    {
      name: "--root",
      call: (path, t) => command("snapshotter", "--root", path, "--socket", `${t.dir}/${newName()}`),
    },
    {
      name: "--socket",
      call: (path, t) => command("snapshotter", "--root", newTarget(t), "--socket", `${path}/socket`),
    },
  ],
  sync: [{ name: "--root", call: (path) => command("sync", "--root", path) }],
  cleanup: [{
    name: "TMPDIR",
    call: (path) => withTempLocation(path, () => command("cleanup", "--timeout", "100")),
    timeout: 500,
  }],
  watch: [{ name: "PATH", call: (path) => command("watch", path), runsOn: true }],
  lookup: [{ name: "PATH", call: (path) => command("lookup", path) }],
  sandbox: [
    { name: "--writable", call: (path) => command("sandbox", "--writable", path, "--", "true"), times: 1 },
    { name: "--hidden", call: (path) => command("sandbox", "--hidden", path, "--", "true"), times: 1 },
  ],
  try: [{ name: "--overlay", call: (path) => command("try", "--overlay", path, "--", "true"), times: 1 }],
  bwrap: [{
    name: "--ro-bind",
    call: (path) => command("bwrap", "--ro-bind", "/", "/", "--ro-bind", path, "/mnt", "--", "true"),
    times: 1,
  }],
};

const COMMANDS_WITHOUT_PATH = ["completions", "doctor", "manual"];

Deno.test("the table has a line for each public function", () => {
  const functions = Object.entries(library).filter(([, value]) => typeof value === "function");
  assertEquals(
    functions.map(([name]) => name).sort(),
    [...Object.keys(FUNCTIONS), ...NO_PATH].sort(),
    "a new function has a case for each of its paths",
  );
});

Deno.test("the table has a line for each subcommand", () => {
  assertEquals(
    program(() => {}).commands.map((command) => command.name()).sort(),
    [...Object.keys(COMMANDS), ...COMMANDS_WITHOUT_PATH].sort(),
    "a new subcommand has a case for each of its paths",
  );
});

/** Waits until the event loop has run. */
const nextTurn = () => new Promise((resolve) => setTimeout(resolve));

/** Makes a call 40 times with each path, all at once; each ends in time, while the event loop runs on. */
async function assertEnds(
  server: StoppedServer,
  { name, call, timeout = TIMEOUT, runsOn, times = TIMES, limit }: Case,
  t: KernelContext,
) {
  const paths = [server.uncached, ...runsOn ? [] : [server.cached, server.cachedFile]];
  const all = async () => {
    const calls: Promise<{ path: string; error?: unknown }>[] = [];
    for (let index = 0; index < times; index++) {
      for (const path of paths) {
        calls.push(call(path, t).then(() => ({ path }), (error) => ({ path, error })));
        await nextTurn(); // a call that does not wait takes some milliseconds; forty in one turn would count as one
      }
    }
    const ended = await Promise.all(calls);
    await releaseAll();
    return ended;
  };
  // A call that waits several times takes its timeout for each: for the server's answer, and for the cleanup.
  const watched = await watchRepeatable(all, limit);
  try {
    assertRepeatableInTime(watched, 3 * timeout, limit);
    for (const { path, error } of watched.value ?? []) {
      if (path === server.uncached) {
        assert(error instanceof Error, `the uncached path did not fail: ${error}`);
      }
    }
  } catch (error) {
    throw new Error(
      `${name} at ${paths.map(base).join(", ")}: ${error instanceof Error ? error.message : error}`,
    );
  }
}

/** Deno's file system functions have a free thread. */
async function assertDenoWorks(t: KernelContext): Promise<void> {
  const file = `${t.dir}/deno`;
  const { value, error, ...watched } = await watch(async () => {
    await Deno.writeTextFile(file, "works");
    return await Deno.readTextFile(file);
  });
  assertInTime(watched, 0);
  assertEquals(value, "works", `${error}`);
}

for (const [name, cases] of Object.entries(FUNCTIONS)) {
  kernelTest(`${name}() ends with each of its paths on a stopped server`, needs, async (t) => {
    for (const one of cases) {
      t.make("target", "source", "work");
      await using server = await stoppedServer(t);
      await assertEnds(server, one, t);
      await assertDenoWorks(t);
    }
  });
}

for (const [name, cases] of Object.entries(COMMANDS)) {
  kernelTest(`denomount ${name} ends with each of its paths on a stopped server`, needs, async (t) => {
    for (const one of cases) {
      t.make("target", "source", "work");
      await using server = await stoppedServer(t);
      await assertEnds(server, { timeout: DEFAULT, ...one }, t);
      await assertDenoWorks(t);
    }
  });
}

kernelTest(
  "calls on 40 paths of a stopped server leave threads to Deno, and one more says why it fails",
  needs,
  async (t) => {
    await using server = await stoppedServer(t);
    const paths = Array.from({ length: TIMES }, (_, index) => `${parent(server.uncached)}/unseen-${index}`);
    const watched = await watch(() =>
      Promise.all(paths.map((path) => library.isMountpoint(path, wait).catch((e) => e)))
    );
    assertInTime(watched, TIMEOUT);
    for (const error of watched.value ?? []) assertEquals(error.code, "ETIMEDOUT");
    await assertDenoWorks(t);
    const next = await watch(() =>
      library.isMountpoint(`${parent(server.uncached)}/another`, { timeout: 60_000 })
    );
    assertInTime(next, 0);
    assert(next.error instanceof library.AbandonedCallsError, `${next.error}`);
    assert(next.error.message.includes("8 earlier calls"), next.error.message);
  },
);

kernelTest("after the server's mount is gone, paths are looked up again", needs, async (t) => {
  {
    await using server = await stoppedServer(t);
    for (let index = 0; index < 8; index++) {
      await library.isMountpoint(`${parent(server.uncached)}/${index}`, { timeout: 10 }).catch(() => {});
    }
  }
  assertEquals(await library.isMountpoint(`${t.dir}/nothing`), false);
  await ensureTempLocation(wait);
});

kernelTest("40 watches leave threads to Deno", { permissions: { run: true } }, async (t) => {
  const watches = Array.from({ length: TIMES }, () => library.watchMounts());
  const steps = watches.map((events) => events.next());
  await assertDenoWorks(t);
  const target = newTarget(t);
  await using _mounted = await library.mount({ type: "tmpfs", source: "tmpfs" }, target);
  for (const step of steps) {
    const { value } = await step;
    assert(value?.kind === "mounted" && value.mount.mountpoint === target);
  }
  for (const events of watches) await events.return?.();
});
