/**
 * The releases of containerd that the tests run: the newest beside the project, this machine's of Debian 12, and sid's,
 * which is downloaded to the cache and not installed.
 *
 * @module
 */

import { names } from "../kernel.ts";
import { Packages } from "../kernels/apt.ts";
import { run } from "../kernels/run.ts";
import { cacheDirectory } from "./cache.ts";

/** A release of containerd. */
export type Release = "newest" | "1.6" | "sid";

/** All of them. */
export const RELEASES: readonly Release[] = ["newest", "sid", "1.6"];

/** Where the newest containerd is, packed. */
export const shared = new URL("../../../shared/containerd/", import.meta.url).pathname;

/**
 * The directory of a release's programs: containerd, ctr and the shim of runc.
 *
 * @param release the release.
 * @returns the directory.
 */
export async function programsOf(release: Release): Promise<string> {
  if (release === "newest") return await newestPrograms();
  const directory = release === "1.6" ? "/usr/bin" : `${await sidContainerd()}/usr/bin`;
  const { stdout } = await run(`${directory}/containerd`, ["--version"]);
  // sid's minor version is whatever it has just now.
  const isExpected = (release === "1.6" ? / 1\.6\./ : / 2\.\d+\./).test(stdout);
  if (!isExpected) throw new Error(`${directory} has another containerd: ${stdout}`);
  return directory;
}

/** The first download stays: sid has another version soon. */
async function sidContainerd(): Promise<string> {
  const cache = await cacheDirectory();
  const link = `${cache}/containerd-sid`;
  if (names(link).includes("usr")) return link;
  const architecture = Deno.build.arch === "x86_64" ? "amd64" : "arm64";
  const packages = await Packages.open(cache, architecture, "sid");
  const unpacked = await packages.unpack(["containerd"], false); // it needs no newer libc than this machine's
  const unfinished = `${link}-${Deno.pid}`;
  await Deno.symlink(unpacked, unfinished);
  await Deno.rename(unfinished, link);
  return link;
}

/** The newest containerd's programs, unpacked once and kept in the cache. */
async function newestPrograms(): Promise<string> {
  const [archive] = names(shared).filter((name) => name.startsWith("containerd.")); // another build has another time
  const { mtime } = await Deno.stat(`${shared}${archive}`);
  const cache = await cacheDirectory();
  const directory = `${cache}/bin-${mtime?.getTime()}`;
  if (names(cache).includes(`bin-${mtime?.getTime()}`)) return directory;
  const unfinished = await Deno.makeTempDir({ dir: cache });
  for (const name of names(shared).filter((file) => file.endsWith(".xz"))) {
    const path = `${unfinished}/${name.slice(0, -".xz".length)}`;
    await Deno.writeFile(path, (await run("xz", ["-dc", `${shared}${name}`])).bytes);
    await Deno.chmod(path, 0o755);
  }
  try {
    await Deno.rename(unfinished, directory);
  } catch (error) {
    if (!names(cache).includes(`bin-${mtime?.getTime()}`)) throw error;
    await Deno.remove(unfinished, { recursive: true }); // another test was first
  }
  return directory;
}

/**
 * How to start a containerd.
 *
 * @param release the release, whose programs are in the directory's `bin`.
 * @param directory the directory of all of its files.
 * @param lines more lines for its configuration.
 * @returns the program and its arguments.
 */
export async function startCommand(
  release: Release,
  directory: string,
  lines: readonly string[],
): Promise<string[]> {
  if (release === "newest") return [`${shared}start`, directory, ...lines];
  await Deno.mkdir(`${directory}/tmp`, { recursive: true });
  const disabled = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
  ];
  const config = [
    "version = 2", // 1.6 knows no other
    `root = "${directory}/root"`,
    `state = "${directory}/state"`,
    `disabled_plugins = ${JSON.stringify(disabled)}`,
    "[grpc]",
    `  address = "${directory}/sock"`,
    "[ttrpc]",
    `  address = "${directory}/sock.ttrpc"`,
    ...lines,
  ];
  await Deno.writeTextFile(`${directory}/config.toml`, config.map((line) => `${line}\n`).join(""));
  const environment = [`TMPDIR=${directory}/tmp`, `PATH=${directory}/bin:${Deno.env.get("PATH") ?? ""}`];
  return [
    "env",
    ...environment,
    `${directory}/bin/containerd`,
    "-c",
    `${directory}/config.toml`,
    "-l",
    "error",
  ];
}
