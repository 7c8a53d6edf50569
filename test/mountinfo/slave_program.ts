/**
 * Lists the mounts of a slave mount namespace, and prints what it has found as JSON; started by a test.
 *
 * @module
 */

import { listMounts, lookupMount, type MountInfo } from "../../mod.ts";

const [path = "/"] = Deno.args;

async function timed(options: Parameters<typeof listMounts>[0]): Promise<[MountInfo[], number]> {
  const start = performance.now();
  const mounts = await listMounts(options);
  return [mounts, performance.now() - start];
}

await listMounts(); // compiles the code
const [plain, time] = await timed({});
const [whole, wholeTime] = await timed({ propagation: true });
const asked = new Set<MountInfo>();
const filter = (info: MountInfo) => ({
  skip: asked.size === asked.add(info).size,
  stop: asked.size === 1500,
});
const [some] = await timed({ filter });
console.log(JSON.stringify({
  table: Deno.readTextFileSync("/proc/self/mountinfo"),
  plain,
  whole,
  some: some.map(({ id }) => id),
  isFaster: time < wholeTime * 0.75,
  lookup: await lookupMount(path),
  wholeLookup: await lookupMount(path, { propagation: true }),
}));
