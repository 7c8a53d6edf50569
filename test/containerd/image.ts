/**
 * A small image of three layers, as an archive that `ctr image import` takes, without a network.
 *
 * @module
 */

import { type Entry, tar } from "./tar.ts";

/** An image, and the names that containerd gives to its unpacked layers. */
export interface Image {
  /** The archive in OCI's layout. */
  archive: Uint8Array<ArrayBuffer>;
  /** The chain ids of its layers from the lowest: the names of their committed snapshots. */
  chainIds: string[];
}

/** The name that the image is imported by. */
export const IMAGE = "denomount.test/three:layers";

const DAY = 86_400;
const text = (name: string, size: number) =>
  `${name}\n`.repeat(Math.ceil(size / (name.length + 1))).slice(0, size);
const latin1 = (name: string) => Uint8Array.from([...name].map((character) => character.charCodeAt(0)));

const lowest: Entry[] = [
  { path: "./", type: "directory", mode: 0o751, gid: 7, mtime: DAY / 2 },
  { path: "bin/", type: "directory", mtime: DAY },
  { path: "bin/tool", type: "file", mode: 0o4755, mtime: 2 * DAY, content: text("tool", 100) },
  { path: "bin/other-name", type: "hardlink", target: "bin/tool", mode: 0o4755, mtime: 2 * DAY },
  { path: "bin/link", type: "symlink", target: "tool", mode: 0o777, mtime: 3 * DAY },
  { path: "dev/", type: "directory", mode: 0o700, mtime: 4 * DAY },
  { path: "dev/null", type: "char", mode: 0o666, device: [1, 3], mtime: 5 * DAY },
  { path: "dev/loop", type: "block", mode: 0o660, gid: 6, device: [7, 300], mtime: 5 * DAY },
  { path: "dev/pipe", type: "fifo", mode: 0o600, uid: 1000, mtime: 5 * DAY },
  { path: "etc/", type: "directory", mtime: 6 * DAY },
  { path: "etc/changed", type: "file", mtime: 7 * DAY, content: "first\n" },
  { path: "etc/removed", type: "file", mtime: 7 * DAY, content: "gone\n" },
  { path: "etc/empty", type: "file", mode: 0, uid: 3, gid: 4, mtime: 7 * DAY },
  { path: "etc/absolute", type: "symlink", target: "/etc/changed", mode: 0o777, mtime: 7 * DAY },
  { path: "home/", type: "directory", mtime: 8 * DAY },
  { path: "home/user/", type: "directory", mode: 0o2750, uid: 1000, gid: 100, mtime: 8 * DAY },
  {
    path: "home/user/attributes",
    type: "file",
    mode: 0o600,
    uid: 1000,
    gid: 100,
    mtime: 9 * DAY,
    content: "attributes\n",
    xattrs: { "user.comment": "first layer", "user.empty": "", "trusted.note": "of root" },
  },
  { path: "opaque/", type: "directory", mtime: 10 * DAY },
  { path: "opaque/hidden", type: "file", mtime: 10 * DAY, content: "hidden\n" },
  { path: "tmp/", type: "directory", mode: 0o1777, mtime: 11 * DAY },
  { path: "large", type: "file", mtime: 12 * DAY, content: text("large", 300_001) },
  { path: "becomes-directory", type: "file", mtime: 12 * DAY, content: "file\n" },
  { path: "becomes-file/", type: "directory", mtime: 12 * DAY },
  { path: "becomes-file/inside", type: "file", mtime: 12 * DAY, content: "inside\n" },
];

const middle: Entry[] = [
  { path: "etc/", type: "directory", mode: 0o711, uid: 5, mtime: 20 * DAY },
  { path: "etc/.wh.removed", type: "file", mtime: 20 * DAY },
  { path: "etc/changed", type: "file", mode: 0o640, gid: 42, mtime: 21 * DAY, content: "second\n" },
  { path: "etc/added", type: "file", mtime: 21 * DAY, content: "added\n" },
  { path: "opaque/", type: "directory", mode: 0o750, mtime: 22 * DAY },
  { path: "opaque/.wh..wh..opq", type: "file", mtime: 22 * DAY },
  { path: "opaque/visible", type: "file", mtime: 22 * DAY, content: "visible\n" },
  { path: latin1("caf\xe9"), type: "file", mtime: 23 * DAY, content: "no UTF-8\n" },
  { path: "na\u00efve name", type: "file", mtime: 23 * DAY, content: "UTF-8\n" },
];

const topmost: Entry[] = [
  { path: "etc/", type: "directory", mode: 0o711, uid: 5, mtime: 30 * DAY },
  { path: "etc/.wh.added", type: "file", mtime: 30 * DAY },
  { path: "etc/removed", type: "file", mtime: 30 * DAY, content: "again\n" },
  { path: ".wh.becomes-directory", type: "file", mtime: 31 * DAY },
  { path: "becomes-directory/", type: "directory", mtime: 31 * DAY },
  { path: "becomes-directory/inside", type: "file", mtime: 31 * DAY, content: "inside\n" },
  { path: ".wh.becomes-file", type: "file", mtime: 31 * DAY },
  { path: "becomes-file", type: "file", mtime: 31 * DAY, content: "file\n" },
  { path: "run/", type: "directory", mode: 0o755, uid: 100_000, gid: 100_000, mtime: 32 * DAY },
];

/** The entries of the three layers. */
export const LAYERS: readonly (readonly Entry[])[] = [lowest, middle, topmost];

/**
 * Builds the image.
 *
 * @param entriesOfLayers the entries of other layers.
 * @returns the image.
 */
export async function buildImage(entriesOfLayers: typeof LAYERS = LAYERS): Promise<Image> {
  const layers = await Promise.all(entriesOfLayers.map((entries) => blob(tar(entries))));
  const config = await json({
    architecture: Deno.build.arch === "x86_64" ? "amd64" : "arm64",
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
  });
  const manifest = await json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: descriptor(config, "application/vnd.oci.image.config.v1+json"),
    layers: layers.map((layer) => descriptor(layer, "application/vnd.oci.image.layer.v1.tar")),
  });
  const index = {
    schemaVersion: 2,
    manifests: [{
      ...descriptor(manifest, "application/vnd.oci.image.manifest.v1+json"),
      annotations: { "io.containerd.image.name": IMAGE },
    }],
  };
  const files: Entry[] = [
    { path: "oci-layout", type: "file", content: JSON.stringify({ imageLayoutVersion: "1.0.0" }) },
    { path: "index.json", type: "file", content: JSON.stringify(index) },
    ...[...layers, config, manifest].map(({ digest, content }): Entry => ({
      path: `blobs/${digest.replace(":", "/")}`,
      type: "file",
      content,
    })),
  ];
  return { archive: tar(files), chainIds: await chain(layers.map(({ digest }) => digest)) };
}

interface Blob {
  content: Uint8Array<ArrayBuffer>;
  digest: string;
}

async function sha256(content: Uint8Array<ArrayBuffer>): Promise<string> {
  return `sha256:${new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex()}`;
}

async function blob(content: Uint8Array<ArrayBuffer>): Promise<Blob> {
  return { content, digest: await sha256(content) };
}

const json = (value: unknown) => blob(new TextEncoder().encode(JSON.stringify(value)));

const descriptor = ({ content, digest }: Blob, mediaType: string) => ({
  mediaType,
  digest,
  size: content.length,
});

/** The chain id of a layer: the digest of that of the layer below it, and its own. */
async function chain(digests: readonly string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const digest of digests) {
    const below = ids.at(-1);
    ids.push(below === undefined ? digest : await sha256(new TextEncoder().encode(`${below} ${digest}`)));
  }
  return ids;
}
