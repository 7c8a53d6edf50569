import {
  AlreadyExistsError,
  Containerd,
  ContainerdError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  serveSnapshotter,
  type SnapshotInfo,
  type SnapshotsClient,
  UnavailableError,
} from "../../containerd/mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import type { KernelContext } from "../harness.ts";
import { names } from "../kernel.ts";
import { say } from "../use/ways.ts";
import { containerdTest, Daemon } from "./daemon.ts";
import { serverTest } from "./served.ts";
import { SmallSnapshotter } from "./small_snapshotter.ts";

const socketOf = (t: KernelContext) => `${t.dir}/sock`;

/** Serves a snapshotter without rules, and calls a function with it and a client. */
async function serving(
  t: KernelContext,
  use: (snapshots: SnapshotsClient, small: SmallSnapshotter) => Promise<void>,
): Promise<void> {
  const small = new SmallSnapshotter();
  await using _server = await serveSnapshotter(small, { socket: socketOf(t) });
  await using client = new Containerd({ address: socketOf(t) });
  await use(client.snapshots("small"), small);
}

/** A layer l, an active a on it, and a view v. */
async function base(snapshots: SnapshotsClient): Promise<void> {
  await snapshots.prepare("l-a", "");
  await snapshots.commit("l", "l-a");
  await snapshots.prepare("a", "l");
  await snapshots.view("v", "l");
}

serverTest("the server holds containerd's rules for a snapshotter that has none", async (t) => {
  await serving(t, async (snapshots, small) => {
    await base(snapshots);
    const before = [structuredClone([...small.infos.values()]), small.calls.length];
    const refusals: [new (...args: never[]) => ContainerdError, string, () => Promise<unknown>][] = [
      [AlreadyExistsError, "the snapshot a already exists", () => snapshots.prepare("a", "l")],
      [AlreadyExistsError, "the snapshot l already exists", () => snapshots.view("l", "")],
      [AlreadyExistsError, "the snapshot v already exists", () => snapshots.commit("v", "a")],
      [NotFoundError, "the snapshot none does not exist", () => snapshots.prepare("b", "none")],
      [InvalidArgumentError, "the parent a is not committed", () => snapshots.prepare("b", "a")],
      [InvalidArgumentError, "the parent v is not committed", () => snapshots.view("b", "v")],
      [InvalidArgumentError, "at least one character", () => snapshots.prepare("", "")],
      [InvalidArgumentError, "no NUL", () => snapshots.prepare("a\0b", "")],
      [
        InvalidArgumentError,
        "at most 4096",
        () => snapshots.prepare("b", "", { labels: { x: "y".repeat(4096) } }),
      ],
      [InvalidArgumentError, "no key", () => snapshots.prepare("b", "", { labels: { "": "y" } })],
      [FailedPreconditionError, "is committed", () => snapshots.mounts("l")],
      [NotFoundError, "none", () => snapshots.mounts("none")],
      [FailedPreconditionError, "not active but view", () => snapshots.commit("b", "v")],
      [FailedPreconditionError, "not active but committed", () => snapshots.commit("b", "l")],
      [NotFoundError, "none", () => snapshots.commit("b", "none")],
      [InvalidArgumentError, "made on l", () => snapshots.commit("b", "a", { parent: "other" })],
      [FailedPreconditionError, "such as a", () => snapshots.remove("l")],
      [NotFoundError, "none", () => snapshots.remove("none")],
      [NotFoundError, "none", () => snapshots.stat("none")],
      [NotFoundError, "none", () => snapshots.update("none", { labels: {} })],
      [
        InvalidArgumentError,
        "kind",
        () => snapshots.update("a", { labels: {}, paths: ["labels.x", "kind"] }),
      ],
      [NotFoundError, "none", () => snapshots.usage("none")],
      [InvalidArgumentError, ">|", () => Array.fromAsync(snapshots.list({ filters: ["name="] }))],
    ];
    for (const [errorClass, said, call] of refusals) {
      const error = await assertRejects(call, ContainerdError, said);
      assertEquals(error.name, errorClass.name, said);
    }
    assertEquals([[...small.infos.values()], small.calls.length], before); // none has reached it
    assertEquals(await snapshots.usage("a"), { size: 2 ** 40, inodes: 7 });
    await snapshots.cleanup();
    await snapshots.remove("v");
    await snapshots.remove("a");
    await snapshots.remove("l");
    assertEquals(small.infos.size, 0);
  });
});

serverTest("a snapshot without a parent gets one when it is committed", async (t) => {
  await serving(t, async (snapshots, small) => {
    await base(snapshots);
    await snapshots.prepare("b", "");
    await assertRejects(() => snapshots.commit("on-active", "b", { parent: "a" }), InvalidArgumentError);
    await assertRejects(() => snapshots.commit("on-none", "b", { parent: "none" }), NotFoundError);
    await snapshots.commit("on-l", "b", { parent: "l" });
    assertEquals(small.infos.get("on-l")?.parent, "l");
    await assertRejects(() => snapshots.remove("l"), FailedPreconditionError, "made on it");
  });
});

serverTest("a label with an empty value is none", async (t) => {
  await serving(t, async (snapshots, small) => {
    await snapshots.prepare("a", "", { labels: { one: "1", empty: "" } });
    assertEquals(small.infos.get("a")?.labels, { one: "1" });
    await snapshots.update("a", { labels: { two: "2" }, paths: ["labels.one", "labels.two"] });
    assertEquals(small.infos.get("a")?.labels, { two: "2" });
  });
});

serverTest("calls on one name run one after the other, and others beside them", async (t) => {
  await serving(t, async (snapshots, small) => {
    await snapshots.prepare("p-a", "");
    await snapshots.commit("p", "p-a");
    small.pause = (call) => new Promise((resolve) => setTimeout(resolve, call === "active a" ? 300 : 1));
    small.calls.length = 0;
    const outcomes = await Promise.allSettled([
      snapshots.prepare("a", "p"),
      ...Array.from({ length: 20 }, () => snapshots.prepare("a", "")),
      snapshots.prepare("b", ""),
    ]);
    assertEquals(outcomes.filter(({ status }) => status === "fulfilled").length, 2);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") assertEquals(outcome.reason.name, "AlreadyExistsError");
    }
    assertEquals(small.calls.filter((call) => call.endsWith("a")), ["begin active a", "end active a"]);
    assert(small.calls.indexOf("end active b") < small.calls.indexOf("end active a"), "b has waited for a");
    // A parent is not removed while a child is made on it.
    await snapshots.remove("a");
    const [made, removed] = await Promise.allSettled([snapshots.prepare("a", "p"), snapshots.remove("p")]);
    assertEquals([made.status, removed.status], ["fulfilled", "rejected"]);
    const mixed = await Promise.allSettled([
      snapshots.commit("c", "a"),
      snapshots.remove("a"),
      snapshots.mounts("a"),
      snapshots.prepare("c", ""),
    ]);
    assertEquals(mixed.map(({ status }) => status), ["fulfilled", "rejected", "rejected", "rejected"]);
  });
});

serverTest(
  "a call that is cancelled ends in the snapshotter too, and one that waits is not begun",
  async (t) => {
    await serving(t, async (snapshots, small) => {
      const { promise: cancelled, resolve } = Promise.withResolvers<unknown>();
      small.pause = (_call, signal) =>
        new Promise((_, reject) =>
          signal?.addEventListener("abort", () => (resolve(signal.reason), reject(signal.reason)))
        );
      const abort = new AbortController();
      const first = snapshots.prepare("a", "", { signal: abort.signal }).catch((error) => error);
      while (small.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const waiting = snapshots.prepare("a", "", { timeout: 200 }).catch((error) => error.name);
      assertEquals(await waiting, "DeadlineExceededError");
      abort.abort(new Error("enough"));
      assertEquals((await first).message, "enough");
      assertEquals((await cancelled as Error).name, "AbortError");
      small.pause = () => Promise.resolve();
      await snapshots.prepare("b", "");
      assertEquals(small.calls.filter((call) => call.endsWith("active a")), ["begin active a"]);
    });
  },
);

serverTest("list() sends thousands of snapshots in pages, also to a client that reads slowly", async (t) => {
  await serving(t, async (snapshots, small) => {
    const now = new Date();
    for (let index = 0; index < 5000; index++) {
      const name = `key-${String(index).padStart(4, "0")}`;
      small.infos.set(name, {
        name,
        parent: "",
        kind: "active",
        labels: { x: "y".repeat(1000) },
        createdAt: now,
        updatedAt: now,
      });
    }
    const seen: string[] = [];
    for await (const { name } of snapshots.list()) {
      if (seen.length === 0) {
        await new Promise((resolve) => setTimeout(resolve, 300));
        assert(small.listed < 4000, `${small.listed} are listed before the first is read`); // the rest waits
      }
      seen.push(name);
      if (seen.length % 1000 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assertEquals(seen, [...small.infos.keys()]);
    for await (const _ of snapshots.list()) break; // ends early
    assertEquals(
      await Array.fromAsync(
        snapshots.list({ filters: ["name==key-4999"] }),
        ({ name }: SnapshotInfo) => name,
      ),
      ["key-4999"],
    );
  });
});

serverTest("1,000 calls at once are answered", async (t) => {
  await serving(t, async (snapshots, small) => {
    await Promise.all(Array.from({ length: 1000 }, (_, index) => snapshots.prepare(`key-${index}`, "")));
    assertEquals(small.infos.size, 1000);
  });
});

serverTest("an error of the snapshotter has its words, and its code by its name", async (t) => {
  await serving(t, async (snapshots, small) => {
    const throwing = (error: unknown) => small.pause = () => Promise.reject(error);
    throwing(new Error("the disk is full"));
    const unknown = await assertRejects(
      () => snapshots.prepare("a", ""),
      ContainerdError,
      "the disk is full",
    );
    assertEquals(unknown.code, "UNKNOWN");
    throwing(Object.assign(new Error("not now"), { name: "FailedPreconditionError" }));
    await assertRejects(() => snapshots.prepare("a", ""), FailedPreconditionError, "not now");
    throwing(new TypeError("no such option"));
    await assertRejects(() => snapshots.prepare("a", ""), InvalidArgumentError, "no such option");
    throwing("a text");
    await assertRejects(() => snapshots.prepare("a", ""), ContainerdError, "a text");
  });
});

serverTest("the socket has mode 0600, and is gone at the end", async (t) => {
  const umask = Deno.umask(0);
  try {
    await serving(t, async () => {
      await Promise.resolve();
      const { mode, isSocket } = Deno.lstatSync(socketOf(t));
      assertEquals([(mode ?? 0) & 0o777, isSocket], [0o600, true]);
      assertEquals(names(t.dir), ["sock"]);
    });
  } finally {
    Deno.umask(umask);
  }
  assertEquals(names(t.dir), []);
});

serverTest(
  "a stale socket is replaced; a live one, another file, a link and a directory of others are refused",
  async (t) => {
    const socket = socketOf(t);
    const start = () => serveSnapshotter(new SmallSnapshotter(), { socket });
    const stale = new Deno.Command("setsid", {
      args: [
        Deno.execPath(),
        "eval",
        `Deno.listen({ transport: "unix", path: "${socket}" }); Deno.kill(Deno.pid, "SIGKILL")`,
      ],
      stdout: "null",
      stderr: "null",
    });
    await stale.output();
    const inode = Deno.lstatSync(socket).ino;
    {
      await using _server = await start();
      assert(Deno.lstatSync(socket).ino !== inode, "the stale socket is still there");
      const error = await assertRejects(start, Error, "a process listens on");
      assertStringIncludes(error.message, socket);
      await using client = new Containerd({ address: socket });
      await client.snapshots("small").prepare("a", ""); // the first still answers
      assertEquals(names(t.dir), ["sock"]);
    }
    Deno.writeTextFileSync(socket, "a file");
    await assertRejects(start, TypeError, "is no socket");
    assertEquals(Deno.readTextFileSync(socket), "a file");
    Deno.removeSync(socket);
    Deno.symlinkSync(`${t.dir}/elsewhere`, socket);
    await assertRejects(start, TypeError, "is no socket");
    assertEquals(names(t.dir), ["sock"]);
    Deno.removeSync(socket);
    Deno.chmodSync(t.dir, 0o1777);
    await assertRejects(start, TypeError, "other users can write to");
    Deno.chmodSync(t.dir, 0o755);
    for (const path of ["relative.sock", `${t.dir}/`, `${t.dir}/..`, `${t.dir}/${"x".repeat(200)}`]) {
      await assertRejects(() => serveSnapshotter(new SmallSnapshotter(), { socket: path }), TypeError);
    }
    assertEquals(names(t.dir), []);
  },
  { tools: ["setsid"] },
);

serverTest("of servers that start at once on one socket, one serves", async (t) => {
  const outcomes = await Promise.allSettled(
    Array.from({ length: 8 }, () => serveSnapshotter(new SmallSnapshotter(), { socket: socketOf(t) })),
  );
  const servers = outcomes.filter((outcome) => outcome.status === "fulfilled");
  assertEquals(servers.length, 1);
  await using client = new Containerd({ address: socketOf(t) });
  await client.snapshots("small").prepare("a", "");
  for (const { value } of servers) await value[Symbol.asyncDispose]();
  assertEquals(names(t.dir), []);
});

serverTest(
  "what a crash has left of a socket is removed, and the socket of a later server stays",
  async (t) => {
    t.make("sock.new");
    Deno.writeTextFileSync(`${t.dir}/sock.new/s`, "");
    const first = await serveSnapshotter(new SmallSnapshotter(), { socket: socketOf(t) });
    assertEquals(names(t.dir), ["sock"]);
    Deno.removeSync(socketOf(t)); // by hand, and another server is started
    await using _second = await serveSnapshotter(new SmallSnapshotter(), { socket: socketOf(t) });
    await first[Symbol.asyncDispose]();
    await using client = new Containerd({ address: socketOf(t) });
    await client.snapshots("small").prepare("a", "");
  },
);

serverTest("when the signal aborts, calls that run are completed, and new ones are refused", async (t) => {
  const small = new SmallSnapshotter();
  const { promise, resolve } = Promise.withResolvers<void>();
  small.pause = () => promise;
  const abort = new AbortController();
  const server = await serveSnapshotter(small, { socket: socketOf(t), signal: abort.signal });
  await using client = new Containerd({ address: socketOf(t) });
  const running = client.snapshots("small").prepare("a", "");
  while (small.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  abort.abort();
  await assertRejects(async () => {
    await using other = new Containerd({ address: socketOf(t) });
    await other.snapshots("small").prepare("b", "");
  }, UnavailableError);
  assertEquals(names(t.dir), []);
  resolve();
  assertEquals((await running).length, 1);
  await server.finished;
  await server[Symbol.asyncDispose]();
  assertEquals([...small.infos.keys()], ["a"]);
});

const filters = [
  "name==a",
  "name==b.c",
  'name=="b.c"',
  "name!=a",
  "name~=a",
  "name~=^a$",
  'name~="^[ab]"',
  "name~=/^a|b/",
  "name~=|^a|",
  "kind==active",
  "kind==committed",
  "kind==view",
  "kind",
  "nothing",
  "nothing!=x",
  "parent==l",
  "parent==",
  'parent==""',
  "parent!=l",
  "labels",
  "labels.one",
  "labels.one==1",
  'labels."one"==1',
  "labels.one!=1",
  'labels."a.b/c"==d',
  "labels.a.b",
  'labels.a."b/c"',
  "labels.one~=[0-9]",
  'labels.text=="x, y"',
  'labels.text=="x\\u002c y"',
  "labels.text=='x, y'",
  "labels.text==`x`",
  "kind==active,labels.one",
  "kind==active,",
  ",kind==active",
  "kind==active kind==view",
  "kind = active",
  "kind=active",
  "kind===active",
  "",
  "==",
  "name==",
  "name==a b",
  'name==a"b',
  "na-me==a",
  "name.==a",
  ".name==a",
  "1==1",
  "_==1",
  'labels."unfinished',
  "labels.text~=(?i)X",
  "name~=/a\\/b/",
  "name~=/",
  "kind<active",
  "name==a,name==b.c",
  "name!=a,name!=b.c",
  "labels.été==1",
  'labels."été"==1',
  "name==été",
  "name==/a/",
  "name==|a|",
  "name==a/b",
  "name==a|b",
  "name=='a'",
];

containerdTest(
  "each filter finds what it finds in containerd, and is refused where it is refused there",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    await serving(t, async (snapshots) => {
      const both = { ours: snapshots, theirs: containerd.snapshots("native") };
      const labels = { one: "1", "a.b/c": "d", text: "x, y", "été": "1" };
      for (const each of Object.values(both)) {
        await each.prepare("l-a", "");
        await each.commit("l", "l-a", { labels: { layer: "yes" } });
        await each.prepare("a", "l", { labels });
        await each.prepare("b.c", "");
        await each.prepare("été", "", { labels: { one: "2" } });
        await each.view("v", "l");
      }
      const listed = async (each: SnapshotsClient, filters: string[]) => {
        try {
          return (await Array.fromAsync(each.list({ filters }))).map(({ name }) => name).sort().join(" ");
        } catch (error) {
          // containerd has the words, but not the code.
          return error instanceof InvalidArgumentError || `${error}`.endsWith(": invalid argument")
            ? "refused"
            : `${error}`;
        }
      };
      const different: string[] = [];
      let refused = 0;
      for (const filter of filters) {
        const [ours, theirs] = [await listed(both.ours, [filter]), await listed(both.theirs, [filter])];
        if (theirs === "refused") refused++;
        if (ours !== theirs) different.push(`${filter}: ${ours}; containerd: ${theirs}`);
      }
      assertEquals(different, []);
      assert(refused >= 10, `${refused} are refused`);
      for (const several of [["kind==view", "name==a"], ["name==none", "kind==none"], ["name==a", ""]]) {
        assertEquals(
          await listed(both.ours, several),
          await listed(both.theirs, several),
          several.join(" or "),
        );
      }
    });
  },
);

serverTest(
  "serveSnapshotter() needs the permissions that its documentation names, and no others",
  async (t) => {
    const module = new URL("../../containerd/mod.ts", import.meta.url).href;
    Deno.writeTextFileSync(
      `${t.dir}/user.ts`,
      `import { LocalSnapshotter, serveSnapshotter } from "${module}";
    await using local = await LocalSnapshotter.open({ root: "${t.dir}/root" });
    await using _server = await serveSnapshotter(local, { socket: "${socketOf(t)}" });
    console.log("served");`,
    );
    const grants = [
      "--allow-ffi",
      `--allow-read=${t.dir}`,
      `--allow-write=${t.dir}`,
      `--allow-net=unix:${socketOf(t)},unix:${socketOf(t)}.new/s`,
      "--allow-env=GRPC_*",
    ];
    const run = async (permissions: string[]) =>
      await say(Deno.execPath(), ["run", "--quiet", "--no-prompt", ...permissions, `${t.dir}/user.ts`]);
    const { code, out, err } = await run(grants);
    assertEquals([code, out], [0, ["served"]], err);
    for (const missing of grants) {
      assertEquals((await run(grants.filter((grant) => grant !== missing))).code, 1, `without ${missing}`);
    }
  },
);
