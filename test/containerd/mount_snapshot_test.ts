import { MountError } from "../../mod.ts";
import { LocalMountManager } from "../../linux/manager/mod.ts";
import { Containerd, NotFoundError, UnavailableError } from "../../containerd/mod.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "../assert.ts";
import { describeTree } from "../manager/digest_tree.ts";
import { containerdTest, NAMESPACE } from "./daemon.ts";
import { startWithImage } from "./with_image.ts";

const activations = (containerd: Containerd) => Array.fromAsync(containerd.mounts.list());

const needs = { tools: ["mkfs.ext4"] };

containerdTest(
  "mountSnapshot() activates what it must, and its handle undoes all of it",
  async (t) => {
    const { daemon, layer } = await startWithImage(`${t.dir}/d`, { inTestsNamespace: true });
    await using _daemon = daemon;
    await using containerd = daemon.client();
    await using unleased = new Containerd({ address: daemon.socket, namespace: NAMESPACE });
    const target = t.make("target");
    const trees: string[][] = [];
    for (const [snapshotter, count] of [["overlayfs", 0], ["erofs", 1]] as const) {
      const snapshot = { snapshotter, key: "writable" };
      await containerd.snapshots(snapshotter).prepare(snapshot.key, layer);
      {
        await using root = await containerd.mountSnapshot(snapshot, target);
        assertEquals([root.target, root.mountpoints], [target, [target]]);
        assertEquals(t.mounts().find(({ mountpoint }) => mountpoint === "/target")?.fsType, "overlay");
        assertEquals((await activations(containerd)).length, count);
        trees.push((await describeTree(target)).slice(1)); // each has a time of its own at its root
        await Deno.writeTextFile(`${target}/written`, snapshotter);
      }
      assertEquals([t.mounts(), await activations(containerd)], [[], []]);
      const again = await unleased.mountSnapshot(snapshot, target);
      await daemon.collectGarbage();
      assertEquals((await activations(containerd)).length, count); // the label keeps it with its snapshot
      assertEquals(await Deno.readTextFile(`${target}/written`), snapshotter);
      await Promise.all([again.unmount(), again.unmount()]);
      await again.unmount();
      assertEquals([t.mounts(), await activations(containerd)], [[], []]);
    }
    const [overlayfs, erofs] = trees.map((tree) =>
      tree.map((line) => line.replace(" trusted.note=of\\x20root", ""))
    );
    assertEquals(erofs, overlayfs); // but for the attribute that overlayfs keeps for itself
    assertEquals(overlayfs?.length, 26);
  },
  needs,
);

containerdTest(
  "mountSnapshot() leaves nothing mounted and nothing activated where it fails",
  async (t) => {
    const { daemon, layer } = await startWithImage(`${t.dir}/d`, { inTestsNamespace: true });
    await using _daemon = daemon;
    await using containerd = daemon.client();
    const snapshot = { snapshotter: "erofs", key: "writable" };
    await containerd.snapshots("erofs").prepare(snapshot.key, layer);
    await assertRejects(() => containerd.mountSnapshot(snapshot, `${t.dir}/missing`), MountError, "missing");
    await assertRejects(() => containerd.mountSnapshot({ ...snapshot, key: "none" }, t.dir), NotFoundError);
    assertEquals([t.mounts(), await activations(containerd)], [[], []]);

    {
      await using _root = await containerd.mountSnapshot(snapshot, t.make("target"));
      const [activation] = await activations(containerd);
      await containerd.mounts.deactivate(activation?.name ?? ""); // an overlay holds its layers without their mounts
    }
    assertEquals([t.mounts(), await activations(containerd)], [[], []]);

    const handle = await containerd.mountSnapshot(snapshot, `${t.dir}/target`);
    await daemon.stop();
    await assertRejects(() => handle.unmount(), UnavailableError);
    assert(!t.mounts().some(({ mountpoint }) => mountpoint === "/target"));
    await daemon.start();
    await handle.unmount(); // goes on where it failed
    assertEquals([t.mounts(), await activations(containerd)], [[], []]);
    await daemon.stop();
    await handle.unmount(); // has nothing left to do
    await daemon.start();
    const impatient = await containerd.mountSnapshot(snapshot, `${t.dir}/target`);
    await impatient.unmount({ timeout: 0 }); // of the wait for a busy mount, not of the call
    assertEquals([t.mounts(), await activations(containerd)], [[], []]);
  },
  needs,
);

containerdTest(
  "mountSnapshot() refuses what containerd has mounted in a mount namespace of its own, and takes a manager of this one",
  async (t) => {
    const { daemon, layer } = await startWithImage(`${t.dir}/d`, {});
    await using _daemon = daemon;
    await using containerd = daemon.client();
    const snapshot = { snapshotter: "erofs", key: "writable" };
    await containerd.snapshots("erofs").prepare(snapshot.key, layer);
    const error = await assertRejects(() => containerd.mountSnapshot(snapshot, t.make("target")), Error);
    assertStringIncludes(
      error.message,
      "is not in this mount namespace; run this in containerd's mount namespace",
    );
    assertEquals([t.mounts(), await activations(containerd)], [[], []]);

    const root = t.make("manager");
    await using manager = await LocalMountManager.open({ root, allowedRoots: [`${daemon.directory}/root`] });
    const handle = await containerd.mountSnapshot(snapshot, `${t.dir}/target`, { manager });
    assertEquals((await describeTree(`${t.dir}/target`)).length, 27);
    const [activation] = await Array.fromAsync(manager.list());
    assertEquals(activation?.labels, { "containerd.io/gc.bref.snapshot.erofs": "writable" });
    assertEquals(await activations(containerd), []);
    await handle.unmount();
    assertEquals([t.mounts(), await Array.fromAsync(manager.list())], [[], []]);
  },
  needs,
);
