/**
 * SIGKILL of the snapshotter, of containerd and of shims, at random moments that a seed repeats.
 *
 * @module
 */

import { NotFoundError } from "../../containerd/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { unmountRecursive } from "../../mod.ts";
import type { Row } from "../kernel.ts";
import { Random } from "../soak/random.ts";
import { containerdTest, Daemon } from "./daemon.ts";
import { buildImage } from "./image.ts";
import {
  container,
  endContainers,
  isWhole,
  keys,
  killAll,
  makePassable,
  NAME,
  processesOf,
  removeContainers,
  removeEverything,
  retrying,
  runContainer,
  sixtyLayers,
  treeOfTop,
  USER_NAMESPACE,
} from "./node.ts";
import { SnapshotterProcess } from "./snapshotter_process.ts";

const SEED = 16;
const VICTIMS = ["the snapshotter", "containerd", "both"] as const;
type Victim = typeof VICTIMS[number];

/** All moments for each victim, or a sample in which they take turns. */
function rounds(sample: number): Victim[] {
  return Array.from(
    { length: isWhole ? 30 : sample },
    (_, round) => VICTIMS[round % VICTIMS.length] ?? "both",
  );
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Kills at a moment of a work, and starts again what was killed; returns whether the work was cut off. */
async function killDuring(
  work: Promise<unknown>,
  moment: number,
  victim: Victim,
  daemon: Daemon,
  process: SnapshotterProcess,
): Promise<boolean> {
  const isCutOff = work.then(() => false, () => true); // its error is that of a connection that broke
  await pause(moment);
  const killed = [
    ...victim === "containerd" ? [] : [process],
    ...victim === "the snapshotter" ? [] : [daemon],
  ];
  await Promise.all(killed.map((each) => each.stop("SIGKILL")));
  for (const each of killed) await each.start();
  return await isCutOff;
}

/** Each snapshot that is listed can be asked for, and mounted if it is not committed. */
async function checkList(process: SnapshotterProcess): Promise<void> {
  await using direct = process.client();
  const snapshots = direct.snapshots("denomount");
  for await (const { name, kind } of snapshots.list()) {
    try {
      assertEquals((await snapshots.stat(name)).kind, kind);
      if (kind !== "committed") assertEquals((await snapshots.mounts(name)).length, 1);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      assert(!(await keys(process)).includes(name), error.message); // containerd has removed it meanwhile
    }
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

containerdTest(
  "after SIGKILL at any moment of an import everything lists, imports and is removed to nothing",
  async (t) => {
    t.make("mnt");
    const random = new Random(SEED);
    await using process = await SnapshotterProcess.start(`${t.dir}/s`);
    {
      await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
      const image = await buildImage();
      await daemon.importImage(image, "overlayfs");
      const tree = async (snapshotter: string) => {
        await using containerd = daemon.client();
        return await treeOfTop(containerd.snapshots(snapshotter), image, `${t.dir}/mnt`);
      };
      const expected = await tree("overlayfs");
      const duration = await timed(() => daemon.importImage(image, "denomount"));
      let cutOff = 0;
      const all = rounds(10);
      for (const victim of all) {
        await removeEverything(daemon, process);
        const importing = daemon.importImage(image, "denomount");
        if (await killDuring(importing, random.next() * duration, victim, daemon, process)) cutOff++;
        await checkList(process);
        await retrying(() => daemon.importImage(image, "denomount")); // containerd has to connect again
        await daemon.ctr("leases", "create", "--id", "of-the-test"); // of the client
        assertEquals(await tree("denomount"), expected, victim);
      }
      console.log(`seed ${SEED}: ${cutOff} of ${all.length} imports were cut off`);
      await removeEverything(daemon, process);
    }
    assertEquals(t.mounts(), []);
  },
  { deadline: 600 },
);

containerdTest(
  "after SIGKILL at any moment of a run everything lists, runs and is removed to nothing",
  async (t) => {
    makePassable(t, "s", "d", "mnt");
    const random = new Random(SEED);
    await using process = await SnapshotterProcess.start(`${t.dir}/s`);
    {
      await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
      await daemon.importImage(await buildImage(sixtyLayers()), "denomount");
      const layers = (await keys(process)).sort();
      using _containers = endContainers();
      const run = (name: string) => container("denomount", "cat /changed", ["--rm", ...USER_NAMESPACE], name);
      const works = async () => assertEquals(await runContainer(daemon, run), ["59"]);
      await works();
      const duration = await timed(works);
      let cutOff = 0;
      const all = rounds(3);
      for (const [round, victim] of all.entries()) {
        const running = daemon.ctr(...run(`${NAME}-killed-${round}`));
        if (await killDuring(running, random.next() * duration, victim, daemon, process)) cutOff++;
        await checkList(process);
        await works();
        await retrying(async () => {
          await removeContainers(daemon);
          assertEquals((await keys(process)).sort(), layers, victim);
        });
        assertEquals(t.mounts().filter(({ mountpoint }) => mountpoint.startsWith("/s/root/")), [], victim);
      }
      console.log(`seed ${SEED}: ${cutOff} of ${all.length} runs were cut off`);
      await removeEverything(daemon, process);
    }
    assertEquals(t.mounts(), []);
  },
  { tools: ["runc", "busybox"], deadline: 900 },
);

/** Starts containers with mapped ids, and kills each with its shim at a moment of its start or of its run. */
async function startAndKill(daemon: Daemon, snapshotter: string, count: number): Promise<number> {
  const random = new Random(SEED);
  let killed = 0;
  for (let index = 0; index < count; index++) {
    const name = `${NAME}-${snapshotter}-${index}x`; // no other begins so
    const args = container(snapshotter, "while sleep 1; do :; done", [...USER_NAMESPACE, "--detach"], name);
    const starting = daemon.ctr(...args).catch(() => {}); // it fails if its shim is killed
    await pause(random.next() * 500);
    const pids = processesOf(name);
    killAll(pids);
    if (pids.length > 0) killed++;
    await starting;
    killAll(processesOf(name)); // it was killed before it had a shim
  }
  return killed;
}

/** What mounts are for, and how many of each. */
function kindsOf(rows: readonly Row[]): string {
  const kinds = Map.groupBy(
    rows,
    ({ mountpoint }) => mountpoint.replace(/^\/(\w+)\/(\w+)\/.*?(\w*?)\d*$/, "$1/$2/…$3"),
  );
  return [...kinds].map(([kind, { length }]) => `${length} ${kind}`).join(", ") || "0";
}

containerdTest(
  "containers with mapped ids that are killed at any moment leave no mount",
  async (t) => {
    makePassable(t, "s", "d", "mnt");
    const count = isWhole ? 200 : 5;
    await using process = await SnapshotterProcess.start(`${t.dir}/s`);
    {
      await using daemon = await Daemon.start(`${t.dir}/d`, process.plugin);
      using _containers = endContainers();
      const image = await buildImage(sixtyLayers());
      for (const snapshotter of ["overlayfs", "denomount"]) {
        await daemon.importImage(image, snapshotter);
        const before = t.mounts();
        const isNew = (row: Row) => !before.some(({ mountpoint }) => mountpoint === row.mountpoint);
        const killed = await startAndKill(daemon, snapshotter, count);
        await retrying(() => removeContainers(daemon));
        const left = [kindsOf(t.mounts().filter(isNew))];
        await daemon.stop();
        await daemon.start(); // it unmounts what a shim has left in its bundles
        await retrying(() => removeContainers(daemon));
        left.push(kindsOf(t.mounts().filter(isNew)));
        console.log(
          `${snapshotter}: ${killed} of ${count} containers were killed with a shim, the others before it; ` +
            `mounts left: ${left[0]}; after a restart of containerd: ${left[1]}`,
        );
        if (snapshotter === "denomount") {
          assertEquals([left[0]?.replace(/^\d+ d\/state\/…rootfs$/, "0"), left[1]], ["0", "0"]);
        }
        await unmountRecursive(`${t.dir}/d/tmp`); // what containerd's own way has left
      }
      await removeEverything(daemon, process);
    }
    assertEquals(t.mounts(), []);
  },
  { tools: ["runc", "busybox"], deadline: 1800 },
);
