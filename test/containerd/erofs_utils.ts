/**
 * mkfs.erofs 1.8 of Debian trixie, which containerd's erofs snapshotter needs; downloaded to the cache, not installed.
 *
 * @module
 */

import { cacheDirectory } from "./cache.ts";
import { Packages } from "../kernels/apt.ts";

const debian = Deno.build.arch === "x86_64" ? "amd64" : "arm64";
const triplet = `${Deno.build.arch}-linux-gnu`;

/**
 * Downloads mkfs.erofs, or takes it from the cache.
 *
 * @returns a directory for PATH that has nothing but `mkfs.erofs`.
 */
export async function erofsUtils(): Promise<string> {
  const packages = await Packages.open(await cacheDirectory(), debian, "trixie");
  const root = await packages.unpack(["erofs-utils"], true);
  const libraries = `${root}/usr/lib/${triplet}`;
  const [loader] = [...Deno.readDirSync(libraries)].map(({ name }) => name).filter((name) =>
    name.startsWith("ld-linux-")
  );
  const directory = `${root}/for-path`;
  await Deno.mkdir(directory, { recursive: true });
  // trixie's programs need trixie's libc, so its own loader starts them.
  const script =
    `#!/bin/sh\nexec ${libraries}/${loader} --library-path ${libraries} ${root}/usr/bin/mkfs.erofs "$@"\n`;
  const unfinished = await Deno.makeTempFile({ dir: root });
  await Deno.writeTextFile(unfinished, script);
  await Deno.chmod(unfinished, 0o755);
  await Deno.rename(unfinished, `${directory}/mkfs.erofs`);
  return directory;
}
