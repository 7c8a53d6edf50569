/**
 * Images of layers that this library writes, unpacked by umoci.
 *
 * @module
 */

import { exportLayer } from "../../linux/sandbox/changes/mod.ts";
import { run } from "./overlay.ts";

/** A directory that becomes a layer. */
export interface LayerSource {
  /** The directory. */
  readonly path: string;
  /** Whether its marks are `user.overlay.` attributes. */
  readonly userxattr?: boolean;
}

async function sha256(path: string): Promise<string> {
  const bytes = await Deno.readFile(path);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Writes an OCI image layout with a layer for each directory, from bottom to top. */
export async function writeImage(directory: string, layers: readonly LayerSource[]): Promise<void> {
  const blobs = `${directory}/blobs/sha256`;
  Deno.mkdirSync(blobs, { recursive: true });
  const described: { digest: string; size: number }[] = [];
  for (const { path, userxattr = false } of layers) {
    const temporary = `${directory}/layer.tar`;
    using file = await Deno.create(temporary);
    const { bytes } = await exportLayer(path, file.writable, { userxattr });
    const digest = await sha256(temporary);
    await Deno.rename(temporary, `${blobs}/${digest}`);
    described.push({ digest: `sha256:${digest}`, size: bytes });
  }
  const put = async (value: unknown) => {
    const temporary = `${directory}/blob`;
    Deno.writeTextFileSync(temporary, JSON.stringify(value));
    const [digest, { size }] = [await sha256(temporary), Deno.statSync(temporary)];
    Deno.renameSync(temporary, `${blobs}/${digest}`);
    return { digest: `sha256:${digest}`, size };
  };
  const config = await put({
    architecture: "amd64",
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: described.map(({ digest }) => digest) },
  });
  const media = "application/vnd.oci.image";
  const manifest = await put({
    schemaVersion: 2,
    mediaType: `${media}.manifest.v1+json`,
    config: { mediaType: `${media}.config.v1+json`, ...config },
    layers: described.map((layer) => ({ mediaType: `${media}.layer.v1.tar`, ...layer })),
  });
  Deno.writeTextFileSync(`${directory}/oci-layout`, JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  Deno.writeTextFileSync(
    `${directory}/index.json`,
    JSON.stringify({
      schemaVersion: 2,
      manifests: [{
        mediaType: `${media}.manifest.v1+json`,
        ...manifest,
        annotations: { "org.opencontainers.image.ref.name": "test" },
      }],
    }),
  );
}

/** Unpacks the layers of directories, from bottom to top, into a new directory. */
export async function unpack(base: string, to: string, layers: readonly LayerSource[]): Promise<void> {
  const image = `${base}/image`;
  await writeImage(image, layers);
  await run("umoci", "raw", "unpack", "--image", `${image}:test`, to);
  await Deno.remove(image, { recursive: true });
}
