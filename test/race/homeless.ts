/**
 * Mounts and unmounts in a process with a deleted working directory.
 *
 *     deno run -A test/race/homeless.ts DIRECTORY
 *
 * @module
 */

import { type Feature, isErrno, pretendMissing } from "../../linux/mod.ts";
import * as library from "../../mod.ts";

const [dir = ""] = Deno.args;
const target = `${dir}/target`;
const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
const bind = { type: "bind", source: `${dir}/one`, options: ["bind", "ro"] };
const overlay = { type: "overlay", source: "o", options: [`lowerdir=${dir}/one:${dir}/other`] };
const list: library.Mount[] = [
  bind,
  { ...bind, options: [...bind.options, ...maps] },
  { type: "tmpfs", source: "t" },
  overlay,
];

/** More layers than fit into a page: mount(2) then needs relative paths and a private working directory. */
const long = Array.from({ length: 60 }, (_, index) => `${dir}/${"long".repeat(20)}/${index}`);

Deno.chdir(`${dir}/gone`); // deno does not start without a working directory
Deno.removeSync(`${dir}/gone`);
if (exists(".")) throw new Error("the working directory is still there");
for (const path of long) Deno.mkdirSync(path, { recursive: true });
await library.setTempMountLocation(`${dir}/temporary`);
const kernels: Feature[][] = [[], ["overlayLayers", "detachedLayers"], [
  "mountApi",
  "mountSetattr",
  "openat2",
  "statmount",
]];
for (const missing of kernels) {
  using _ = pretendMissing(...missing);
  const known = missing.includes("mountApi")
    ? list.filter((mount) => !mount.options?.includes("uidmap=0:100000:65536"))
    : list;
  for (const mount of known) {
    await using _stack = await library.mount(mount, target);
    if ((await library.lookupMount(target)).mountpoint !== target) throw new Error("it is not mounted");
  }
  const layers = { type: "overlay", source: "o", options: [`lowerdir=${long.join(":")}`] };
  await library.withTempMount([layers], () => {});
  await library.mountAll(known, target);
  await library.unmountRecursive(target);
}

for (const call of [library.lookupMount, library.canonicalizePath, library.unmount]) {
  await call("relative").then(
    () => {
      throw new Error("there is no such directory");
    },
    (error) => {
      if (!isErrno(error, "ENOENT")) throw error;
    },
  );
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path) !== undefined && Deno.cwd() !== "";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
