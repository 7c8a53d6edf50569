/**
 * What the resolve phase hands to the kinds of mounts.
 *
 * @module
 */

import type { OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { MountTarget } from "../path/mount_target.ts";
import type { WaitOptions } from "../path/wait.ts";
import type { OverlayOptions } from "../spec/overlay_options.ts";

/** The descriptors of one plan. What has none is a path that the kernel looks up when the mount is created. */
export interface Resolved {
  /** The mountpoint. */
  readonly target: MountTarget;
  /** Closes what is opened for the plan, all together. */
  readonly fds: OwnedFds;
  /** A bind's source; undefined if the kernel has to look it up, to mount an automount or to say why it can't. */
  readonly source: OwnedFd | undefined;
  /** The user namespace whose maps the mount gets. */
  readonly userns: OwnedFd | undefined;
  /** The loop device that the image file is attached to, such as "/dev/loop0". */
  readonly device: string | undefined;
  /** An overlay's lower layers seen through the id map. */
  readonly mappedLayers: MappedLayers | undefined;
  /** The timeout and the signal of a wait for a server, a disk or a helper. */
  readonly wait: WaitOptions;
}

/** An overlay's lower layers seen through an id map: detached directories, or temporary mountpoints before Linux 6.15. */
export type MappedLayers =
  | { readonly directories: readonly (OwnedFd | undefined)[] }
  | { readonly paths: ReadonlyMap<string, string> };

/** What a kind of mount is described with. */
export interface DescribeOptions {
  /** The mountpoint's path. */
  readonly target: string;
  /** Whether the mount gets an id map. */
  readonly isMapped: boolean;
}

/**
 * An overlay's layers with the paths of the mapped ones.
 *
 * @param layers the layers.
 * @param mapped where the lower ones are attached.
 * @returns the layers as they were, if none is attached.
 */
export function withMappedPaths(layers: OverlayOptions, mapped: MappedLayers | undefined): OverlayOptions {
  if (mapped === undefined || !("paths" in mapped)) return layers;
  const path = (layer: string) => mapped.paths.get(layer) ?? layer;
  return { ...layers, lower: layers.lower.map(path), dataOnly: layers.dataOnly.map(path) };
}
