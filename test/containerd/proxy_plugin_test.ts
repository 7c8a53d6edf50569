/**
 * The snapshotter as a proxy plugin of a real containerd.
 *
 * @module
 */

import type { SnapshotInfo, Snapshotter } from "../../containerd/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { names } from "../kernel.ts";
import { describeTree } from "../manager/digest_tree.ts";
import { containerdTest, Daemon, LEASE } from "./daemon.ts";
import { buildImage, IMAGE } from "./image.ts";
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
