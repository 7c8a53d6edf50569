/**
 * Runs operations in a process that is close to its limit of open files. Prints a JSON line with the result of each
 * operation for each number of remaining descriptors.
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

/** The result of one operation. */
export interface Result {
  /** The name of the operation. */
  operation: string;
  /** The number of descriptors that it could open. */
  left: number;
  /** The error, if it failed. */
  error?: { name: string; message: string; code?: string };
  /** The mounts and descriptors that it left behind. */
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

async function attempt(operation: string, left: number): Promise<Result> {
  const held = hold();
  for (let count = 0; count < left; count++) held.pop()?.close();
  let error: Result["error"];
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

/** Opens descriptors up to the limit. */
function hold(): OwnedFd[] {
  const held: OwnedFd[] = [];
  try {
    for (;;) held.push(open("/dev/null", O_RDONLY));
  } catch {
    return held;
  }
}

// The runtime opens a pipe for signals when it first needs one, and panics if it has no descriptor for that.
Deno.addSignalListener("SIGUSR2", () => {});
await setTempMountLocation(`${dir}/temporary`);
for (const feature of everyFeature) hasFeature(feature);
for (const operation of Object.values(operations)) await operation();
const files = openFiles().length;
for (const operation of Object.keys(operations)) {
  for (const left of [0, 1, 2, 3, 4, 6, 8, 12, 20]) {
    console.log(JSON.stringify(await attempt(operation, left)));
  }
}
Deno.exit(0); // the signal listener would keep the process alive
