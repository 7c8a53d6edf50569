/**
 * The mounts of a snapshot, as containerd's overlayfs snapshotter gives them.
 *
 * @module
 */

import { InvalidArgumentError } from "../errors.ts";
import { isErrno } from "../../ffi/errno.ts";
import { type IdMapping, parseIdMappings } from "../../linux/spec/id_mapping.ts";
import type { Mount } from "../../linux/spec/mount.ts";
import { AT_FDCWD, AT_STATX_DONT_SYNC } from "../../linux/syscalls/constants.ts";
import { statx } from "../../linux/syscalls/mod.ts";
import type { Row } from "./record.ts";

const UIDS = "containerd.io/snapshot/uidmapping";
const GIDS = "containerd.io/snapshot/gidmapping";

/** The id maps of a snapshot: the options of its mounts, and the owner of its root on the host. */
export interface IdMaps {
  /** `uidmap=` and `gidmap=`. */
  readonly options: readonly string[];
  /** The user that the container's root is on the host. */
  readonly uid: number;
  /** The group that the container's root is on the host. */
  readonly gid: number;
}

/**
 * Reads the id maps of a snapshot's labels.
 *
 * @param labels the labels.
 * @param action what the call was to do, for the error.
 * @returns the maps; undefined if no label has one.
 * @throws {InvalidArgumentError} for a map that is malformed or has no root, and for one without the other.
 */
export function idMapsOf(labels: Readonly<Record<string, string>>, action: string): IdMaps | undefined {
  const { [UIDS]: uids, [GIDS]: gids } = labels;
  if (uids === undefined && gids === undefined) return undefined;
  const refuse = (details: string, cause?: unknown) =>
    new InvalidArgumentError("INVALID_ARGUMENT", { action, details, cause });
  if (uids === undefined || gids === undefined) {
    throw refuse(`the labels ${UIDS} and ${GIDS} need each other`);
  }
  try {
    const [uid, gid] = [rootOf(parseIdMappings(uids)), rootOf(parseIdMappings(gids))];
    if (uid === undefined || gid === undefined) throw refuse("the id maps have no root");
    return { options: [`uidmap=${uids}`, `gidmap=${gids}`], uid, gid };
  } catch (error) {
    throw error instanceof TypeError ? refuse(error.message, error) : error;
  }
}

function rootOf(map: readonly IdMapping[]): number | undefined {
  return map.find(({ containerId }) => containerId === 0)?.hostId;
}

/** Where the layers of a snapshot are. */
export interface Layers {
  /** The directory of its own files. */
  readonly upper: string;
  /** The directory that overlay works in. */
  readonly work: string;
  /** The directories of its parents' files, the nearest first. */
  readonly lower: readonly string[];
}

/**
 * The mounts of a snapshot.
 *
 * @param row the snapshot.
 * @param layers its directories.
 * @param maps its id maps.
 * @returns one mount: a bind of a single directory, else an overlay.
 */
export function mountsOf(
  { kind }: Pick<Row, "kind">,
  { upper, work, lower }: Layers,
  maps: IdMaps | undefined,
): Mount[] {
  const [first, ...others] = lower;
  // A snapshot's own files have the ids of the host: without parents there is nothing to map.
  if (first === undefined) return [bind(upper, kind)];
  const options = [...maps?.options ?? []];
  if (kind === "view" && others.length === 0) return [bind(first, kind, options)];
  if (kind !== "view") options.push(`workdir=${work}`, `upperdir=${upper}`);
  options.push(`lowerdir=${lower.join(":")}`);
  if (supportsIndex()) options.push("index=off");
  return [{ type: "overlay", source: "overlay", options }];
}

/**
 * A bind of a directory, as a snapshot's mount.
 *
 * @param source the directory.
 * @param kind the kind of the snapshot; a view is read-only.
 * @param options more options.
 * @returns the mount.
 */
export function bind(source: string, kind: Row["kind"], options: readonly string[] = []): Mount {
  return { type: "bind", source, options: [...options, kind === "view" ? "ro" : "rw", "rbind"] };
}

/** False before the kernel has loaded its overlay module, and if it is built without the index. */
function supportsIndex(): boolean {
  try {
    statx(AT_FDCWD, "/sys/module/overlay/parameters/index", AT_STATX_DONT_SYNC, 0);
    return true;
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    return false;
  }
}

/**
 * Whether containerd can't mount a list because its options are longer than the page that mount(2) takes. containerd
 * shortens the paths of the lower layers by the directory that they have in common.
 *
 * @param mounts the mounts.
 * @param common that directory, with a slash at its end.
 * @returns true if they are too long.
 */
export function isTooLong(mounts: readonly Mount[], common: string): boolean {
  return mounts.some(({ options = [] }) => {
    const text = options.map((option) =>
      option.startsWith("lowerdir=") ? option.replaceAll(common, "") : option
    ).join();
    return text.length >= PAGE - RESERVED;
  });
}

const PAGE = 4096; // bytes; the smallest page of the architectures
const RESERVED = 512; // bytes that containerd keeps free of it, in core/mount/mount_linux.go
