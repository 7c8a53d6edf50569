/**
 * The snapshotter as a proxy plugin of a real containerd.
 *
 * @module
 */

import { assert, assertEquals } from "../assert.ts";
import { containerdTest, Daemon } from "./daemon.ts";
import { buildImage } from "./image.ts";
import { removeEverything, treeOf } from "./node.ts";
import { within } from "./served.ts";
import { SnapshotterProcess } from "./snapshotter_process.ts";

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
      await removeEverything(daemon, process);
    }
    assertEquals(t.mounts(), []);
  });
}
