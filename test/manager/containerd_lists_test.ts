import { assert, assertEquals, assertMatch } from "../assert.ts";
import { containerdTest } from "../containerd/daemon.ts";
import { type SnapshotList, SnapshotLists } from "./containerd_lists.ts";

containerdTest(
  "containerd's own mount manager shows the image by each list of its snapshotters but one",
  async (t) => {
    const lists: SnapshotList[] = [];
    const refused: string[] = [];
    for (const set of ["plain", "sized"] as const) {
      await using all = await SnapshotLists.collect(`${t.dir}/${set}`, set);
      lists.push(...all.lists);
      for (const list of all.lists) {
        const reference = await all.reference(list);
        if ("error" in reference) {
          refused.push(`${list.name}: ${reference.error.message}`);
          continue;
        }
        const names = reference.tree.map((line) => / (\/\S*)/.exec(line)?.[1] ?? "").filter((name) =>
          name !== "/lost+found"
        );
        assertEquals(names.length, [1, 24, 26, 27][list.layers], `${list.name}: ${names.join(" ")}`);
        assertEquals(names.includes("/caf\\xe9"), list.layers >= 2, list.name);
        assertEquals(names.includes("/etc/added"), list.layers === 2, list.name);
        assertEquals((await Array.fromAsync(all.client.mounts.list())).length, 0);
      }
    }
    const managed = lists.filter(({ needsManager }) => needsManager).length;
    console.log(
      `${lists.length} lists, ${managed} of them need a mount manager, containerd's refuses ${refused.length}`,
    );
    assert(managed >= 20, `${managed}`);
    assertEquals(refused.length, 1);
    assertMatch(refused[0] ?? "", /^erofs with default_size: view of 0 layers: .*read-only file system$/);
  },
  { tools: ["mkfs.ext4"] },
);
