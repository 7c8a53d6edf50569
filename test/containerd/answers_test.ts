// deno-lint-ignore no-import-prefix
import { Server, ServerCredentials, type ServiceDefinition, status } from "npm:@grpc/grpc-js@1.14.7";
import * as manager from "../../linux/manager/mod.ts";
import {
  AlreadyExistsError,
  Containerd,
  ContainerdError,
  DeadlineExceededError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  type SnapshotsClient,
  UnavailableError,
  UnimplementedError,
} from "../../containerd/mod.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "../assert.ts";
import { containerdTest, Daemon, NAMESPACE } from "./daemon.ts";

type StatusName = Exclude<keyof typeof status, "OK">;

/** The class of each status; the others are a ContainerdError. */
const classes: Partial<Record<StatusName, new (...args: never[]) => Error>> = {
  NOT_FOUND: NotFoundError,
  ALREADY_EXISTS: AlreadyExistsError,
  FAILED_PRECONDITION: FailedPreconditionError,
  INVALID_ARGUMENT: InvalidArgumentError,
  UNIMPLEMENTED: UnimplementedError,
  UNAVAILABLE: UnavailableError,
  PERMISSION_DENIED: PermissionDeniedError,
  DEADLINE_EXCEEDED: DeadlineExceededError,
};

/** containerd has a meaning of its own for this answer of a snapshotter. */
const REPLACED: readonly StatusName[] = ["ALREADY_EXISTS"];

const statusNames = Object.keys(status).filter((name): name is StatusName =>
  /^[A-Z_]+$/.test(name) && name !== "OK"
);

/** A snapshotter that answers prepare() with the status that the key names. */
async function serveStatuses(socket: string): Promise<AsyncDisposable> {
  const raw = (bytes: Uint8Array) => bytes as never;
  const service = {
    prepare: {
      path: "/containerd.services.snapshots.v1.Snapshots/Prepare",
      requestStream: false,
      responseStream: false,
      requestSerialize: raw,
      requestDeserialize: raw,
      responseSerialize: raw,
      responseDeserialize: raw,
    },
  } satisfies ServiceDefinition;
  const server = new Server();
  server.addService(service, {
    prepare({ request }: { request: Uint8Array }, answer: (error: object) => void) {
      const [, name = ""] = /\/([A-Z_]+)/.exec(new TextDecoder().decode(request)) ?? []; // NAMESPACE/NUMBER/KEY
      answer({ code: status[name as StatusName], details: "said by the snapshotter" });
    },
  });
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(
      `unix://${socket}`,
      ServerCredentials.createInsecure(),
      (error) => error ? reject(error) : resolve(),
    )
  );
  return {
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.tryShutdown(() => resolve())),
  };
}

containerdTest(
  "each status that containerd answers with is an error of its class, with its words",
  async (t) => {
    const socket = `${t.dir}/plugin.sock`;
    await using _server = await serveStatuses(socket);
    const plugin = (name: string, address: string) => [
      `[proxy_plugins.${name}]`,
      '  type = "snapshot"',
      `  address = "${address}"`,
    ];
    const lines = [...plugin("statuses", socket), ...plugin("dead", `${t.dir}/none`)];
    await using daemon = await Daemon.start(`${t.dir}/d`, { lines });
    await using containerd = daemon.client();
    const statuses = containerd.snapshots("statuses");
    assertEquals(statusNames.length, 16);
    for (const name of statusNames.filter((each) => !REPLACED.includes(each))) {
      const error = await assertRejects(() => statuses.prepare(name, ""), ContainerdError);
      assertEquals([error.constructor, error.code], [classes[name] ?? ContainerdError, name]);
      assertEquals(error.name, error.constructor.name);
      assertMatch(
        error.message,
        new RegExp(`^cannot prepare the snapshot ${name} of statuses: said by the snapshotter`),
      );
    }
    // The connection to containerd itself works, so this is no advice to start it.
    const dead = await assertRejects(() => containerd.snapshots("dead").prepare("a", ""), UnavailableError);
    assertMatch(dead.message, /^cannot prepare the snapshot a of dead: connection error: .*none[^;]*$/);
  },
);

containerdTest("the errors of a manager are those of containerd's too, by one class", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  await using local = await manager.LocalMountManager.open({ root: t.make("manager") });
  for (const each of [local, containerd.mounts]) {
    const error = await assertRejects(() => each.info("none"), manager.NotFoundError);
    assertEquals(
      [error instanceof ContainerdError, error instanceof NotFoundError],
      [each !== local, each !== local],
    );
    assertEquals(error instanceof manager.AlreadyExistsError, false);
  }
  const native = containerd.snapshots("native");
  await native.prepare("a", "");
  const exists = await assertRejects(() => native.prepare("a", ""), manager.AlreadyExistsError);
  assertEquals([exists instanceof ContainerdError, exists instanceof NotFoundError, exists.activation], [
    true,
    false,
    undefined,
  ]);
  await native.commit("layer", "a");
  await native.prepare("b", "layer");
  const precondition = await assertRejects(() => native.remove("layer"), manager.FailedPreconditionError);
  assert(precondition instanceof ContainerdError && precondition instanceof FailedPreconditionError);
  assert(!(precondition instanceof InvalidArgumentError) && !(new Error() instanceof ContainerdError));
  const other = await assertRejects(() => native.cleanup(), UnimplementedError);
  assert(other instanceof ContainerdError && !(other instanceof NotFoundError));
});

/** Fills a snapshotter with more than a connection sends ahead; returns the number of snapshots. */
async function fill(snapshots: SnapshotsClient): Promise<number> {
  const labels = { "test.long": "x".repeat(3000) };
  const keys = Array.from({ length: 500 }, (_, index) => `key-${index}`);
  await Promise.all(keys.map((key) => snapshots.prepare(key, "", { labels })));
  return keys.length;
}

containerdTest(
  "a list ends in its middle by its signal, its timeout, and the end of containerd, and the next one is whole",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    const snapshots = containerd.snapshots("native");
    const count = await fill(snapshots);
    const listed = async () => (await Array.fromAsync(snapshots.list())).length;
    /** Lists, calls a function at the third snapshot, and returns what the list throws, and after how many snapshots. */
    const interrupted = async (
      act: () => unknown,
      options: { signal?: AbortSignal; timeout?: number } = {},
    ): Promise<{ error: unknown; seen: number }> => {
      let seen = 0;
      try {
        for await (const _ of snapshots.list(options)) if (++seen === 3) await act();
      } catch (error) {
        return { error, seen };
      }
      throw new Error(`the list has gone on to its end, with ${seen} snapshots`);
    };

    const controller = new AbortController();
    const reason = new Error("enough");
    const aborted = await interrupted(() => controller.abort(reason), { signal: controller.signal });
    assertEquals(aborted, { error: reason, seen: 3 });
    assertEquals(await listed(), count);

    const late = await interrupted(() => Deno.kill(daemon.pid, "SIGSTOP"), { timeout: 1500 });
    Deno.kill(daemon.pid, "SIGCONT");
    assert(late.error instanceof DeadlineExceededError, `${late.error}`);
    assertEquals(
      late.error.message,
      `cannot list the snapshots of native: containerd at ${daemon.socket} did not answer within 1500 ms`,
    );
    assert(late.seen >= 3 && late.seen < count, `${late.seen}`);
    assertEquals(await listed(), count);

    const killed = await interrupted(() => daemon.stop("SIGKILL"));
    assert(killed.error instanceof UnavailableError, `${killed.error}`);
    assert(killed.seen >= 3 && killed.seen < count, `${killed.seen}`);
    await daemon.start();
    assertEquals(await listed(), count);
  },
);

containerdTest("1,000 calls of every kind at once are answered, each with its own answer", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  const native = containerd.snapshots("native");
  await native.prepare("base", "");
  const [mount] = await native.mounts("base");
  const calls = Array.from({ length: 1000 }, async (_, index) => {
    switch (index % 5) {
      case 0:
        return assertEquals(await native.mounts("base"), mount === undefined ? [] : [mount]);
      case 1:
        return assertEquals((await native.stat("base")).kind, "active");
      case 2:
        return assertMatch(
          (await assertRejects(() => native.stat(`none-${index}`), NotFoundError)).message,
          RegExp(`none-${index} `),
        );
      case 3:
        return assertEquals((await Array.fromAsync(native.list())).map(({ name }) => name), ["base"]);
      default:
        return assertEquals((await native.usage("base")).inodes, 1);
    }
  });
  await Promise.all(calls);
});

containerdTest("a wrong namespace has nothing, and the error of a lookup in it names it", async (t) => {
  await using daemon = await Daemon.start(`${t.dir}/d`);
  await using containerd = daemon.client();
  await containerd.snapshots("native").prepare("a", "");
  assertEquals(await containerd.namespaces(), [NAMESPACE]);
  assertEquals((await containerd.snapshotters()).filter((name) => name !== "erofs"), ["native", "overlayfs"]);
  await using wrong = new Containerd({ address: daemon.socket, namespace: "k8s.oi" });
  assertEquals(await Array.fromAsync(wrong.snapshots("native").list()), []);
  assertEquals(await Array.fromAsync(wrong.mounts.list()), []);
  const error = await assertRejects(() => wrong.snapshots("native").stat("a"), NotFoundError);
  assertEquals(
    error.message,
    "cannot stat the snapshot a of native: snapshot a does not exist: not found; the namespace is k8s.oi",
  );
  assertEquals(await containerd.namespaces(), [NAMESPACE]);
});
