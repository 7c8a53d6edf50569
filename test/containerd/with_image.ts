/**
 * A containerd with an image, in a snapshotter whose lists need a mount manager and in one whose lists don't.
 *
 * @module
 */

import { Daemon, type DaemonOptions } from "./daemon.ts";
import { erofsUtils } from "./erofs_utils.ts";
import { buildImage } from "./image.ts";

const lines = [
  '[plugins."io.containerd.service.v1.diff-service"]',
  '  default = ["erofs", "walking"]',
  '[plugins."io.containerd.snapshotter.v1.erofs"]',
  '  default_size = "64MiB"',
];

/**
 * Starts a containerd with the image in erofs and overlayfs.
 *
 * @param directory a directory of its own.
 * @param options how to start it.
 * @returns the containerd, and the name of the image's topmost layer.
 */
export async function startWithImage(
  directory: string,
  { path = [], ...options }: DaemonOptions,
): Promise<{ daemon: Daemon; layer: string }> {
  const programs = [...path, await erofsUtils(), "/usr/sbin", "/sbin"];
  const daemon = await Daemon.start(directory, { lines, path: programs, ...options });
  const image = await buildImage();
  for (const snapshotter of ["erofs", "overlayfs"]) await daemon.importImage(image, snapshotter);
  return { daemon, layer: image.chainIds.at(-1) ?? "" };
}
