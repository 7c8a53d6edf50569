import { LocalMountManager, type ManagerOptions, type MountHandler } from "../../linux/manager/mod.ts";
import { isErrno } from "../../linux/mod.ts";
import { type Mount, mount, MountError } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { assertInTime, watch, type Watched } from "../hang/watch.ts";
import { type StoppedServer, stoppedServer } from "../hang/stopped_server.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { names, openFiles, readText } from "../kernel.ts";
import { run } from "../namespace/namespaces.ts";
import { open, patient, remains, settled, wait } from "./everything.ts";

const needs: Needs = {
  root: true,
  tools: ["mkfs.ext4", "mkfs.ext2", "bindfs", "mount.fuse3", "sh", "timeout", "umount"],
  permissions: { run: true, env: true },
};

const TIMEOUT = 300; // ms

/** An image that takes mkfs.ext2 more than ten seconds. */
const large = (t: KernelContext): Mount[] => [{
  type: "mkfs/loop",
  source: `${t.dir}/allowed/image`,
  options: ["X-containerd.mkfs.size=15TiB", "X-containerd.mkfs.fs=ext2"],
}];

/** The pids of the mkfs programs that this process has started. */
function makers(): string[] {
  return names("/proc").filter((pid) =>
    /^\d+$/.test(pid) && (readText(`/proc/${pid}/cmdline`) ?? "").includes(`\0/proc/${Deno.pid}/fd/`)
  );
}

/** Waits until mkfs runs. */
async function mkfsStarts(): Promise<void> {
  for (const start = performance.now(); makers().length === 0;) {
    if (performance.now() - start > 20_000) throw new Error("mkfs did not start in 20 s");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

kernelTest(
  "while mkfs runs, the event loop runs on, no timeout ends it, and its abort kills it and leaves nothing",
  needs,
  async (t) => {
    await using manager = await open(t.dir);
    const files = openFiles();
    try {
      for (const isStopped of [true, false]) {
        const controller = new AbortController();
        const reason = new Error("as the test wants");
        const call = manager.activate("large", large(t), { timeout: 2000, signal: controller.signal });
        const ended = call.then(() => undefined, (error) => error);
        await mkfsStarts();
        const [pid = ""] = makers();
        if (isStopped) await run("kill", "-STOP", pid); // it writes no gigabytes, and does not end
        const { blocked } = await watch(() =>
          new Promise((resolve) => setTimeout(resolve, isStopped ? 2500 : 0))
        );
        assert(blocked < 2000, `the event loop was blocked for ${blocked} ms`);
        assert(makers().includes(pid), "mkfs has ended");
        const watched = await watch(() => {
          controller.abort(reason);
          return ended;
        });
        assertEquals(watched.value, reason);
        assertInTime(watched, 0);
        assertEquals(remains(t.dir), []);
        assertEquals(openFiles(), files);
        for (let tries = 0; tries < 3000 && makers().length > 0; tries++) {
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        assertEquals(makers(), [], "a process is left");
        assertEquals(await manager.sync(), { removed: [], lost: [] });
      }
    } finally {
      for (const pid of makers()) await run("kill", "-KILL", pid);
    }
    await manager.activate("large", [{ type: "tmpfs", source: "t" }]);
    await manager.deactivate("large");
  },
);

kernelTest(
  "an abort at any time ends activate() with its reason and leaves nothing, or comes too late",
  needs,
  async (t) => {
    await using manager = await open(t.dir);
    const image: Mount = {
      type: "mkfs/loop",
      source: `${t.dir}/allowed/image`,
      options: ["X-containerd.mkfs.size=1MiB"],
    };
    const list: Mount[] = [
      { type: "tmpfs", source: "t" },
      image,
      { type: "format/ext4", source: "{{ mount 1 }}" },
      { type: "format/bind", source: "{{ mount 2 }}", options: ["bind"] },
    ];
    const files = openFiles();
    let [aborted, late] = [0, 0];
    for (let ms = 0; ms < 400 && late < 2; ms += 4) {
      const reason = new Error("as the test wants");
      const controller = new AbortController();
      const timer = setTimeout(() => controller.abort(reason), ms);
      const options = { ...patient, signal: controller.signal };
      const error = await manager.activate("one", list, options).then(() => undefined, (error) => error);
      clearTimeout(timer);
      if (error === undefined) {
        late++;
        await manager.deactivate("one");
        await Deno.remove(`${t.dir}/allowed/image`);
      } else {
        aborted++;
        assert(error === reason || error.cause === reason, `${ms} ms: ${error}`);
      }
      assertEquals(await settled(t.dir, []), [], `${ms} ms`); // a lookup on another thread may hold the device open
    }
    assertEquals(openFiles(), files);
    assert(aborted > 2, `${aborted} aborted`);
  },
);

kernelTest("activate() with a signal that is aborted makes nothing", needs, async (t) => {
  await using manager = await open(t.dir);
  const reason = new Error("as the test wants");
  for (const list of [[], [{ type: "tmpfs", source: "t" }], large(t)]) {
    const signal = AbortSignal.abort(reason);
    const error = await manager.activate("one", list, { signal }).catch((error) => error);
    assertEquals(error, reason);
    assertEquals(remains(t.dir), []);
  }
});

kernelTest("an abort while the last handler mounts undoes its mount", needs, async (t) => {
  const controller = new AbortController();
  const reason = new Error("as the test wants");
  const handler: MountHandler = {
    async mount(given, mountPoint) {
      await Deno.mkdir(mountPoint);
      await mount({ type: "tmpfs", source: given.source }, mountPoint);
      controller.abort(reason);
      return { ...given, mountPoint, mountedAt: new Date(), data: {} };
    },
    unmount: () => Promise.resolve(), // the manager unmounts what is left
  };
  await using manager = await open(t.dir, { handlers: { scratch: handler } });
  const options = { signal: controller.signal };
  // The second entry is for the caller, so that no call with the signal follows the handler's.
  const list: Mount[] = [{ type: "scratch", source: "t" }, { type: "tmpfs", source: "t" }];
  const error = await manager.activate("one", list, options).catch((error) => error);
  assertEquals(error, reason);
  assertEquals(remains(t.dir), []);
});

/** Fails unless the call has ended by its timeout. */
function assertTimedOut({ error, ...rest }: Watched<unknown>, what: string): void {
  assertInTime(rest, 2 * TIMEOUT);
  const isTimeout = isErrno(error, "ETIMEDOUT") || error instanceof MountError && error.code === "ETIMEDOUT";
  assert(isTimeout, `${what}: ${error}`);
}

const opened: [what: string, options: (server: StoppedServer, dir: string) => Partial<ManagerOptions>][] = [
  ["root directory", ({ uncached }) => ({ root: `${uncached}/root` })],
  ["cached root directory", ({ cached }) => ({ root: cached })],
  ["new root directory", ({ cached }) => ({ root: `${cached}/root` })],
  ["root directory behind a link", (_, dir) => ({ root: `${dir}/link/unseen` })],
  ["allowed root", ({ uncached }) => ({ allowedRoots: [uncached] })],
  ["record", ({ uncached }) => ({ database: `${uncached}/record.db` })],
  ["new record", ({ cached }) => ({ database: `${cached}/record.db` })],
  ["cached record", ({ cachedFile }) => ({ database: cachedFile })],
];

kernelTest(
  "open() with a path on a stopped server ends by its timeout, and the event loop runs on",
  needs,
  async (t) => {
    await using server = await stoppedServer(t);
    for (const [what, options] of opened) {
      const call = () =>
        LocalMountManager.open({ root: `${t.dir}/root`, timeout: TIMEOUT, ...options(server, t.dir) });
      assertTimedOut(await watch<unknown>(call), what);
    }
    assertEquals(t.mounts().length, 1);
  },
);

const mkdir = (path: string): Mount[] => [
  { type: "mkdir/bind", source: "/usr", options: [`X-containerd.mkdir.path=${path}`, "bind"] },
];
const mkfs = (source: string): Mount[] => [
  { type: "mkfs/loop", source, options: ["X-containerd.mkfs.size=1MiB"] },
];

const activated: [what: string, list: (server: StoppedServer) => Mount[]][] = [
  ["erofs image", ({ uncached }) => [{ type: "erofs", source: uncached }]],
  ["cached erofs image", ({ cachedFile }) => [{ type: "erofs", source: cachedFile }]],
  ["loop image", ({ uncached }) => [{ type: "loop", source: uncached }]],
  ["cached loop image", ({ cachedFile }) => [{ type: "loop", source: cachedFile }]],
  ["bind's source", ({ uncached }) => [{ type: "bind", source: uncached, options: ["bind"] }]],
  ["mkdir", ({ uncached }) => mkdir(`${uncached}/new`)],
  ["mkdir of an existing one", ({ uncached }) => mkdir(uncached)],
  ["mkdir in a cached directory", ({ cached }) => mkdir(`${cached}/new`)],
  ["mkfs", ({ uncached }) => mkfs(`${uncached}/new`)],
  ["mkfs in a cached directory", ({ cached }) => mkfs(`${cached}/new`)],
  ["mkfs of a cached image", ({ cachedFile }) => mkfs(cachedFile)],
];

for (const [what, list] of activated) {
  kernelTest(`activate() with its ${what} on a stopped server ends by its timeout`, needs, async (t) => {
    await using manager = await open(t.dir, { allowedRoots: [t.dir] });
    await using server = await stoppedServer(t);
    const options = { temporary: true, timeout: TIMEOUT };
    assertTimedOut(await watch(() => manager.activate("one", list(server), options)), what);
    assertEquals(names(`${t.dir}/root`).filter((name) => name.startsWith("a-")), []);
    assertEquals(t.mounts().length, 1);
    assertEquals(await manager.sync(), { removed: [], lost: [] });
  });
}

/** The pids of the FUSE servers of a directory. */
function serversOf(dir: string): string[] {
  return names("/proc").filter((pid) => {
    const command = readText(`/proc/${pid}/cmdline`) ?? "";
    return /^\d+$/.test(pid) && command.startsWith("bindfs\0") && command.includes(dir);
  });
}

kernelTest(
  "sync() and deactivate() end while the server of an activation's mount is stopped",
  needs,
  async (t) => {
    t.make("source");
    await using manager = await open(t.dir);
    const list: Mount[] = [{ type: "fuse3.bindfs", source: `${t.dir}/source` }, {
      type: "tmpfs",
      source: "t",
    }];
    await manager.activate("one", [...list, {
      type: "format/bind",
      source: "{{ mount 1 }}",
      options: ["bind"],
    }], patient);
    const [pid = ""] = serversOf(`${t.dir}/source`);
    await run("kill", "-STOP", pid);
    try {
      const synced = await watch(() => manager.sync());
      assertInTime(synced, 2500);
      assertEquals(synced.value, { removed: [], lost: [] });
      const { error, ...rest } = await watch(() => manager.deactivate("one", { timeout: 1000 }));
      assertInTime(rest, 1000);
      assertEquals(error, undefined);
      assertEquals(remains(t.dir), []);
    } finally {
      await run("sh", "-c", "kill -CONT $0 2>/dev/null; kill -KILL $0 2>/dev/null; true", pid);
    }
  },
);

kernelTest(
  "calls that wait for another process's lock end by their timeout and their signal",
  needs,
  async (t) => {
    await using manager = await open(t.dir);
    await manager.activate("one", [{ type: "tmpfs", source: "t" }], { ...wait, temporary: true });
    const [directory = ""] = names(`${t.dir}/root`).filter((name) => name.startsWith("a-"));
    const holder = new Deno.Command("flock", {
      args: [`${t.dir}/root/${directory}`, "sh", "-c", "echo locked; exec sleep 60"],
      stdout: "piped",
    }).spawn();
    const reader = holder.stdout.getReader();
    await reader.read();
    try {
      const before = remains(t.dir);
      const { error, ...rest } = await watch(() => manager.deactivate("one", { timeout: TIMEOUT }));
      assertInTime(rest, TIMEOUT);
      assertEquals([(error as Error).name, (error as Error).message], [
        "FailedPreconditionError",
        'another process works on the activation "one" just now',
      ]);
      const signal = AbortSignal.timeout(100);
      const aborted = await watch(() => manager.deactivate("one", { timeout: 60_000, signal }));
      assertInTime(aborted, 100);
      assertEquals(aborted.error, signal.reason);
      assertEquals(remains(t.dir), before);
    } finally {
      await run("sh", "-c", "kill -KILL $0 $(ps -o pid= --ppid $0)", `${holder.pid}`);
      await holder.status;
      await reader.cancel();
    }
    await manager.deactivate("one");
    assertEquals(remains(t.dir), []);
  },
);
