import { Containerd } from "../../containerd/mod.ts";
import { sizeText } from "../../cli/print.ts";
import { deactivateFound } from "../../cli/managed_list.ts";
import { NotFoundError } from "../../linux/manager/errors.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "../assert.ts";
import { containerdTest, Daemon, NAMESPACE } from "../containerd/daemon.ts";
import { startWithImage } from "../containerd/with_image.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { readText } from "../kernel.ts";
import { run } from "../namespace/namespaces.ts";
import { cli, start } from "./command.ts";
import { command } from "./in_process.ts";
import {
  at,
  denomountUnder,
  isRunning,
  killedAt,
  leftBehind,
  mountedTypes,
  sleepingMkfs,
} from "./managed.ts";

const needs = {
  permissions: { run: true, env: true, sys: true, net: true } as Deno.PermissionOptionsObject,
};
const onImage = { ...needs, tools: ["mkfs.ext4", "umount"] };
const DONE = { code: 0, out: "", err: "" };

/** The options for a daemon. */
const of = ({ socket }: Daemon) => ["--containerd", "--address", socket];

/** Those, and the namespace of the tests. */
const ofTests = (daemon: Daemon) => [...of(daemon), "--namespace", NAMESPACE];

/** The cells of the lines of each table, by two spaces or more, without the test's directory. */
function tables(t: KernelContext, out: string): string[][][] {
  return out.trimEnd().replaceAll(t.dir, "").split("\n\n").map((table) =>
    table.split("\n").map((line) => line.split(/ {2,}/))
  );
}

/** What the kernel says that files take, as the command prints it. */
function sizeOf(...paths: string[]): string {
  return sizeText(paths.reduce((sum, path) => sum + 512 * (Deno.statSync(path).blocks ?? 0), 0));
}

containerdTest(
  "ls --containerd prints the snapshots of every namespace and snapshotter, and what the mount manager has mounted",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    await using other = daemon.client({ namespace: "other", lease: "of-other" });
    await run(
      `${daemon.directory}/bin/ctr`,
      ...["-a", daemon.socket, "-n", "other", "leases", "create"],
      "--id",
      "of-other",
    );
    const [bind] = await containerd.snapshots("overlayfs").prepare("a", "");
    await Deno.writeFile(`${bind?.source}/file`, new Uint8Array(64 << 10));
    const size = sizeOf(bind?.source ?? "", `${bind?.source}/file`);
    await containerd.snapshots("overlayfs").commit("layer", "a");
    await containerd.snapshots("overlayfs").view("odd/key\x1b", "layer", { labels: { "test.of": "x" } });
    const [empty] = await other.snapshots("native").prepare("b", "");
    const list = [{ type: "tmpfs", source: "tmpfs" }, {
      type: "format/bind",
      source: "{{ mount 0 }}",
      options: ["rbind"],
    }];
    const labels = { "containerd.io/gc.bref.snapshot.native": "b", "containerd.io/gc.bref.container": "box" };
    const { active: [active] } = await other.mounts.activate("up:/x", list, { labels });
    const mountPoint = active?.mountPoint.replace(t.dir, "") ?? "";

    const all = await command(["ls", ...of(daemon)]);
    assertEquals([all.code, all.err], [0, ""]);
    const head = ["NAMESPACE", "SNAPSHOT", "KIND", "USED", "INODES", "PARENT"];
    const ofNamespace = [
      [NAMESPACE, "overlayfs/layer", "committed", size, "2"],
      [NAMESPACE, "overlayfs/odd/key\\033", "view", "0 B", "0", "layer"],
    ];
    assertEquals(tables(t, all.out), [
      [head, ...ofNamespace, ["other", "native/b", "active", sizeOf(empty?.source ?? ""), "1"]],
      [
        ["NAMESPACE", "ACTIVATION", "TYPE", "MOUNTPOINT", "OF"],
        ["other", "up:/x", "tmpfs", mountPoint, "container box, native/b"],
      ],
    ]);
    assertEquals(tables(t, (await command(["ls", ...ofTests(daemon)])).out), [[head, ...ofNamespace]]);

    const json = JSON.parse((await command(["ls", "--json", ...of(daemon)])).out);
    const { updatedAt, createdAt } = await containerd.snapshots("overlayfs").stat("odd/key\x1b");
    assertEquals(json.snapshots[1], {
      namespace: NAMESPACE,
      snapshotter: "overlayfs",
      name: "odd/key\x1b",
      parent: "layer",
      kind: "view",
      createdAt: createdAt.toJSON(),
      updatedAt: updatedAt.toJSON(),
      labels: { "test.of": "x" },
      ...await containerd.snapshots("overlayfs").usage("odd/key\x1b"),
    });
    assertEquals(json.snapshots.length, 3);
    const [activation] = await Array.fromAsync(other.mounts.list());
    assertEquals(json.activations, JSON.parse(JSON.stringify([{ namespace: "other", ...activation }])));
  },
  needs,
);

containerdTest(
  "ls --containerd --tree puts each snapshot below its parent",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    const native = containerd.snapshots("native");
    const [empty] = await native.prepare("a", "");
    const cells = [sizeOf(empty?.source ?? ""), "1"];
    await native.commit("base", "a");
    for (const name of ["one", "two"]) {
      await native.prepare(name, "base");
      await native.commit(`layer-${name}`, name);
    }
    await native.prepare("root", "layer-one");
    await containerd.snapshots("overlayfs").prepare("base", ""); // has the name of another one's
    const { code, out } = await command(["ls", "--tree", ...of(daemon)]);
    assertEquals(code, 0);
    assertEquals(tables(t, out), [[
      ["SNAPSHOT", "KIND", "USED", "INODES"],
      [`├─ ${NAMESPACE} native`],
      ["│", "└─ base", "committed", ...cells],
      ["│", "├─ layer-one", "committed", ...cells],
      ["│", "│", "└─ root", "active", ...cells],
      ["│", "└─ layer-two", "committed", ...cells],
      [`└─ ${NAMESPACE} overlayfs`],
      ["", "└─ base", "active", ...cells],
    ]]);
  },
  needs,
);

containerdTest(
  "CONTAINERD_ADDRESS and CONTAINERD_NAMESPACE stand for the options, and an empty one for none",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    await containerd.snapshots("native").prepare("a", "");
    using _address = setVariable("CONTAINERD_ADDRESS", daemon.socket);
    const ls = async (...args: string[]) =>
      tables(t, (await command(["ls", "--containerd", ...args])).out)[0]?.length;
    for (const namespace of [NAMESPACE, ""]) {
      using _namespace = setVariable("CONTAINERD_NAMESPACE", namespace);
      assertEquals(await ls(), 2);
    }
    using _namespace = setVariable("CONTAINERD_NAMESPACE", "wrong");
    assertEquals(await command(["ls", "--containerd"]), {
      ...DONE,
      code: 1,
      err: `denomount: containerd at ${daemon.socket} has no namespace "wrong"; it has ${NAMESPACE}\n`,
    });
    assertEquals(await ls("--namespace", NAMESPACE), 2);
    const target = t.make("target");
    const up = await command(["up", "--containerd", "native/a", target]);
    assertEquals([up.code, up.out], [1, ""]);
    assertMatch(up.err, /: snapshot a does not exist: not found; the namespace is wrong\n$/);
    assertEquals(
      (await command(["up", "--containerd", "--namespace", NAMESPACE, "native/a", target])).err,
      "",
    );
    assertEquals(
      (await command(["down", "--containerd", "--namespace", NAMESPACE, "native/a", target])).err,
      "",
    );
    assertEquals(t.mounts(), []);
  },
  needs,
);

function setVariable(name: string, value: string): Disposable {
  Deno.env.set(name, value);
  return { [Symbol.dispose]: () => Deno.env.delete(name) };
}

containerdTest(
  "ls --containerd prints what it can read, names what it can't, and exits with 1",
  async (t) => {
    await using daemon = await Daemon.start(`${t.dir}/d`);
    await using containerd = daemon.client();
    const [broken] = await containerd.snapshots("overlayfs").prepare("broken", "");
    const [whole] = await containerd.snapshots("overlayfs").prepare("whole", "");
    await Deno.remove(broken?.source ?? "", { recursive: true });
    const { code, out, err } = await command(["ls", ...of(daemon)]);
    assertEquals(tables(t, out)[0]?.slice(1), [
      [NAMESPACE, "overlayfs/broken", "active"],
      [NAMESPACE, "overlayfs/whole", "active", sizeOf(whole?.source ?? ""), "1"],
    ]);
    assertEquals([code, err.split("\n").length], [1, 2]);
    assertMatch(err, /^denomount: cannot get the usage of the snapshot broken of overlayfs: .*no such file/);
  },
  needs,
);

/** What a test with an image has. */
interface ImageContext {
  daemon: Daemon;
  containerd: Containerd;
  /** The image's topmost layer. */
  layer: string;
  /** A mountpoint. */
  target: string;
  /** The options for the daemon and the tests' namespace, and a snapshot as SNAPSHOTTER/KEY. */
  args(snapshot: string): string[];
}

/** Registers a test with a containerd that has the image. */
function imageTest(
  name: string,
  fn: (t: KernelContext, image: ImageContext) => Promise<void>,
  more: Pick<Needs, "tools" | "features"> = {},
): void {
  containerdTest(name, async (t) => {
    const { daemon, layer } = await startWithImage(`${t.dir}/d`, { inTestsNamespace: true });
    await using _daemon = daemon;
    await using containerd = daemon.client();
    const args = (snapshot: string) => [...ofTests(daemon), ...at(t), snapshot];
    await fn(t, { daemon, containerd, layer, target: t.make("target"), args });
  }, { ...onImage, ...more, tools: [...onImage.tools, ...more.tools ?? []] });
}

/** The activations of the tests' namespace. */
const activationsOf = async (containerd: Containerd) =>
  (await Array.fromAsync(containerd.mounts.list())).map(({ name }) => name);

imageTest(
  "up --containerd mounts a snapshot and stays, and down takes it off with what was activated for it",
  async (t, { daemon, containerd, layer, target, args }) => {
    Deno.symlinkSync("target", `${t.dir}/link`);
    for (const [snapshotter, activations] of [["overlayfs", []], ["erofs", [`up:${target}`]]] as const) {
      await containerd.snapshots(snapshotter).prepare("a/key", layer);
      const snapshot = args(`${snapshotter}/a/key`);
      assertEquals(await command(["up", ...snapshot, `${t.dir}/link`]), { ...DONE, out: `${target}\n` });
      assertEquals(t.mounts().find(({ mountpoint }) => mountpoint === "/target")?.fsType, "overlay");
      assertEquals(await activationsOf(containerd), [...activations]);
      await daemon.collectGarbage();
      assertEquals(await activationsOf(containerd), [...activations]); // it is kept with its snapshot
      await Deno.writeTextFile(`${target}/written`, snapshotter);
      assertEquals(await command(["down", ...snapshot, target]), DONE);
      assertEquals([t.mounts(), await activationsOf(containerd)], [[], []]);
      assertEquals(await command(["down", ...snapshot, target]), DONE); // as umount of what is not mounted
      await containerd.snapshots(snapshotter).commit("done", "a/key");
      await containerd.snapshots(snapshotter).view("look", "done");
      const view = args(`${snapshotter}/look`);
      assertEquals((await command(["up", ...view, target])).err, "");
      assertEquals(Deno.readTextFileSync(`${target}/written`), snapshotter);
      assertEquals((await command(["down", ...view, target])).err, "");
      assertEquals([t.mounts(), await activationsOf(containerd), leftBehind(t)], [[], [], []]);
    }
  },
);

imageTest(
  "up --containerd of a target that has a snapshot is refused, and down of another one too",
  async (t, { containerd, layer, target, args: argsOf }) => {
    for (const key of ["one", "two"]) await containerd.snapshots("erofs").prepare(key, layer);
    const args = (key: string) => [...argsOf(`erofs/${key}`), target];
    assertEquals((await command(["up", ...args("one")])).code, 0);
    const before = t.mounts();
    const second = await command(["up", ...args("two")]);
    assertEquals(
      second.err,
      `denomount: a list is mounted on ${target} already, as the activation "up:${target}": ` +
        'unmount it with "denomount down"\n',
    );
    const wrong = await command(["down", ...args("two")]);
    assertEquals(wrong.err, `denomount: ${target} has erofs/one mounted, not erofs/two\n`);
    assertEquals([second.code, wrong.code, t.mounts()], [1, 1, before]);
    const holder = new Deno.Command("sleep", { args: ["60"], cwd: target }).spawn();
    try {
      const busy = await command(["down", "--timeout", "0", ...args("one")]);
      assertEquals([busy.code, t.mounts()], [1, before]);
      assertStringIncludes(busy.err, `sleep (pid ${holder.pid})`);
      assertEquals(await activationsOf(containerd), [`up:${target}`]);
      assertEquals(await command(["down", "--lazy", "--timeout", "0", ...args("one")]), DONE);
    } finally {
      holder.kill("SIGKILL");
      await holder.status;
    }
    assertEquals([t.mounts(), await activationsOf(containerd)], [[], []]);

    await run("mount", "-t", "tmpfs", "-o", "size=64k", "foreign", target);
    const foreign = await command(["down", ...args("one")]);
    assertEquals([foreign.code, mountedTypes(t)], [1, ["tmpfs"]]);
    assertStringIncludes(
      foreign.err,
      'is mounted, but not by "denomount up --containerd" with this snapshot',
    );
    await run("umount", target);

    const gone = await command(["down", ...args("none")]);
    assertMatch(
      gone.err,
      /snapshot none does not exist.*the namespace is denomount-test; "denomount umount" unmounts what is left of it\n$/,
    );
  },
  { tools: ["mount", "sleep"] },
);

imageTest(
  "after a crash of up --containerd, up mounts the snapshot, or down removes what is left",
  async (t, { containerd, layer, target, args: argsOf }) => {
    await containerd.snapshots("erofs").prepare("a", layer);
    const args = [...argsOf("erofs/a"), target];
    const isMounted = () => t.mounts().some(({ mountpoint }) => mountpoint === "/target");
    for (const last of ["up", "down"]) {
      // The first move_mount is a probe, the second would attach the overlay.
      const { signal } = await denomountUnder(killedAt(t, "move_mount", 2), ["up", ...args]);
      if (isMounted()) await run("umount", target); // it was attached before the process ended
      assertEquals([signal, await activationsOf(containerd)], ["SIGKILL", [`up:${target}`]]);
      if (last === "up") {
        assertEquals((await command(["up", ...args])).err, "");
        assert(isMounted());
      }
      assertEquals(await command(["down", ...args]), DONE);
      assertEquals([t.mounts(), await activationsOf(containerd)], [[], []]);
    }
  },
  { tools: ["strace"], features: ["mountApi"] },
);

imageTest(
  "down --containerd of a snapshot that is gone takes off what is left, unless the garbage collector has its activation",
  async (t, { daemon, containerd: leased, layer, target, args }) => {
    await using unleased = new Containerd({ address: daemon.socket, namespace: NAMESPACE });
    const snapshot = { snapshotter: "erofs", key: "a" };
    const down = ["down", ...args("erofs/a"), target];
    for (const containerd of [leased, unleased]) {
      await leased.snapshots("erofs").prepare("a", layer);
      await containerd.mountSnapshot(snapshot, target, { name: `up:${target}` });
      await leased.snapshots("erofs").remove("a");
      await daemon.collectGarbage();
      const { code, err } = await command(down);
      if (containerd === leased) assertEquals([code, err], [0, ""]);
      else {
        assertEquals([code, mountedTypes(t)], [1, ["overlay"]]);
        assertMatch(
          err,
          /snapshot a does not exist.*the namespace is denomount-test; "denomount umount" unmounts what is left of it\n$/,
        );
        assertEquals((await command(["umount", target])).err, "");
      }
      assertEquals([t.mounts(), await activationsOf(leased)], [[], []]);
    }
  },
);

imageTest(
  "of two ups of one target at once, one mounts its snapshot and the other leaves nothing",
  async (t, { containerd, layer, target, args: argsOf }) => {
    const args = (key: string) => [...argsOf(`erofs/${key}`), target];
    for (const key of ["one", "two"]) await containerd.snapshots("erofs").prepare(key, layer);
    for (let attempt = 0; attempt < 2; attempt++) {
      const both = await Promise.all(["one", "two"].map(async (key) => {
        const { code, stderr } = await start(["up", ...args(key)], "/").output();
        return { key, code, err: new TextDecoder().decode(stderr) };
      }));
      assertEquals(both.map(({ code }) => code).sort(), [0, 1], both.map(({ err }) => err).join());
      const [first = "", late = ""] = [0, 1].map((code) => both.find((each) => each.code === code)?.key);
      const err = both.find(({ code }) => code === 1)?.err ?? "";
      assertMatch(err, /another process is just mounting or unmounting a list on|is mounted on .* already/);
      assertEquals(await activationsOf(containerd), [`up:${target}`]);
      assertEquals((await command(["down", ...args(late)])).code, 1);
      assertEquals(await command(["down", ...args(first)]), DONE);
      assertEquals([t.mounts(), await activationsOf(containerd)], [[], []]);
    }
  },
);

containerdTest(
  "while up --containerd waits for containerd, it keeps others off its target, and a signal ends it with nothing left",
  async (t) => {
    const { running } = sleepingMkfs(t);
    const { daemon, layer } = await startWithImage(`${t.dir}/d`, {
      inTestsNamespace: true,
      path: [`${t.dir}/bin`],
    });
    await using _daemon = daemon;
    await using containerd = daemon.client();
    await containerd.snapshots("erofs").prepare("a", layer);
    const target = t.make("target");
    const child = start(["up", ...ofTests(daemon), ...at(t), "erofs/a", target], "/");
    const mkfs = await running();
    for (const verb of ["up", "down"]) {
      assertEquals(await command([verb, ...ofTests(daemon), ...at(t), "erofs/a", target]), {
        ...DONE,
        code: 1,
        err: `denomount: another process is just mounting or unmounting a list on ${target}\n`,
      });
    }
    child.kill("SIGTERM");
    const { code, stdout } = await child.output();
    assertEquals([code, new TextDecoder().decode(stdout)], [143, ""]);
    const wait = () => new Promise((resolve) => setTimeout(resolve, 10));
    while (isRunning(mkfs)) await wait(); // containerd ends it
    while ((await activationsOf(containerd)).length > 0) await wait(); // and then the activation
    assertEquals([t.mounts(), leftBehind(t)], [[], []]);
  },
  onImage,
);

kernelTest("--containerd takes no options of mounts, and --address is for it alone", needs, async () => {
  const cases: [string[], string][] = [
    [["up", "--containerd", "overlayfs", "/mnt"], "Must be SNAPSHOTTER/KEY"],
    [["down", "--containerd", "/key", "/mnt"], "Must be SNAPSHOTTER/KEY"],
    [["up", "--containerd", "--allow-dir", "/srv", "a/b", "/mnt"], "--allow-dir"],
    [["up", "--containerd", "--replace", "a/b", "/mnt"], "--replace"],
    [["down", "--containerd", "--allow-dir", "/srv", "a/b", "/mnt"], "--allow-dir"],
    [["ls", "--containerd", "--type", "tmpfs"], "--type"],
    [["ls", "--containerd", "/run"], "takes no PATH"],
    ...["up", "down"].flatMap((verb): [string[], string][] => [
      [[verb, "--address", "/run/sock", "list.json", "/mnt"], "is for --containerd"],
      [[verb, "--namespace", "k8s.io", "list.json", "/mnt"], "Must be a process ID"],
    ]),
    [["ls", "--address", "/run/sock"], "is for --containerd"],
    [["ls", "--namespace", "k8s.io"], "Must be a process ID"],
  ];
  for (const [args, text] of cases) {
    const { code, out, err } = await command(args);
    assertEquals([code, out], [2, ""], args.join(" "));
    assertStringIncludes(err, text);
  }
  assertEquals(await command(["ls", "--containerd", "--address", "/none/sock"]), {
    ...DONE,
    code: 1,
    err: "denomount: cannot list the snapshotters: the socket /none/sock does not exist; " +
      "start containerd, or pass the address of the one that runs\n",
  });
});

kernelTest(
  "an activation that is removed between its lookup and its deactivation is no error",
  needs,
  async () => {
    const gone = (error: Error) => deactivateFound({ deactivate: () => Promise.reject(error) }, "up:/mnt");
    await gone(new NotFoundError("removed by the garbage collector"));
    await assertRejects(() => gone(new Error("busy")), Error, "busy");
  },
);

kernelTest("ls loads gRPC for --containerd only", { ...needs, tools: ["strace"] }, async (t) => {
  const opensGrpc = async (...args: string[]) => {
    const { code } = await new Deno.Command("strace", {
      args: [
        ...["-f", "-qq", "-e", "trace=open,openat,openat2", "-o", `${t.dir}/trace`],
        ...[Deno.execPath(), "run", "--quiet", "-A", cli, ...args],
      ],
      stdout: "null",
      stderr: "null",
    }).output();
    return [code, (readText(`${t.dir}/trace`) ?? "").includes("/@grpc/")];
  };
  assertEquals(await opensGrpc("ls"), [0, false]);
  assertEquals(await opensGrpc("ls", "--containerd", "--address", `${t.dir}/none`), [1, true]);
});
