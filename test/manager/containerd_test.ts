/**
 * The manager beside containerd's own: every list of containerd's snapshotters for an image of three layers.
 *
 * @module
 */

import { type Mount, mountAll } from "../../mod.ts";
import { LocalMountManager } from "../../linux/manager/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { names } from "../kernel.ts";
import { containerdTest, Daemon } from "../containerd/daemon.ts";
import { type Reference, type SnapshotList, SnapshotLists } from "./containerd_lists.ts";
import { describeTree } from "./digest_tree.ts";

/** The tree that our manager shows, or the message of its error. */
async function ours(
  manager: LocalMountManager,
  { mounts }: SnapshotList,
  target: string,
): Promise<string[] | string> {
  try {
    await using _root = await mountAll(mounts, target, { manager });
    return await describeTree(target);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function treeOf(reference: Reference): string[] | string {
  return "error" in reference ? reference.error.message : reference.tree;
}

containerdTest(
  "each list of containerd's snapshotters shows the same tree as by containerd's own manager",
  async (t) => {
    const counts = { lists: 0, managed: 0, equal: 0, refused: 0 };
    t.make("root", "target");
    const target = `${t.dir}/target`;
    for (const set of ["plain", "sized"] as const) {
      await using all = await SnapshotLists.collect(`${t.dir}/${set}`, set);
      await using manager = await LocalMountManager.open({
        root: `${t.dir}/root`,
        allowedRoots: [`${t.dir}/${set}`],
      });
      for (const list of all.lists) {
        counts.lists++;
        if (list.needsManager) counts.managed++;
        // An image or a directory that one of the two has made is the other's too: each is the first once.
        const other = await all.again(list);
        const first = [await ours(manager, list, target), treeOf(await all.reference(list))];
        const second = [treeOf(await all.reference(other)), await ours(manager, other, target)].reverse();
        for (const [mine, theirs] of [first, second]) {
          if (typeof theirs === "string") {
            console.log(
              `${list.name}: containerd: ${theirs}; this manager: ${
                mine instanceof Array ? "mounts it" : mine
              }`,
            );
          } else assertEquals(mine, theirs, list.name);
        }
        if (typeof first[1] === "string") counts.refused++;
        else counts.equal++;
        assertEquals(
          t.mounts().filter(({ mountpoint }) => /^\/(root|target)/.test(mountpoint)),
          [],
          list.name,
        );
        assertEquals((await Array.fromAsync(manager.list())).length, 0);
      }
    }
    console.log(
      `${counts.lists} lists, ${counts.managed} of them need a mount manager: ${counts.equal} trees are equal, ` +
        `containerd's own manager refuses ${counts.refused}`,
    );
    assert(counts.managed >= 20 && counts.refused <= 1, JSON.stringify(counts));
  },
  { tools: ["mkfs.ext4"] },
);

const MANAGED = "X-containerd.";

containerdTest(
  "what containerd's own manager refuses is refused, and the list that it dies of is mounted",
  async (t) => {
    t.make("root", "target");
    await using daemon = await Daemon.start(`${t.dir}/containerd`);
    await using client = daemon.client();
    await using manager = await LocalMountManager.open({ root: `${t.dir}/root` });
    const tmpfs = { type: "tmpfs", source: "tmpfs" };
    const image = `${t.dir}/root/image`;
    const lists: Record<string, Mount[]> = {
      "a template out of range": [tmpfs, { type: "format/bind", source: "{{ mount 1 }}", options: ["bind"] }],
      "a template that is none": [tmpfs, { type: "format/bind", source: "{{ path 0 }}", options: ["bind"] }],
      "a template without an end": [tmpfs, { type: "format/bind", source: "{{ mount 0", options: ["bind"] }],
      "a range out of range": [tmpfs, {
        type: "format/overlay",
        source: "o",
        options: ["lowerdir={{ overlay 0 1 }}"],
      }],
      "mkfs outside of the roots": [{
        type: "mkfs/ext4",
        source: "/etc/image",
        options: [`${MANAGED}mkfs.size=1MiB`],
      }],
      "mkfs without a size": [{ type: "mkfs/ext4", source: image }],
      "a size that is none": [{ type: "mkfs/ext4", source: image, options: [`${MANAGED}mkfs.size=much`] }],
      "a file system that is none": [{
        type: "mkfs/ext4",
        source: image,
        options: [`${MANAGED}mkfs.size=1MiB`, `${MANAGED}mkfs.fs=none`],
      }],
      "an option of mkfs that is none": [{
        type: "mkfs/ext4",
        source: image,
        options: [`${MANAGED}mkfs.size=1MiB`, `${MANAGED}mkfs.speed=high`],
      }],
      "mkdir outside of the roots": [{
        type: "mkdir/bind",
        source: "/usr",
        options: [`${MANAGED}mkdir.path=/etc/none`],
      }],
      "an option of mkdir that is none": [{
        type: "mkdir/bind",
        source: "/usr",
        options: [`${MANAGED}mkdir.name=/x`],
      }],
      "a mode that is none": [{
        type: "mkdir/bind",
        source: "/usr",
        options: [`${MANAGED}mkdir.path=${t.dir}/root/new:rwx`],
      }],
      "a mount that fails": [{ type: "erofs", source: "/etc/hostname" }],
    };
    for (const [what, list] of Object.entries(lists)) {
      const theirs = await client.mounts.activate("bad", list).then(
        () => undefined,
        (error) => error.message,
      );
      const mine = await manager.activate("bad", list).then(() => undefined, (error) => error.message);
      console.log(`${what}\n  containerd: ${theirs}\n  this one:   ${mine}`);
      assert(theirs !== undefined, `containerd takes ${what}`);
      assert(mine !== undefined, what);
      assertEquals((await Array.fromAsync(manager.list())).length, 0);
      assertEquals(names(`${t.dir}/root`).filter((name) => !name.startsWith("activations.db")), []);
    }
    const fatal = [tmpfs, tmpfs, {
      type: "format/overlay",
      source: "o",
      options: ["lowerdir={{ overlay 0 1 }}"],
    }];
    const { active, system } = await manager.activate("fatal", fatal, { temporary: true });
    assertEquals([active.length, system.length], [3, 1]);
    await manager.deactivate("fatal");
    const death = await client.mounts.activate("fatal", fatal, { temporary: true }).then(
      () => "",
      (error) => error.name,
    );
    assertEquals(death, "UnavailableError");
  },
);
