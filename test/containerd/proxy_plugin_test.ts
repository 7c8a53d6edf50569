/**
 * The snapshotter as a proxy plugin of a real containerd.
 *
 * @module
 */

import type { SnapshotInfo, Snapshotter } from "../../containerd/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { names } from "../kernel.ts";
import { describeTree } from "../manager/digest_tree.ts";
import { containerdTest, Daemon, LEASE, NAMESPACE } from "./daemon.ts";
import { buildImage, IMAGE } from "./image.ts";
import type { Entry } from "./tar.ts";
import { say } from "../use/ways.ts";
import { within } from "./served.ts";
import { SnapshotterProcess } from "./snapshotter_process.ts";

const files = ({ root }: SnapshotterProcess) => [...names(`${root}/snapshots`), ...names(`${root}/trash`)];

/** Lets containerd remove the image and everything that it has kept for it. */
async function removeImage(daemon: Daemon): Promise<void> {
  await daemon.ctr("images", "rm", "--sync", IMAGE);
  await daemon.collectGarbage();
}

/** The lines of a tree; without the time of its root, which is that of the upper directory. */
async function treeOf(dir: string): Promise<string[]> {
  const [root = "", ...others] = await describeTree(dir);
  return [root.replace(/ \d+\.\d{9} /, " "), ...others];
}

async function keys(process: SnapshotterProcess): Promise<string[]> {
  await using direct = process.client();
  return await Array.fromAsync(direct.snapshots("denomount").list(), ({ name }: SnapshotInfo) => name);
}

for (const prepare of ["auto", "always"]) {
  containerdTest(`an image has overlayfs' tree in our snapshotter, --prepare=${prepare}`, async (t) => {
    t.make("mnt");
    const mnt = `${t.dir}/mnt`;
    await using process = await SnapshotterProcess.start(`${t.dir}/s`, "--prepare", prepare);
    {
      await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
      const image = await buildImage();
      for (const snapshotter of ["overlayfs", "denomount"]) await daemon.importImage(image, snapshotter);
      await using containerd = daemon.client();
      const top = image.chainIds.at(-1) ?? "";
      const trees: string[][] = [];
      const shapes: unknown[] = [];
      for (const snapshotter of ["overlayfs", "denomount"]) {
        const snapshots = containerd.snapshots(snapshotter);
        for (const chain of image.chainIds) assertEquals((await snapshots.stat(chain)).kind, "committed");
        const view = await snapshots.view("view", top);
        trees.push(await within(view, mnt, treeOf));
        const active = await snapshots.prepare("active", top);
        trees.push(await within(active, mnt, treeOf));
        shapes.push([view, active].map(([mount]) => ({
          type: mount?.type,
          options: mount?.options?.map((option) => option.replaceAll(/[^=:]*\/snapshots\/\d+\//g, "…/")),
        })));
        const usage = await snapshots.usage(top);
        assert(usage.size > 0 && usage.inodes > 0);
      }
      assertEquals(trees.slice(2), trees.slice(0, 2));
      if (prepare === "auto") assertEquals(shapes[1], shapes[0]);
      for (const key of ["view", "active"]) {
        for (const snapshotter of ["overlayfs", "denomount"]) {
          await containerd.snapshots(snapshotter).remove(key);
        }
      }
      await containerd[Symbol.asyncDispose]();
      await removeImage(daemon);
      await daemon.ctr("leases", "delete", "--sync", LEASE);
      assertEquals([await keys(process), files(process)], [[], []]);
    }
    assertEquals(t.mounts(), []);
  });
}

containerdTest(
  "a snapshotter that is killed at any moment of an import goes on with all of it",
  async (t) => {
    t.make("mnt");
    await using process = await SnapshotterProcess.start(`${t.dir}/s`);
    {
      await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
      const image = await buildImage();
      await daemon.importImage(image, "overlayfs");
      await using containerd = daemon.client();
      const expected = await treeOfTop(containerd.snapshots("overlayfs"), image.chainIds, `${t.dir}/mnt`);
      let interrupted = 0;
      for (let round = 0; round < 10; round++) {
        let isDone = false;
        const importing = daemon.importImage(image, "denomount").then(
          () => isDone = true,
          () => isDone = false, // the call that ran fails
        );
        await new Promise((resolve) => setTimeout(resolve, 30 + Math.random() * 400));
        await process.stop("SIGKILL");
        await process.start();
        await importing;
        if (!isDone) interrupted++;
        {
          await using direct = process.client();
          for await (const { name, kind } of direct.snapshots("denomount").list()) {
            const snapshots = direct.snapshots("denomount");
            assertEquals((await snapshots.stat(name)).kind, kind);
            if (kind !== "committed") assertEquals((await snapshots.mounts(name)).length, 1);
          }
        }
        await retrying(() => daemon.importImage(image, "denomount")); // containerd has to connect again
        const tree = await treeOfTop(containerd.snapshots("denomount"), image.chainIds, `${t.dir}/mnt`);
        assertEquals(tree, expected);
        await removeImage(daemon);
        await daemon.ctr("leases", "delete", "--sync", LEASE);
        assertEquals([await keys(process), files(process)], [[], []], `round ${round}`);
        await daemon.ctr("leases", "create", "--id", LEASE);
      }
      console.log(`${interrupted} of 10 imports were interrupted`);
    }
    assertEquals(t.mounts(), []);
  },
);

/** The tree of the topmost layer, by a view that is removed again. */
async function treeOfTop(
  snapshots: Snapshotter,
  chainIds: readonly string[],
  mnt: string,
): Promise<string[]> {
  const tree = await within(await snapshots.view("looking", chainIds.at(-1) ?? ""), mnt, treeOf);
  await snapshots.remove("looking");
  return tree;
}

async function retrying(work: () => Promise<void>): Promise<void> {
  for (let attempt = 0;; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt === 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** Sixty layers with a program: each changes a file, and some remove what those below them have. */
function sixtyLayers(): Entry[][] {
  const lowest: Entry[] = [
    { path: "bin/", type: "directory" },
    { path: "bin/busybox", type: "file", mode: 0o755, content: Deno.readFileSync("/bin/busybox") },
    ...["proc/", "dev/", "sys/", "run/", "etc/", "opaque/"].map((path): Entry => ({
      path,
      type: "directory",
    })),
  ];
  const others = Array.from({ length: 59 }, (_, below): Entry[] => {
    const index = below + 1;
    return [
      { path: "changed", type: "file", content: `${index}` },
      { path: `file-${index}`, type: "file", uid: 7, gid: 8, content: `${index}` },
      ...index % 3 === 0 ? [{ path: `.wh.file-${index - 1}`, type: "file" } as const] : [],
      { path: "opaque/", type: "directory" },
      ...index % 7 === 0 ? [{ path: "opaque/.wh..wh..opq", type: "file" } as const] : [],
      { path: `opaque/${index}`, type: "file", content: "visible" },
    ];
  });
  return [lowest, ...others];
}

const NAME = `denomount-${Deno.pid}`; // runc's state is this machine's

const USER_NAMESPACE = ["--remap-labels", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];

/** The arguments of ctr that run a shell's script in a container. */
const container = (snapshotter: string, name: string, script: string, ...options: string[]) => {
  const program = ["/bin/busybox", "sh", "-c", script];
  return ["run", "--rm", "--snapshotter", snapshotter, ...options, IMAGE, name, ...program];
};

/**
 * Tests that run containers: `deno task test:node`. They are no part of the suite, as the soak is none: a shim that is
 * starved of a processor fails to start, and takes its container with it.
 */
const containerTest: typeof containerdTest = Deno.env.get("DENOMOUNT_NODE") === "true"
  ? containerdTest
  : (name) => console.log(`"${name}" runs with deno task test:node`);

containerTest("a container of 60 layers runs on our snapshotter, also with a user namespace", async (t) => {
  for (const path of [t.dir, t.make("s"), t.make("d"), t.make("mnt")]) Deno.chmodSync(path, 0o711); // its root must pass
  await using process = await SnapshotterProcess.start(`${t.dir}/s`);
  {
    await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
    const image = await buildImage(sixtyLayers());
    for (const snapshotter of ["overlayfs", "denomount"]) await daemon.importImage(image, snapshotter);
    await using containerd = daemon.client();
    const [theirs, ours] = [containerd.snapshots("overlayfs"), containerd.snapshots("denomount")];
    assertEquals(
      await treeOfTop(ours, image.chainIds, `${t.dir}/mnt`),
      await treeOfTop(theirs, image.chainIds, `${t.dir}/mnt`),
    );
    const script =
      "cat /changed; echo; ls / | grep -c file-; ls /opaque; stat -c %u:%g /file-59; echo new > /new; stat -c %u /new";
    const expected = ["59", "40", "56", "57", "58", "59", "7:8", "0"];
    for (const options of [[], USER_NAMESPACE]) {
      assertEquals(await daemon.ctr(...container("denomount", NAME, script, ...options)), expected);
    }
    await removeImage(daemon);
    await daemon.ctr("leases", "delete", "--sync", LEASE);
    assertEquals([await keys(process), files(process)], [[], []]);
  }
  assertEquals(t.mounts(), []);
}, { tools: ["runc", "busybox"] });

containerTest(
  "a container runs on while the snapshotter is killed, and is removed to nothing after both are killed",
  async (t) => {
    for (const path of [t.dir, t.make("s"), t.make("d")]) Deno.chmodSync(path, 0o711);
    await using process = await SnapshotterProcess.start(`${t.dir}/s`);
    {
      await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
      await daemon.importImage(await buildImage(sixtyLayers()), "denomount");
      const run = container(
        "denomount",
        NAME,
        "trap 'exit 0' TERM; while sleep 1; do :; done",
        ...USER_NAMESPACE,
        "--detach",
      );
      await daemon.ctr(...run.filter((word) => word !== "--rm"));
      await using stack = new AsyncDisposableStack();
      stack.defer(() =>
        say(`${t.dir}/d/bin/ctr`, ["-a", daemon.socket, "-n", NAMESPACE, "tasks", "delete", "--force", NAME])
          .then(() => {})
      );
      const inside = (...command: string[]) =>
        daemon.ctr("tasks", "exec", "--exec-id", "e", NAME, "/bin/busybox", ...command);
      const root = t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/s/root/snapshots/"));
      assertEquals(root.length, 1);
      await process.stop("SIGKILL");
      assertEquals(await inside("cat", "/changed"), ["59"]);
      await process.start();
      assertEquals(t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/s/root/snapshots/")), root);
      await Promise.all([process.stop("SIGKILL"), daemon.stop("SIGKILL")]);
      await process.start();
      await daemon.start();
      assertEquals(await inside("stat", "-c", "%u:%g", "/file-59"), ["7:8"]);
      await daemon.ctr("tasks", "kill", "--signal", "SIGTERM", NAME);
      await retrying(async () => void await daemon.ctr("tasks", "delete", NAME)); // it has to end first
      await daemon.ctr("containers", "delete", NAME);
      await removeImage(daemon);
      await daemon.ctr("leases", "delete", "--sync", LEASE);
      assertEquals([await keys(process), files(process)], [[], []]);
    }
    assertEquals(t.mounts(), []);
  },
  { tools: ["runc", "busybox"] },
);
