/**
 * The library in a process that has nearly as many files open as it may. Says for each operation and each number of
 * descriptors left what came of it, a JSON line each.
 *
 *     sh -c 'ulimit -n 100; exec deno run -A test/race/limit.ts DIRECTORY'
 *
 * @module
 */

import { hasFeature } from "../../linux/syscalls/features.ts";
import { O_RDONLY, open, type OwnedFd } from "../../linux/mod.ts";
import {
  createUserNamespace,
  listMounts,
  lookupMount,
  type Mount,
  mountAll,
  setTempMountLocation,
  setupLoop,
  unmountAll,
  withTempMount,
} from "../../mod.ts";
import { everyFeature } from "../faults/operations.ts";
import { mountTable, openFiles } from "../kernel.ts";

/** What came of one operation. */
export interface Said {
  /** The operation. */
  operation: string;
  /** How many descriptors it could have. */
  left: number;
  /** Its error. */
  error?: { name: string; message: string; code?: string };
  /** Mounts and descriptors that it left. */
  leaked: string[];
}

const [dir = ""] = Deno.args;
const target = `${dir}/target`;
const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
const overlay: Mount = { type: "overlay", source: "o", options: [`lowerdir=${dir}/one:${dir}/other`] };

const mounting = (...mounts: Mount[]) => async () => {
  await using _ = await mountAll(mounts, target);
};
const operations: Record<string, () => Promise<unknown>> = {
  bind: mounting({ type: "bind", source: `${dir}/one`, options: ["bind", "ro", "shared"] }),
  "bind, id-mapped": mounting({ type: "bind", source: `${dir}/one`, options: ["bind", ...maps] }),
  tmpfs: mounting({ type: "tmpfs", source: "t" }),
  overlay: mounting(overlay),
  "overlay, id-mapped": mounting({ ...overlay, options: [...overlay.options ?? [], ...maps] }),
  "a list": mounting({ type: "tmpfs", source: "t" }, overlay, {
    type: "bind",
    source: `${dir}/one`,
    options: ["bind"],
  }),
  FUSE: mounting({ type: "fuse3.bindfs", source: `${dir}/one` }),
  withTempMount: () => withTempMount([overlay], () => {}),
  setupLoop: async () => (await setupLoop(`${dir}/image`, { autoclear: true })).close(),
  createUserNamespace: async () => (await createUserNamespace("0:1:1", "0:1:1")).close(),
  listMounts: () => listMounts(),
  lookupMount: () => lookupMount(dir),
  unmountAll: () => unmountAll(target),
};

async function attempt(operation: string, left: number): Promise<Said> {
  const held = hold();
  for (let count = 0; count < left; count++) held.pop()?.close();
  let error: Said["error"];
  try {
    await operations[operation]?.();
  } catch (thrown) {
    const { name, message, code } = thrown as Error & { code?: string };
    error = { name, message, ...(code === undefined ? {} : { code }) };
  }
  for (const fd of held) fd.close();
  const leaked = [
    ...mountTable().map(({ mountpoint }) => mountpoint).filter((mountpoint) =>
      mountpoint.startsWith(`${dir}/`)
    ),
    ...openFiles().slice(files),
  ];
  return { operation, left, ...(error ? { error } : {}), leaked };
}

/** Every descriptor that there is. */
function hold(): OwnedFd[] {
  const held: OwnedFd[] = [];
  try {
    for (;;) held.push(open("/dev/null", O_RDONLY));
  } catch {
    return held;
  }
}

await setTempMountLocation(`${dir}/temporary`);
for (const feature of everyFeature) hasFeature(feature);
for (const operation of Object.values(operations)) await operation();
const files = openFiles().length;
for (const operation of Object.keys(operations)) {
  for (const left of [0, 1, 2, 3, 4, 6, 8, 12, 20]) {
    console.log(JSON.stringify(await attempt(operation, left)));
  }
}
