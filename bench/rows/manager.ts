/**
 * The mount manager beside containerd's, which is asked over its socket. Both have their record and the images on the disk.
 *
 * @module
 */

import type { Containerd } from "../../containerd/mod.ts";
import type { MountManager } from "../../linux/manager/mod.ts";
import { LocalMountManager } from "../../linux/manager/mod.ts";
import { ActivationRecord } from "../../linux/manager/record.ts";
import { Daemon } from "../../test/containerd/daemon.ts";
import { OURS } from "../measure.ts";
import { run } from "../peers.ts";
import { type Bench, make, type Row } from "../row.ts";

const TIMES = 10;

async function perRun(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  for (let time = 0; time < TIMES; time++) await work();
  return (performance.now() - start) / TIMES;
}

/** A directory on the disk, since the rows' own is a tmpfs: no kernel reads an erofs from a file on one. */
async function diskDirectory({ undo }: Bench): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "denomount-bench-disk-" });
  undo.defer(() => Deno.remove(directory, { recursive: true }));
  return directory;
}

async function makeErofs(bench: Bench, disk: string, name: string): Promise<string> {
  const image = `${disk}/${name}.erofs`;
  const error = await run("mkfs.erofs", ["--quiet", image, make(bench, `layer-${name}`)]);
  if (error !== undefined) throw new Error(`mkfs.erofs: ${error}`);
  return image;
}

/** The same statements as an activation and its end make, without a mount. */
async function recordOnly(record: ActivationRecord, directory: string): Promise<void> {
  const mounts = [0, 1].map((position) => ({
    position,
    handler: "erofs",
    mountPoint: `${directory}/${position}`,
    mount: { type: "erofs", source: `${directory}/image`, options: ["ro"] },
    data: {},
    mountId: `${position}`,
    mountedAt: new Date(),
  }));
  const row = { name: "bench", directory, boot: "boot", namespace: "namespace", labels: {}, mounts };
  const { id = 0 } = await record.begin(row);
  await record.finish(id, mounts, []);
  const found = await record.find("bench");
  if (found !== undefined) await record.beginEnd(found, () => true);
  await record.remove(id);
}

async function startContainerd({ undo }: Bench, directory: string): Promise<Containerd | undefined> {
  try {
    return undo.use(undo.use(await Daemon.start(directory)).client());
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.error(
      "containerd is left out: its newest version is not in ../shared/containerd beside the project",
    );
    return undefined;
  }
}

const activation: Row = {
  name: "activate + deactivate of two erofs and a template",
  limits: [{ most: 0.5, peer: "containerd" }],
  async prepare(bench) {
    const disk = await diskDirectory(bench);
    const images = [await makeErofs(bench, disk, "a"), await makeErofs(bench, disk, "b")];
    const list = [
      ...images.map((source) => ({ type: "erofs", source, options: ["ro", "loop"] })),
      { type: "format/overlay", source: "overlay", options: ["lowerdir={{ overlay 1 0 }}"] },
    ];
    const manager = bench.undo.use(await LocalMountManager.open({ root: `${disk}/ours` }));
    const record = bench.undo.use(await ActivationRecord.open(`${disk}/record.db`));
    const client = await startContainerd(bench, `${disk}/containerd`);
    const once = (manager: MountManager) => async () => {
      await manager.activate("bench", list);
      await manager.deactivate("bench");
    };
    return [
      { name: OURS, run: () => perRun(once(manager)) },
      ...client === undefined ? [] : [{ name: "containerd", run: () => perRun(once(client.mounts)) }],
      { name: "its record alone", run: () => perRun(() => recordOnly(record, `${disk}/none`)) },
    ];
  },
};

/** Every row of this file. */
export const rows: readonly Row[] = [activation];
