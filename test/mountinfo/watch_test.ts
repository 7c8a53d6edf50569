import { listMounts, type MountEvent, singleEntryFilter, watchMounts, type WatchOptions } from "../../mod.ts";
import { MNT_DETACH, mount, MS_MOVE, pretendMissing, umount2 } from "../../linux/mod.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "../assert.ts";
import { decodeName } from "../../ffi/text.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { linkText, names, pollingThreads, readText } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";
import * as raw from "../raw.ts";

/** The descriptors that this process has open for a watch, and the number of threads that wait in poll(2). */
function usage(): { open: string[]; waiting: number } {
  const open = names("/proc/self/fd").map((fd) => linkText(`/proc/self/fd/${fd}`) ?? "").filter((target) =>
    /fanotify|eventfd|pidfd|mountinfo|mnt:/.test(target)
  ).sort();
  return { open, waiting: pollingThreads(Deno.pid) };
}

/** Waits for `count` events below the test's directory, and ends the watch. */
async function take(
  events: AsyncIterable<MountEvent>,
  count: number,
  { dir }: KernelContext,
): Promise<string[]> {
  const taken: string[] = [];
  for await (const event of events) {
    if (event.kind === "transient") taken.push("transient");
    else if (event.mount.mountpoint.startsWith(dir)) taken.push(text(event, dir));
    if (taken.length >= count) break;
  }
  return taken;
}

function text(event: Exclude<MountEvent, { kind: "transient" }>, dir: string): string {
  const { kind, mount } = event;
  const from = kind === "moved" ? ` from ${event.before.mountpoint.slice(dir.length)}` : "";
  return `${kind} ${mount.source} ${mount.mountpoint.slice(dir.length)}${from}`;
}

/** Watches with a time limit, so that a missing event fails the test instead of hanging it. */
function watched(options: WatchOptions = {}) {
  return watchMounts({ signal: AbortSignal.timeout(20_000), ...options });
}

const tmpfs = (source: string, path: string) => mount(source, path, "tmpfs", 0, "size=64k");
const detach = (path: string) => umount2(path, MNT_DETACH);

const needs = { tools: ["unshare", "nsenter", "mount", "umount"], permissions: { run: true } as const };

const ways: [string, Parameters<typeof pretendMissing>][] = [
  ["with fanotify", []],
  ["with mountinfo", ["mountEvents"]],
];

for (const [way, missing] of ways) {
  const watchTest = (rule: string, fn: (t: KernelContext) => Promise<void>) =>
    kernelTest(`${rule}, ${way}`, { ...needs, privateDirectory: true }, async (t) => {
      using _missing = pretendMissing(...missing);
      const before = usage();
      await fn(t);
      assertEquals(usage(), before, "a descriptor or a waiting thread is left behind");
    });

  watchTest("watchMounts() reports mounts and unmounts of other processes", async (t) => {
    const a = t.make("a");
    const events = watched();
    await run("mount", "-t", "tmpfs", "first", a);
    const { value } = await events.next();
    assert(value?.kind === "mounted");
    const [row] = t.mounts();
    const { id, source, fsType, options, optional } = value.mount;
    assertEquals(
      [id > 0, source, fsType, options.split(","), optional],
      [true, "first", row?.fsType ?? "", row?.options ?? [], row?.optional ?? ""],
    );
    const later = events.next();
    await run("mount", "-t", "tmpfs", "second", a);
    assertEquals((await later).value?.kind, "mounted");
    await run("umount", a);
    await run("umount", a);
    assertEquals((await take(events, 2, t)).sort(), ["unmounted first /a", "unmounted second /a"]);
  });

  watchTest("a mountpoint whose name is not UTF-8 has the name that listMounts() gives it", async (t) => {
    const bytes = raw.path(t.dir, Uint8Array.from([0x78, 0xff]));
    raw.mkdir(bytes);
    const mountpoint = decodeName(bytes);
    const events = watched();
    tmpfs("odd", mountpoint);
    assertEquals(await take(events, 1, t), ["mounted odd /x\udcff"]);
    const [listed] = await listMounts({ filter: singleEntryFilter(mountpoint) });
    assertEquals(listed?.source, "odd");
    detach(mountpoint);
  });

  watchTest("a burst of 1,000 mounts is reported, each once and in order", async (t) => {
    const places = Array.from({ length: 1000 }, (_, index) => `${index}`);
    t.make(...places);
    const events = watched();
    for (const place of places) tmpfs(`t${place}`, `${t.dir}/${place}`);
    const mounted = await take(events, 1000, t);
    assertEquals(mounted, places.map((place) => `mounted t${place} /${place}`));
    const again = watched();
    tmpfs("later", `${t.dir}/0`); // when it is reported, the table has been read
    const { value } = await again.next();
    assertEquals(value?.kind === "mounted" && value.mount.source, "later");
    for (const place of ["0", ...places]) detach(`${t.dir}/${place}`);
    const gone = await take(again, 1001, t);
    const unmounted = places.map((place) => `unmounted t${place} /${place}`);
    assertEquals(gone.sort(), ["unmounted later /0", ...unmounted].sort());
  });

  watchTest(
    "a moved mount is reported once, and its submounts are reported at the new path",
    async (t) => {
      t.make("a", "b");
      tmpfs("outer", `${t.dir}/a`);
      t.make("a/in");
      tmpfs("inner", `${t.dir}/a/in`);
      const events = watched();
      mount(`${t.dir}/a`, `${t.dir}/b`, null, MS_MOVE, null);
      assertEquals((await events.next()).value?.kind, "moved");
      detach(`${t.dir}/b/in`);
      detach(`${t.dir}/b`);
      assertEquals(await take(events, 2, t), ["unmounted inner /b/in", "unmounted outer /b"]);
    },
  );

  watchTest(
    "changed options are reported if `changes` is set, and propagation with the next event",
    async (t) => {
      t.make("a", "b");
      tmpfs("a", `${t.dir}/a`);
      const plain = watched();
      const changes = watched({ changes: true });
      await run("mount", "-o", "remount,ro", `${t.dir}/a`);
      const { value } = await changes.next();
      assert(value?.kind === "changed");
      assertEquals([value.before.options, value.mount.options], ["rw,relatime", "ro,relatime"]);
      await run("mount", "--make-shared", `${t.dir}/a`);
      tmpfs("b", `${t.dir}/b`);
      const reported = await take(changes, 2, t);
      assertEquals(reported.sort(), ["changed a /a", "mounted b /b"]);
      assertEquals(await take(plain, 1, t), ["mounted b /b"]);
      detach(`${t.dir}/b`);
      detach(`${t.dir}/a`);
    },
  );

  watchTest("an abort rejects the pending step with its reason, and ends the events", async (t) => {
    const abort = new AbortController();
    const events = watched({ signal: abort.signal });
    const step = events.next();
    setTimeout(() => abort.abort(new Error("enough")), 20);
    await assertRejects(() => step, Error, "enough");
    assertEquals(await events.next(), { done: true, value: undefined });
    assertThrows(() => watchMounts({ signal: abort.signal }), Error, "enough");

    const idle = new AbortController();
    const other = watched({ signal: idle.signal });
    tmpfs("t", t.make("a"));
    idle.abort(new Error("idle"));
    await assertRejects(() => other.next(), Error, "idle");
    detach(`${t.dir}/a`);
  });

  watchTest("return(), throw(), an error in the loop and `await using` end a watch", async (t) => {
    t.make("a");
    const waiting = watched();
    const step = waiting.next();
    assertEquals(await waiting.return?.(), { done: true, value: undefined });
    assertEquals(await step, { done: true, value: undefined });
    assertEquals(await waiting.next(), { done: true, value: undefined });
    {
      await using unused = watched();
      await assertRejects(async () => await unused.throw?.(new Error("thrown in")), Error, "thrown in");
    }
    const failing = watched();
    tmpfs("t", `${t.dir}/a`);
    await assertRejects(
      async () => {
        for await (const _event of failing) throw new Error("in the loop");
      },
      Error,
      "in the loop",
    );
    detach(`${t.dir}/a`);
    await using _never = watched();
  });

  watchTest("concurrent steps are answered in order", async (t) => {
    t.make("a", "b");
    const events = watched();
    const steps = [events.next(), events.next(), events.next()];
    tmpfs("a", `${t.dir}/a`);
    tmpfs("b", `${t.dir}/b`);
    const reported = await Promise.all(steps.slice(0, 2));
    assertEquals(reported.map(({ value }) => value?.kind === "mounted" && value.mount.source), ["a", "b"]);
    await events.return?.();
    assertEquals((await steps[2])?.done, true);
    for (const name of ["a", "b"]) detach(`${t.dir}/${name}`);
  });

  watchTest("`pid` watches the namespace of that process until the process ends", async (t) => {
    const a = t.make("a");
    const namespace = await MountNamespace.start();
    const events = watched({ pid: namespace.pid });
    tmpfs("ours", a);
    await namespace.run("mount", "-t", "tmpfs", "theirs", a);
    const { value } = await events.next();
    assert(value?.kind === "mounted");
    assertEquals([value.mount.source, value.mount.mountpoint], ["theirs", a]);
    const rest = take(events, Infinity, t);
    await namespace[Symbol.asyncDispose]();
    assert((await rest).every((line) => line.startsWith("unmounted")));
    detach(a);
    assertThrows(() => watchMounts({ pid: namespace.pid }), Error, "ENOENT");
    assertThrows(() => watchMounts({ pid: -1 }), TypeError, "a pid is");
  });

  watchTest("the event loop runs while a watch waits", async () => {
    const events = watched();
    const step = events.next();
    const start = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert(performance.now() - start < 1000);
    await events.return?.();
    await step;
  });
}

kernelTest("a mount that is unmounted before it is looked up is reported as transient", {
  ...needs,
  features: ["mountEvents", "statmount"],
}, async (t) => {
  const a = t.make("a");
  const events = watched();
  tmpfs("brief", a);
  detach(a);
  tmpfs("t", a);
  assertEquals(await take(events, 2, t), ["transient", "mounted t /a"]);
  detach(a);
});

kernelTest("if the queue of events overflows, the mount table is compared", {
  ...needs,
  privateDirectory: true,
}, async (t) => {
  const queued = Number(readText("/proc/sys/fs/fanotify/max_queued_events") ?? "0");
  if (queued === 0 || queued > 50_000) return;
  t.make("a", "b", "before", "after");
  tmpfs("before", `${t.dir}/before`);
  tmpfs("moved", `${t.dir}/a`);
  const events = watched();
  for (let moves = 0; moves < queued + 2; moves++) {
    const [from, to] = moves % 2 ? ["b", "a"] : ["a", "b"];
    mount(`${t.dir}/${from}`, `${t.dir}/${to}`, null, MS_MOVE, null);
  }
  detach(`${t.dir}/before`); // the queue has no event of these two
  tmpfs("after", `${t.dir}/after`);
  const reported: string[] = [];
  for await (const event of events) {
    assert(event.kind !== "transient");
    if (event.kind !== "moved") reported.push(text(event, t.dir));
    if (reported.length === 2) break;
  }
  assertEquals(reported, ["unmounted before /before", "mounted after /after"]);
  for (const name of ["a", "after"]) {
    if (t.mounts().some(({ mountpoint }) => mountpoint === `/${name}`)) detach(`${t.dir}/${name}`);
  }
  for (const { mountpoint } of t.mounts()) detach(`${t.dir}${mountpoint}`);
});

kernelTest("without the capability for fanotify, mount tables are compared", {
  ...needs,
  root: true,
  tools: ["setpriv"],
}, async (t) => {
  const program = new URL("watch_child.ts", import.meta.url).pathname;
  const without = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
  const args = [...without, Deno.execPath(), "run", "--quiet", "-A", program];
  t.make("a");
  const running = new Deno.Command("setpriv", { args, stdout: "piped" }).spawn();
  const reader = running.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assertEquals((await reader.read()).value, "watching\n");
  tmpfs("seen", `${t.dir}/a`);
  assertEquals((await reader.read()).value, "mounted seen\n");
  await reader.cancel();
  assertEquals((await running.status).code, 0);
  detach(`${t.dir}/a`);
});
