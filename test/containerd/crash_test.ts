import { ContainerdError, type SnapshotsClient } from "../../containerd/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { names } from "../kernel.ts";
import { MAPPED, removeAll, serverTest } from "./served.ts";
import { SnapshotterProcess } from "./snapshotter_process.ts";

/** Makes, commits and removes snapshots, plain and mapped, until a call fails; returns those that it knows to be there. */
async function work(snapshots: SnapshotsClient, round: number): Promise<Map<string, string>> {
  const known = new Map<string, string>();
  try {
    for (let index = 0;; index++) {
      const key = `${round}-${index}`;
      await snapshots.prepare(`${key}-making`, "base");
      await snapshots.commit(key, `${key}-making`);
      known.set(key, "committed");
      await snapshots.prepare(`${key}-mapped`, key, { labels: MAPPED });
      known.set(`${key}-mapped`, "active");
      if (index % 2 === 0) continue;
      known.delete(`${key}-mapped`); // from here on it may be gone
      await snapshots.remove(`${key}-mapped`);
      known.delete(key);
      await snapshots.remove(key);
    }
  } catch (error) {
    if (!(error instanceof ContainerdError)) throw error;
    assert(["UNAVAILABLE", "INTERNAL"].includes(error.code), error.message);
    return known;
  }
}

serverTest("SIGKILL at any moment leaves what was answered, its mounts, and nothing else", async (t) => {
  await using process = await SnapshotterProcess.start(t.dir);
  {
    await using client = process.client();
    await client.snapshots("any").prepare("base-making", "");
    await client.snapshots("any").commit("base", "base-making");
  }
  for (let round = 0; round < 12; round++) {
    await using client = process.client();
    const working = work(client.snapshots("any"), round);
    await new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 300));
    await process.stop("SIGKILL");
    const known = await working;
    await process.start();
    const snapshots = client.snapshots("any");
    for (const [name, kind] of known) assertEquals((await snapshots.stat(name)).kind, kind, name);
    const all = await Array.fromAsync(snapshots.list());
    const mapped = all.filter(({ labels }) => Object.keys(labels).length > 0);
    for (const { name } of mapped) assertEquals((await snapshots.mounts(name))[0]?.type, "bind");
    // Each mapped snapshot has one mount, and each directory is that of a snapshot.
    assertEquals(t.mounts().length, mapped.length);
    assertEquals([names(`${t.dir}/root/snapshots`).length, names(`${t.dir}/root/trash`)], [all.length, []]);
  }
  await using client = process.client();
  await removeAll(client.snapshots("any"));
  assertEquals([t.mounts(), names(`${t.dir}/root/snapshots`)], [[], []]);
});
