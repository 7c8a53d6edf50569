/**
 * Lists the mounts of a slave mount namespace, and prints what it has found as JSON; started by a test.
 *
 * @module
 */

import { listMounts, lookupMount, type MountInfo } from "../../mod.ts";

const [path = "/"] = Deno.args;

/** Lists the mounts, and counts the bytes that this process reads for it. */
async function counted(options: Parameters<typeof listMounts>[0]): Promise<[MountInfo[], number]> {
  const before = bytesRead();
  const mounts = await listMounts(options);
  return [mounts, bytesRead() - before];
}

function bytesRead(): number {
  return Number(/rchar: (\d+)/.exec(Deno.readTextFileSync("/proc/self/io"))?.[1]);
}

await listMounts(); // before anything is counted: code and features are looked up once
const [plain, bytes] = await counted({});
const [whole, wholeBytes] = await counted({ propagation: true });
const asked = new Set<MountInfo>();
const filter = (info: MountInfo) => ({
  skip: asked.size === asked.add(info).size,
  stop: asked.size === 1500,
});
const some = await listMounts({ filter });
console.log(JSON.stringify({
  table: Deno.readTextFileSync("/proc/self/mountinfo"),
  plain,
  whole,
  some: some.map(({ id }) => id),
  bytes,
  wholeBytes,
  lookup: await lookupMount(path),
  wholeLookup: await lookupMount(path, { propagation: true }),
}));
