/**
 * The snapshotter beside containerd's own overlayfs, both asked through the same containerd.
 *
 * @module
 */

import type { SnapshotsClient } from "../../containerd/mod.ts";
import { Daemon } from "../../test/containerd/daemon.ts";
import { buildImage, type Image } from "../../test/containerd/image.ts";
import { SnapshotterProcess } from "../../test/containerd/snapshotter_process.ts";
import type { Entry } from "../../test/containerd/tar.ts";
import { type Contender, each, OURS } from "../measure.ts";
import { type Bench, diskDirectory, type Row } from "../row.ts";

const THEIRS = "overlayfs";

interface Node {
  process: SnapshotterProcess;
  daemon: Daemon;
  /** The snapshotters, by the names of their contenders. */
  snapshots: (name: string) => SnapshotsClient;
}

/** A containerd with our snapshotter, on the disk; undefined where the newest containerd is missing. */
async function startNode(bench: Bench): Promise<Node | undefined> {
  const disk = await diskDirectory(bench);
  const process = bench.undo.use(await SnapshotterProcess.start(`${disk}/s`));
  try {
    const daemon = bench.undo.use(await Daemon.start(`${disk}/d`, process.plugin));
    const client = bench.undo.use(daemon.client());
    return { process, daemon, snapshots: (name) => client.snapshots(name) };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.error("left out: the newest containerd is not in ../shared/containerd beside the project");
    return undefined;
  }
}

const CONTAINERS = 20; // in a round

const roots: Row = {
  name: "a container's root: prepare + mounts + remove",
  limits: [{ peer: THEIRS, most: 2 }],
  async prepare(bench) {
    const node = await startNode(bench);
    if (node === undefined) return [];
    const image = await buildImage();
    const top = image.chainIds.at(-1) ?? "";
    const contenders: Contender[] = [];
    for (const name of [OURS, THEIRS]) {
      await node.daemon.importImage(image, name);
      const snapshots = node.snapshots(name);
      const run = () =>
        each(CONTAINERS, async (index) => {
          await snapshots.prepare(`${index}`, top);
          await snapshots.mounts(`${index}`);
          await snapshots.remove(`${index}`);
        });
      contenders.push({ name, run });
    }
    return contenders;
  },
};

/** Layers of fifty files with 8 KiB each. */
function fortyLayers(): Entry[][] {
  return Array.from({ length: 40 }, (_, layer) =>
    Array.from({ length: 50 }, (_, file): Entry => ({
      path: `${layer}-${file}`,
      type: "file",
      content: `${layer} ${file}\n`.repeat(2000).slice(0, 8192),
    })));
}

/** Removes the topmost layer; containerd's collection of garbage removes those below it. */
async function removeLayers({ daemon, snapshots }: Node, name: string, { chainIds }: Image): Promise<void> {
  await snapshots(name).remove(chainIds.at(-1) ?? "");
  await daemon.collectGarbage();
}

const unpacking: Row = {
  name: "unpacking an image of 40 layers",
  limits: [{ peer: THEIRS, most: 1.1 }],
  rounds: 10,
  async prepare(bench) {
    const node = await startNode(bench);
    if (node === undefined) return [];
    const image = await buildImage(fortyLayers());
    const contenders: Contender[] = [];
    for (const name of [OURS, THEIRS]) {
      await node.daemon.importImage(image, name);
      await removeLayers(node, name, image);
      const run = async () => {
        const [, line = ""] = await node.daemon.ctr("images", "ls");
        const digest = /sha256:[0-9a-f]{64}/.exec(line)?.[0] ?? "";
        const start = performance.now();
        await node.daemon.ctr("snapshots", "unpack", "--snapshotter", name, digest);
        const time = performance.now() - start;
        await removeLayers(node, name, image);
        return time;
      };
      contenders.push({ name, run });
    }
    return contenders;
  },
};

const SNAPSHOTS = 1000;

/** What a process has in memory, in MiB. */
function residentMemory(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? NaN) / 1024;
}

const memory: Row = {
  name: "memory of the snapshotter with 1,000 snapshots",
  unit: "MiB",
  limits: [{ most: 256 }], // an empty Deno has some 90
  rounds: 3,
  async prepare(bench) {
    const node = await startNode(bench);
    if (node === undefined) return [];
    for (let index = 0; index < SNAPSHOTS; index++) await node.snapshots(OURS).prepare(`${index}`, "");
    const pids = { [OURS]: node.process.pid, containerd: node.daemon.pid };
    // deno-lint-ignore require-await
    return Object.entries(pids).map(([name, pid]) => ({ name, run: async () => residentMemory(pid) }));
  },
};

/** Every row of this file. */
export const rows: readonly Row[] = [roots, unpacking, memory];
