/**
 * Builds the peers. containerd's package, Go and libmount come from Debian sid: they are downloaded to a cache and not
 * installed.
 *
 * @module
 */

import { cachePath } from "../test/cache.ts";
import { Packages } from "../test/kernels/apt.ts";
import { run } from "./peers.ts";

/** The built program of a peer. */
export interface Program {
  /** The name of the peer in the table. */
  name: string;
  /** The path of the program. */
  path: string;
}

const debian = Deno.build.arch === "x86_64" ? "amd64" : "arm64";

// What containerd's mount package imports, by Debian's names; its package alone depends on some 2.8 GB.
const CONTAINERD = [
  "containerd-containerd-api",
  "containerd-containerd",
  "containerd-continuity",
  "containerd-log",
  "moby-sys",
  "opencontainers-go-digest",
  "opencontainers-image-spec",
  "sirupsen-logrus",
].map((name) => `golang-github-${name}-dev`);
const GO = ["golang-1.27-go", "golang-1.27-src"];
const OTHERS = ["golang-golang-x-sync-dev", "golang-golang-x-sys-dev", "golang-google-protobuf-dev"];

const source = (file: string) => new URL(`peers/${file}`, import.meta.url).pathname;

async function openSid(): Promise<Packages> {
  const cache = cachePath("denomount-bench");
  await Deno.mkdir(cache, { recursive: true });
  return await Packages.open(cache, debian, "sid");
}

async function compile(command: string, args: string[], env: Record<string, string> = {}): Promise<void> {
  const error = await run(command, args, env);
  if (error !== undefined) throw new Error(error);
}

async function buildFloor(path: string): Promise<void> {
  await compile("gcc", ["-O2", "-o", path, source("floor.c")]);
}

async function buildContainerd(path: string): Promise<void> {
  const root = await (await openSid()).unpack([...GO, ...CONTAINERD, ...OTHERS], false);
  const go = `${root}/usr/lib/go-1.27`;
  await compile(`${go}/bin/go`, ["build", "-o", path, source("containerd.go")], {
    GO111MODULE: "off",
    GOROOT: go,
    GOPATH: `${root}/usr/share/gocode`,
    GOCACHE: `${path}-cache`,
    GOTOOLCHAIN: "local",
    GOFLAGS: "",
  });
}

/** libmount needs the libc of its own release: the program is linked with that one's loader. */
async function buildLibmount(path: string): Promise<void> {
  const root = await (await openSid()).unpack(["libmount-dev"], true);
  const libraries = `${root}/usr/lib/${Deno.build.arch}-linux-gnu`;
  const loader = [...Deno.readDirSync(libraries)].find(({ name }) => name.startsWith("ld-linux-"))?.name;
  await compile("gcc", [
    "-O2",
    `-I${root}/usr/include/libmount`,
    "-o",
    path,
    source("libmount.c"),
    `${libraries}/libmount.so.1`,
    `-Wl,-rpath,${libraries},--dynamic-linker=${libraries}/${loader},--allow-shlib-undefined`,
  ]);
}

const builders: Record<string, (path: string) => Promise<void>> = {
  "C floor": buildFloor,
  containerd: buildContainerd,
  libmount: buildLibmount,
};

/**
 * Builds the peers; names those that can't be built, with the reason.
 *
 * @param directory where the programs are written.
 * @returns the programs.
 */
export async function buildPeers(directory: string): Promise<Program[]> {
  const built: Program[] = [];
  for (const [name, build] of Object.entries(builders)) {
    const path = `${directory}/${name.replace(" ", "-")}`;
    try {
      await build(path);
      built.push({ name, path });
    } catch (error) {
      console.error(`${name} is left out: ${error instanceof Error ? error.message : error}`);
    }
  }
  return built;
}
