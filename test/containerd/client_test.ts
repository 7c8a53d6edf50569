import {
  AlreadyExistsError,
  Containerd,
  ContainerdError,
  DeadlineExceededError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  type SnapshotInfo,
  UnavailableError,
  UnimplementedError,
} from "../../containerd/mod.ts";
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "../assert.ts";
import { names, readText } from "../kernel.ts";
import { containerdTest, Daemon, NAMESPACE } from "./daemon.ts";

/** The mount table of the daemon's namespace, of what is below its directory. */
function mountpoints({ pid, directory }: Daemon): string[] {
  return (readText(`/proc/${pid}/mountinfo`) ?? "").trim().split("\n").map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path.startsWith(`${directory}/`)).map((path) => path.slice(directory.length));
}

/** The threads of a process stop one after the other. */
async function untilStopped(pid: number): Promise<void> {
  const isStopped = (task: string) => / T /.test(readText(`/proc/${pid}/task/${task}/stat`) ?? " T ");
  while (!names(`/proc/${pid}/task`).every(isStopped)) await new Promise((resolve) => setTimeout(resolve, 5));
}

const tmpfs = { type: "tmpfs", source: "tmpfs", options: ["size=1m"] };
const needsManager = [tmpfs, { type: "format/bind", source: "{{ mount 0 }}", options: ["rbind"] }];

containerdTest("the methods of a snapshotter do what ctr sees", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  const snapshots = containerd.snapshots("overlayfs");
  const seen = async () =>
    (await daemon.ctr("snapshots", "--snapshotter", "overlayfs", "ls")).slice(1).map((line) =>
      line.trim().split(/ +/)
    );

  const [bind, ...rest] = await snapshots.prepare("active", "", {
    labels: { "test.one": "1", "test.two": "2" },
  });
  assertEquals([bind?.type, bind?.options, rest], ["bind", ["rw", "rbind"], []]);
  assertEquals(await seen(), [["active", "Active"]]);
  await Deno.writeTextFile(`${bind?.source}/file`, "x".repeat(10_000));
  assertEquals(await snapshots.mounts("active"), bind === undefined ? [] : [bind]);
  const usage = await snapshots.usage("active");
  assertEquals(usage.inodes, 2);
  assert(usage.size >= 10_000, `${usage.size} bytes`);

  await snapshots.commit("layer", "active", { labels: { "test.one": "1" } });
  assertEquals(await seen(), [["layer", "Committed"]]);
  const [view] = await snapshots.view("view", "layer");
  assertEquals([view?.type, view?.options], ["bind", ["ro", "rbind"]]);
  assertEquals(await Deno.readTextFile(`${view?.source}/file`), "x".repeat(10_000));
  assertEquals(await seen(), [["layer", "Committed"], ["view", "layer", "View"]]);

  const before = Date.now();
  const labels = { "test.new": "a b" };
  const updated = await snapshots.update("layer", { labels });
  assertEquals([updated.name, updated.parent, updated.kind, updated.labels], [
    "layer",
    "",
    "committed",
    labels,
  ]);
  assert(Math.abs(updated.updatedAt.getTime() - before) < 60_000 && updated.createdAt < updated.updatedAt);
  const one = await snapshots.update("layer", { labels: { "test.new": "b" }, paths: ["labels.test.new"] });
  assertEquals(one.labels, { "test.new": "b" });
  assertEquals((await daemon.ctr("snapshots", "info", "layer")).join("").includes('"test.new": "b"'), true);
  assertEquals((await snapshots.stat("view")).parent, "layer");

  const listed = async (filters?: string[]) =>
    (await Array.fromAsync(snapshots.list(filters === undefined ? {} : { filters }))).map(({ name }) => name);
  assertEquals(await listed(), ["layer", "view"]);
  assertEquals(await listed(["kind==view"]), ["view"]);
  assertEquals(await listed(['labels."test.new"==b']), ["layer"]);

  await snapshots.remove("view");
  await snapshots.remove("layer");
  assertEquals(await seen(), []);
});

containerdTest("list() gives thousands of snapshots, and ends when its loop does", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  const snapshots = containerd.snapshots("native");
  const keys = Array.from({ length: 1000 }, (_, index) => `key-${String(index).padStart(4, "0")}`);
  const labels = { "test.long": "x".repeat(3000) }; // more in all than a connection sends ahead
  await Promise.all(keys.map((key) => snapshots.prepare(key, "", { labels }))); // 1,000 concurrent calls
  const lines = await daemon.ctr("snapshots", "--snapshotter", "native", "ls");
  assertEquals(lines.length, 1001);
  assertEquals(await Array.fromAsync(snapshots.list(), ({ name }: SnapshotInfo) => name), keys);
  for (let round = 0; round < 50; round++) {
    const first: string[] = [];
    for await (const { name } of snapshots.list()) {
      first.push(name);
      if (first.length === 3) break;
    }
    assertEquals(first, keys.slice(0, 3));
  }
  assertEquals((await snapshots.stat("key-0000", { timeout: 10_000 })).labels, labels); // no list is in its way
});

containerdTest("each refusal of containerd is an error of its class, in a sentence", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  const snapshots = containerd.snapshots("overlayfs");
  await snapshots.prepare("a", "");
  await snapshots.commit("layer", "a");
  await snapshots.view("child", "layer");
  const refusals: [new (...args: never[]) => ContainerdError, string, string, () => Promise<unknown>][] = [
    [
      NotFoundError,
      "NOT_FOUND",
      "cannot stat the snapshot none of overlayfs: snapshot none does not exist: not found; " +
      `the namespace is ${NAMESPACE}`,
      () => snapshots.stat("none"),
    ],
    [
      AlreadyExistsError,
      "ALREADY_EXISTS",
      'cannot prepare the snapshot child of overlayfs: snapshot "child": already exists',
      () => snapshots.prepare("child", ""),
    ],
    [
      FailedPreconditionError,
      "FAILED_PRECONDITION",
      "cannot remove the snapshot layer of overlayfs: cannot remove snapshot with child: failed precondition",
      () => snapshots.remove("layer"),
    ],
    [
      InvalidArgumentError,
      "INVALID_ARGUMENT",
      "cannot stat the snapshot a of nothing: snapshotter not loaded: nothing: invalid argument",
      () => containerd.snapshots("nothing").stat("a"),
    ],
    [
      InvalidArgumentError,
      "INVALID_ARGUMENT",
      "cannot list the snapshots of nothing: snapshotter not loaded: nothing: invalid argument",
      () => Array.fromAsync(containerd.snapshots("nothing").list()),
    ],
    [
      UnimplementedError,
      "UNIMPLEMENTED",
      "cannot clean up the snapshotter native: snapshotter does not implement Cleanup method: not implemented",
      () => containerd.snapshots("native").cleanup(),
    ],
    [
      UnimplementedError,
      "UNIMPLEMENTED",
      "cannot activate the mounts plain: not implemented; the list needs no manager, mount it with mountAll()",
      () => containerd.mounts.activate("plain", [tmpfs]),
    ],
    [
      UnimplementedError,
      "UNIMPLEMENTED",
      "cannot update the activation none: not implemented",
      () => containerd.mounts.update("none", { labels: {} }),
    ],
    [
      ContainerdError,
      "UNKNOWN",
      'cannot activate the mounts broken: template: :1:3: executing "" at <mount 7>: error calling mount: ' +
      "index out of bounds: 7, has 1 active mounts",
      () => containerd.mounts.activate("broken", [tmpfs, { type: "format/bind", source: "{{ mount 7 }}" }]),
    ],
  ];
  for (const [errorClass, code, message, call] of refusals) {
    const error = await assertRejects(call, ContainerdError);
    assertEquals([error.constructor, error.name, error.code], [errorClass, errorClass.name, code]);
    assertEquals(error.message, message);
  }
});

containerdTest("activations are in containerd's mount namespace until they are deactivated", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  const { mounts } = containerd;
  const labels = { "containerd.io/gc.bref.image": "none", "test.name": 'quoted "name"' };
  const before = Date.now();
  const activation = await mounts.activate("one", needsManager, { labels });
  const [active] = activation.active;
  assert(active !== undefined && Math.abs(active.mountedAt.getTime() - before) < 60_000);
  assertEquals(activation, {
    name: "one",
    active: [{ ...tmpfs, mountPoint: active.mountPoint, mountedAt: active.mountedAt, data: {} }],
    system: [{ type: "bind", source: active.mountPoint, options: ["rbind"] }],
    labels,
  });
  assertEquals(mountpoints(daemon), [active.mountPoint.slice(daemon.directory.length)]);
  await assertRejects(() => mounts.activate("one", needsManager), AlreadyExistsError);
  const temporary = await mounts.activate("two", [tmpfs], { temporary: true });
  assertEquals(temporary.system, [{
    type: "bind",
    source: temporary.active[0]?.mountPoint ?? "",
    options: ["rbind"],
  }]);
  assertEquals(mountpoints(daemon).length, 2);

  assertEquals((await mounts.info("one")).system, activation.system);
  const listed = async (wanted?: Record<string, string>) =>
    (await Array.fromAsync(mounts.list(wanted === undefined ? {} : { labels: wanted }))).map(({ name }) =>
      name
    );
  assertEquals(await listed(), ["one", "two"]);
  assertEquals(await listed({ "test.name": 'quoted "name"' }), ["one"]);
  assertEquals(await listed({ "test.name": "another" }), []);

  await mounts.deactivate("one");
  await mounts.deactivate("two");
  assertEquals(mountpoints(daemon), []);
  const error = await assertRejects(() => mounts.deactivate("one"), NotFoundError);
  assertMatch(
    error.message,
    /^cannot deactivate the mounts one: .*not found; the namespace is denomount-test$/,
  );
  for (const option of ["detach", "force", "expire", "noFollow"] as const) {
    const refused = await assertRejects(() => mounts.deactivate("one", { [option]: true }), TypeError);
    assertStringIncludes(refused.message, option);
  }
  await assertRejects(
    () => mounts.activate("one", [], { allowMountTypes: ["erofs"] }),
    TypeError,
    "allowMountTypes",
  );
});

containerdTest(
  "a namespace has its own snapshots, and a lease keeps them from the garbage collector",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    const { socket: address } = daemon;
    await using leased = daemon.client();
    await using plain = new Containerd({ address, namespace: NAMESPACE });
    await using other = new Containerd({ address, namespace: "other" });
    await leased.snapshots("native").prepare("kept", "");
    await plain.snapshots("native").prepare("lost", "");
    assertEquals(await Array.fromAsync(other.snapshots("native").list()), []);
    await daemon.collectGarbage();
    assertEquals((await Array.fromAsync(plain.snapshots("native").list())).map(({ name }) => name), ["kept"]);
    await using wrong = daemon.client({ lease: "none" });
    const error = await assertRejects(() => wrong.snapshots("native").prepare("b", ""), NotFoundError);
    assertStringIncludes(error.message, "lease does not exist: not found");
    await using invalid = new Containerd({ address, namespace: "a/b" });
    await assertRejects(() => invalid.snapshots("native").prepare("b", ""), InvalidArgumentError, "a/b");
  },
);

containerdTest(
  "a call ends by its timeout or its signal while containerd is stopped, and works when it goes on",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    await containerd.version();
    const reason = new Error("enough");
    const snapshots = containerd.snapshots("overlayfs");
    await assertRejects(
      () => snapshots.prepare("never", "", { signal: AbortSignal.abort(reason) }),
      Error,
      "enough",
    );
    await assertRejects(() => snapshots.stat("never"), NotFoundError); // it was not sent
    assertThrows(() => new Containerd({ timeout: -1 }), TypeError, "milliseconds");
    Deno.kill(daemon.pid, "SIGSTOP");
    try {
      await untilStopped(daemon.pid);
      const late = await assertRejects(() => containerd.version({ timeout: 50 }), DeadlineExceededError);
      assertEquals(
        late.message,
        `cannot get containerd's version: containerd at ${daemon.socket} did not answer within 50 ms`,
      );
      await assertRejects(() => Array.fromAsync(snapshots.list({ timeout: 50 })), DeadlineExceededError);
      await using impatient = daemon.client({ timeout: 50 });
      await assertRejects(() => impatient.version(), DeadlineExceededError);
      for (
        const call of [
          (signal: AbortSignal) => containerd.version({ signal }),
          (signal: AbortSignal) => Array.fromAsync(snapshots.list({ signal })),
        ]
      ) {
        const controller = new AbortController();
        setTimeout(() => controller.abort(reason), 20);
        assertEquals(await assertRejects(() => call(controller.signal), Error), reason);
      }
    } finally {
      Deno.kill(daemon.pid, "SIGCONT");
    }
    assertMatch((await containerd.version({ timeout: Infinity })).version, /^\d+\.\d+/);
  },
);

containerdTest("a client connects again after containerd has restarted", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  const snapshots = containerd.snapshots("overlayfs");
  await snapshots.prepare("before", "");
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const calls = Array.from({ length: 50 }, () => snapshots.stat("before"));
    const stopped = daemon.stop(signal);
    const results = await Promise.allSettled(calls); // in the middle: each is answered, or fails as unavailable
    for (const result of results) {
      if (result.status === "fulfilled") assertEquals(result.value.name, "before");
      else assert(result.reason instanceof UnavailableError, result.reason);
    }
    await stopped;
    const error = await assertRejects(() => containerd.version(), UnavailableError);
    assertMatch(error.message, /; start containerd, or pass the address of the one that runs$/);
    await assertRejects(() => containerd.version(), UnavailableError);
    await daemon.start();
    assertEquals((await snapshots.stat("before")).name, "before"); // the first call after the restart
  }
});

containerdTest("an address that is no containerd's is a sentence that says what to do", async (t) => {
  const message = async (address: string) => {
    await using containerd = new Containerd({ address });
    return (await assertRejects(() => containerd.version(), UnavailableError)).message;
  };
  const cannot = "cannot get containerd's version:";
  const start = "start containerd, or pass the address of the one that runs";
  assertEquals(await message(`${t.dir}/none`), `${cannot} the socket ${t.dir}/none does not exist; ${start}`);
  Deno.writeTextFileSync(`${t.dir}/file`, "");
  assertEquals(
    await message(`${t.dir}/file`),
    `${cannot} no process listens on the socket ${t.dir}/file; ${start}`,
  );
  {
    using listener = Deno.listen({ transport: "unix", path: `${t.dir}/other` }); // speaks no HTTP/2
    const serve = (async () => {
      for await (const connection of listener) connection.close();
    })();
    assertMatch(
      await message(`unix://${t.dir}/other`),
      /: containerd at .*\/other ended or broke the connection \(/,
    );
    listener.close();
    await serve;
  }
  for (const address of ["", "relative.sock", "unix:relative.sock", "tcp://127.0.0.1:1"]) {
    assertThrows(() => new Containerd({ address }), TypeError, "absolute path");
  }
  for (const word of ["", "a b", "\u00e9", "a\n"]) {
    assertThrows(() => new Containerd({ namespace: word }), TypeError, "a namespace is");
    assertThrows(() => new Containerd({ lease: word }), TypeError, "a lease is");
  }
});
