/**
 * What is mounted of a snapshot's directory.
 *
 * @module
 */

import { listMounts } from "../../linux/mountinfo/list_mounts.ts";
import { lookupMount } from "../../linux/mountinfo/lookup.ts";
import type { MountInfo } from "../../linux/mountinfo/parse_mountinfo.ts";

/** Where a directory is in its file system. */
export interface Place {
  /** The device of the file system, as mountinfo has it. */
  readonly device: string;
  /** The path from the root of the file system. */
  readonly path: string;
}

/**
 * Finds a directory in its file system.
 *
 * @param directory its canonical path.
 * @returns its place.
 */
export async function placeOf(directory: string): Promise<Place> {
  const mount = await lookupMount(directory);
  const inside = mount.mountpoint === "/" ? directory : directory.slice(mount.mountpoint.length);
  return { device: deviceOf(mount), path: `${mount.root === "/" ? "" : mount.root}${inside}` };
}

const deviceOf = ({ major, minor }: MountInfo) => `${major}:${minor}`;

/**
 * Finds a mount that shows files of a directory, or is in it, in the mount namespace of this process.
 *
 * @param directory its canonical path.
 * @param place its place in its file system.
 * @returns the mountpoint; undefined if there is none.
 */
export async function mountpointOf(directory: string, place: Place): Promise<string | undefined> {
  const isIn = (path: string, parent: string) => path === parent || path.startsWith(`${parent}/`);
  const found = (await listMounts()).find((mount) =>
    isIn(mount.mountpoint, directory) ||
    (deviceOf(mount) === place.device && isIn(mount.root, place.path)) ||
    (mount.fsType === "overlay" && mount.vfsOptions.includes(`${directory}/`))
  );
  return found?.mountpoint;
}
