/**
 * Checks the main functions of the library on this machine, each with a look at the kernel's state. The same program runs
 * from a directory or a URL, as one bundled file, and as a binary.
 *
 *     deno run --allow-ffi --allow-read --allow-write examples/selftest.ts
 *     deno bundle -o selftest.js examples/selftest.ts
 *     deno compile --allow-ffi --allow-read --allow-write -o selftest examples/selftest.ts
 *
 * Its argument is the id map, container:host:size, for users who may map only some ids.
 *
 * @module
 */

import {
  createUserNamespace,
  idMapMount,
  lookupMount,
  mount,
  mountAll,
  unmount,
  watchMounts,
  withTempMount,
} from "../mod.ts";
import { pretendMissing } from "../linux/mod.ts";

const LAYERS = 400;
const [map = "0:100000:65536"] = Deno.args;
const owner = (path: string) => {
  const { uid, gid } = Deno.statSync(path);
  return `${uid}:${gid}`;
};

/** Creates layers with one file each; their paths are longer than a page in total. */
function makeLayers(directory: string): string[] {
  return Array.from({ length: LAYERS }, (_, index) => {
    const layer = `${directory}/${"layer".repeat(12)}/${index}`;
    Deno.mkdirSync(layer, { recursive: true });
    Deno.writeTextFileSync(`${layer}/${index}`, "");
    return layer;
  });
}

async function readonlyBind(scratch: string): Promise<string> {
  Deno.mkdirSync(`${scratch}/empty`);
  const bind = { type: "bind", source: `${scratch}/empty`, target: "/bind", options: ["bind", "ro"] };
  Deno.mkdirSync(`${scratch}/target/bind`);
  await using _stack = await mountAll([bind], `${scratch}/target`);
  try {
    Deno.writeTextFileSync(`${scratch}/target/bind/file`, "");
    return "writable";
  } catch (error) {
    return error instanceof Error && error.message.includes("Read-only file system")
      ? "read-only"
      : `${error}`;
  }
}

async function overlay(layers: string[], target: string, options: string[] = []): Promise<string> {
  const list = [{
    type: "overlay",
    source: "overlay",
    options: [`lowerdir=${layers.join(":")}`, ...options],
  }];
  await using _stack = await mountAll(list, target);
  const { vfsOptions } = await lookupMount(target);
  const method = vfsOptions.includes("lowerdir+=") ? "layer by layer" : "in one page";
  return `${[...Deno.readDirSync(target)].length} layers ${method}, ${owner(`${target}/0`)}`;
}

async function mappedBind(source: string, target: string): Promise<string> {
  using userns = await createUserNamespace(map, map);
  await idMapMount(source, target, userns, { readonly: true });
  try {
    return owner(`${target}/0`);
  } finally {
    await unmount(target);
  }
}

/** Mounts through a thread that joins a mount namespace, here that of this process. */
async function inNamespace(target: string): Promise<string> {
  await using _stack = await mount({ type: "tmpfs", source: "t" }, target, { namespace: Deno.pid });
  return (await lookupMount(target)).fsType;
}

async function watched(target: string): Promise<string> {
  await using events = watchMounts({ signal: AbortSignal.timeout(10_000) });
  await using _stack = await mount({ type: "tmpfs", source: "t" }, target);
  for await (const event of events) {
    if (event.kind !== "transient" && event.mount.mountpoint === target) return event.kind;
  }
  return "nothing";
}

await withTempMount([{ type: "tmpfs", source: "selftest" }], async (scratch) => {
  const target = `${scratch}/target`;
  Deno.mkdirSync(target);
  console.log(`bind: ${await readonlyBind(scratch)}`);
  Deno.removeSync(`${target}/bind`);

  const layers = makeLayers(scratch);
  const maps = [`uidmap=${map}`, `gidmap=${map}`];
  console.log(`overlay: ${await overlay(layers, target)}`);
  console.log(`id-mapped overlay: ${await overlay(layers, target, maps)}`);
  console.log(`id-mapped bind: ${await mappedBind(layers[0] ?? "", target)}`);
  console.log(`in a mount namespace: ${await inNamespace(target)}`);
  console.log(`watched: ${await watched(target)}`);
  {
    using _missing = pretendMissing("overlayLayers", "detachedLayers"); // as before Linux 6.5
    console.log(`overlay, with mount(2): ${await overlay(layers, target)}`);
    console.log(`id-mapped overlay, with mount(2): ${await overlay(layers, target, maps)}`);
  }
});
