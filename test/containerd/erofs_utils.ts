/**
 * mkfs.erofs 1.8 of Debian trixie, which containerd's erofs snapshotter needs; downloaded to the cache, not installed.
 *
 * @module
 */

import { names } from "../kernel.ts";
import { Packages } from "../kernels/apt.ts";
import { cacheDirectory } from "./cache.ts";

const debian = Deno.build.arch === "x86_64" ? "amd64" : "arm64";
const triplet = `${Deno.build.arch}-linux-gnu`;

/**
 * Downloads mkfs.erofs, or takes it from the cache.
 *
 * @returns a directory for PATH that has nothing but `mkfs.erofs`.
 */
export async function erofsUtils(): Promise<string> {
  const cache = await cacheDirectory();
  const directory = `${cache}/erofs-utils`;
  if (names(directory).includes("mkfs.erofs")) return directory;
  const packages = await Packages.open(cache, debian, "trixie");
  const root = await packages.unpack(["erofs-utils"], true);
  const libraries = `${root}/usr/lib/${triplet}`;
  const loader = names(libraries).find((name) => name.startsWith("ld-linux-"));
  // trixie's programs need trixie's libc, so its own loader starts them.
  const script =
    `#!/bin/sh\nexec ${libraries}/${loader} --library-path ${libraries} ${root}/usr/bin/mkfs.erofs "$@"\n`;
  await Deno.mkdir(directory, { recursive: true });
  const unfinished = await Deno.makeTempFile({ dir: cache });
  await Deno.writeTextFile(unfinished, script);
  await Deno.chmod(unfinished, 0o755);
  await Deno.rename(unfinished, `${directory}/mkfs.erofs`);
  return directory;
}
