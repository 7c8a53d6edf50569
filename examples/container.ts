/**
 * A small container runner: unpacks the layers of an OCI image layout, mounts them as an id-mapped overlay, and starts a
 * command with runc in a user namespace. On the host, the layers belong to root, and written files to uid 100000.
 *
 *     sudo deno run -A examples/container.ts LAYOUT STATE [COMMAND…]
 *
 * LAYOUT is a directory as skopeo, umoci and buildah write it; STATE keeps layers and containers, and may be in a home
 * directory that only its user enters. The example does not
 * support device nodes (runc creates those that a container requires), extended attributes, and users by name.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { lchownSync, lstatSync, rmSync } from "node:fs";
// deno-lint-ignore no-import-prefix
import { createTarDecoder, type TarHeader } from "npm:modern-tar@0.8.6";
// deno-lint-ignore no-import-prefix
import { basename, dirname, join } from "npm:deno-std@1.4.0/path/posix/mod.js";
import { type Mount, mountAll, rootPath, withTempMount } from "../mod.ts";

const FIRST_ID = 100000;
const IDS = 65536;
const mappings = [{ containerID: 0, hostID: FIRST_ID, size: IDS }];
const maps = ["uidmap", "gidmap"].map((name) => `${name}=0:${FIRST_ID}:${IDS}`);

interface Descriptor {
  mediaType: string;
  digest: string;
}

interface Image {
  layers: Descriptor[];
  config: { Entrypoint?: string[]; Cmd?: string[]; Env?: string[]; WorkingDir?: string; User?: string };
}

/** The bytes of a blob, checked against its digest. */
async function blob(
  layout: string,
  { digest }: Descriptor,
): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw new Error(`${digest} is not a sha256 digest`);
  const path = `${layout}/blobs/${digest.replace(":", "/")}`;
  const hash = createHash("sha256");
  for await (const chunk of (await Deno.open(path)).readable) hash.update(chunk);
  if (`sha256:${hash.digest("hex")}` !== digest) throw new Error(`the blob ${digest} is damaged`);
  return (await Deno.open(path)).readable;
}

async function readImage(layout: string): Promise<Image> {
  const json = async (descriptor: Descriptor) => await new Response(await blob(layout, descriptor)).json();
  const { manifests } = JSON.parse(await Deno.readTextFile(`${layout}/index.json`));
  const { layers, config } = await json(manifests[0]);
  return { layers, config: (await json(config)).config ?? {} };
}

/**
 * Applies the changes of a layer in an overlay with the layer as its upper directory: a whiteout is a plain removal, for
 * which the kernel creates the overlay's whiteout, and links are followed as in the container.
 */
class LayerWriter {
  readonly #written = new Set<string>();

  constructor(readonly root: string) {}

  async apply(header: TarHeader, body: ReadableStream<Uint8Array>): Promise<void> {
    const name = join("/", header.name); // resolves ".."
    const [, whiteout] = basename(name).match(/^\.wh\.(.*)/) ?? [];
    if (whiteout === undefined) return await this.#make(await this.#inside(name), header, body);
    await body.cancel();
    if (whiteout === ".wh..opq") this.#hideChildren(await this.#inside(dirname(name)));
    else if (!whiteout.startsWith(".wh.")) this.#hide(await this.#inside(join(dirname(name), whiteout)));
  }

  /** The path of a name: its directories are resolved inside the root, its last component is not followed. */
  async #inside(name: string): Promise<string> {
    const plain = join("/", name);
    return plain === "/" ? this.root : join(await rootPath(this.root, dirname(plain)), basename(plain));
  }

  async #make(path: string, header: TarHeader, body: ReadableStream<Uint8Array>): Promise<void> {
    const { type = "file", uid = 0, gid = 0, mode = 0o755, linkname = "" } = header;
    this.#written.add(path);
    Deno.mkdirSync(dirname(path), { recursive: true });
    if (type !== "directory" || !isDirectory(path)) rmSync(path, { recursive: true, force: true });
    if (type === "file") await Deno.writeFile(path, body, { createNew: true });
    else await body.cancel();
    if (type === "directory") Deno.mkdirSync(path, { recursive: true });
    else if (type === "symlink") Deno.symlinkSync(linkname, path);
    else if (type === "link") return Deno.linkSync(await this.#inside(linkname), path);
    else if (type !== "file") return;
    lchownSync(path, uid, gid);
    if (type !== "symlink") Deno.chmodSync(path, mode & 0o7777); // last, because chown clears set-user-ID
  }

  /** Removes the files of the layers below, and keeps those of this layer. */
  #hide(path: string): void {
    if (path !== this.root && !this.#written.has(path)) rmSync(path, { recursive: true, force: true });
    else this.#hideChildren(path);
  }

  #hideChildren(directory: string): void {
    if (!isDirectory(directory)) return;
    for (const { name } of [...Deno.readDirSync(directory)]) this.#hide(join(directory, name));
  }
}

const isDirectory = (path: string) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** A writable overlay of layers, the topmost first, with its upper and work directories in `directory`. */
async function overlay(layers: string[], directory: string, options: string[] = []): Promise<Mount> {
  for (const name of ["empty", "upper", "work"]) {
    await Deno.mkdir(`${directory}/${name}`, { recursive: true });
  }
  const [empty, upper, work, ...lower] = ["empty", "upper", "work"].map((name) => `${directory}/${name}`)
    .concat(layers).map((path) => path.replace(/[\\:,]/g, "\\$&"));
  const paths = [`lowerdir=${[...lower, empty].join(":")}`, `upperdir=${upper}`, `workdir=${work}`];
  return { type: "overlay", source: "overlay", options: [...paths, ...options] };
}

/** Unpacks a layer over those below it, unless it is already unpacked. */
async function unpack(layout: string, layer: Descriptor, below: string[], state: string): Promise<string> {
  const chain = createHash("sha256").update(`${below[0]} ${layer.digest}`).digest("hex");
  const directory = `${state}/layers/${chain}`;
  if (isDirectory(directory)) return directory;
  const unfinished = await Deno.makeTempDir({ dir: state, prefix: "unfinished-" });
  using _unfinished = { [Symbol.dispose]: () => rmSync(unfinished, { recursive: true }) };
  const { mediaType } = layer;
  if (!/\btar(\+gzip|\.gzip)?$/.test(mediaType)) throw new Error(`can't unpack ${mediaType}`);
  const packed = await blob(layout, layer);
  const tar = mediaType.endsWith("gzip") ? packed.pipeThrough(new DecompressionStream("gzip")) : packed;
  await withTempMount([await overlay(below, unfinished)], async (root) => {
    const writer = new LayerWriter(root);
    // Not strict, because umoci omits the end marks; the digest proves that the archive is complete.
    for await (const { header, body } of tar.pipeThrough(createTarDecoder())) {
      await writer.apply(header, body);
    }
  });
  await Deno.mkdir(dirname(directory), { recursive: true });
  await Deno.rename(`${unfinished}/upper`, directory);
  return directory;
}

/** The config.json of the OCI runtime specification. */
function runtimeConfig({ config }: Image, root: string, command: string[]): unknown {
  if (!/^(\d+(:\d+)?)?$/.test(config.User ?? "")) throw new Error(`the user ${config.User} is not a number`);
  const [uid = 0, gid = uid] = (config.User || "0").split(":").map(Number);
  const args = command.length > 0 ? command : [...config.Entrypoint ?? [], ...config.Cmd ?? []];
  const kernel = (type: string, destination: string, ...options: string[]) => (
    { type, source: type, destination, options: ["nosuid", "noexec", ...options] }
  );
  return {
    ociVersion: "1.0.2",
    process: { user: { uid, gid }, args, env: config.Env ?? [], cwd: config.WorkingDir || "/" },
    root: { path: root },
    mounts: [
      kernel("proc", "/proc", "nodev"),
      kernel("tmpfs", "/dev", "mode=755"),
      kernel("devpts", "/dev/pts", "newinstance", "ptmxmode=0666", "mode=0620"),
      kernel("sysfs", "/sys", "nodev", "ro"),
    ],
    linux: {
      uidMappings: mappings,
      gidMappings: mappings,
      namespaces: ["user", "pid", "network", "mount", "ipc", "uts"].map((type) => ({ type })),
    },
  };
}

async function main(layout: string, state: string, command: string[]): Promise<number> {
  const image = await readImage(layout);
  const layers: string[] = []; // the topmost first, as in an overlay
  for (const layer of image.layers) layers.unshift(await unpack(layout, layer, layers, state));

  const id = `denomount-${crypto.randomUUID().slice(0, 8)}`;
  const bundle = `${state}/containers/${id}`;
  const root = await overlay(layers, bundle, maps);
  await Deno.chown(`${bundle}/upper`, FIRST_ID, FIRST_ID);
  const config = JSON.stringify(runtimeConfig(image, `/run/${id}/root`, command));
  await Deno.writeTextFile(`${bundle}/config.json`, config);

  Deno.addSignalListener("SIGINT", () => {}); // the terminal sends it to runc too, which ends first
  // The container's root, another user on the host, has to pass each directory on the way; STATE may be below a home.
  await Deno.mkdir(`/run/${id}`, { mode: 0o711 });
  await Deno.mkdir(`/run/${id}/root`);
  using _place = {
    [Symbol.dispose]: () => ["/root", ""].forEach((name) => Deno.removeSync(`/run/${id}${name}`)),
  };
  await using _root = await mountAll([root], `/run/${id}/root`);
  const args = ["--root", `${state}/runc`, "run", "--bundle", bundle, id];
  const runc = new Deno.Command("runc", { args }).spawn();
  Deno.addSignalListener("SIGTERM", () => runc.kill("SIGTERM"));
  return (await runc.status).code;
}

const [layout, state, ...command] = Deno.args;
if (layout === undefined || state === undefined) {
  console.error("usage: container.ts LAYOUT STATE [COMMAND…]");
  Deno.exit(2);
}
Deno.exit(await main(layout, await Deno.realPath(state), command));
