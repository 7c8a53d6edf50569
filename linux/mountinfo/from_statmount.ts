/**
 * Mounts from statmount(2), with the fields of mountinfo.
 *
 * @module
 */

import {
  MOUNT_ATTR__ATIME,
  MOUNT_ATTR_IDMAP,
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_NOSYMFOLLOW,
  MOUNT_ATTR_RDONLY,
  MOUNT_ATTR_RELATIME,
  MS_DIRSYNC,
  MS_LAZYTIME,
  MS_MANDLOCK,
  MS_SHARED,
  MS_SLAVE,
  MS_SYNCHRONOUS,
  MS_UNBINDABLE,
  STATMOUNT_FS_SUBTYPE,
  STATMOUNT_FS_TYPE,
  STATMOUNT_MNT_BASIC,
  STATMOUNT_MNT_OPTS,
  STATMOUNT_MNT_POINT,
  STATMOUNT_MNT_ROOT,
  STATMOUNT_PROPAGATE_FROM,
  STATMOUNT_SB_BASIC,
  STATMOUNT_SB_SOURCE,
} from "../syscalls/constants.ts";
import type { Statmount } from "../syscalls/mod.ts";
import { readIdMaps } from "./id_maps.ts";
import type { MountInfo } from "./parse_mountinfo.ts";

/** The fields of mountinfo but for `propagate_from`, for which the kernel walks over all peers of the mount. */
export const MOUNT_FIELDS: number = STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_MNT_ROOT |
  STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE | STATMOUNT_MNT_OPTS | STATMOUNT_FS_SUBTYPE | STATMOUNT_SB_SOURCE;

/** All fields of mountinfo. */
export const PROPAGATION_FIELDS: number = MOUNT_FIELDS | STATMOUNT_PROPAGATE_FROM;

/**
 * The fields of a mount as show_mountinfo() writes them, in the same order (fs/proc_namespace.c), and its id map.
 *
 * Needs the permission `ffi`.
 *
 * @param mount the fields of statmount(2).
 * @param mountId the mount's unique id.
 * @param namespaceId the id of its mount namespace; 0 for that of this process.
 * @returns the mount.
 */
export function mountInfoOf(mount: Statmount, mountId: bigint, namespaceId = 0n): MountInfo {
  return {
    id: mount.oldId,
    parent: mount.oldParentId,
    major: mount.devMajor,
    minor: mount.devMinor,
    root: mount.root,
    mountpoint: mount.mountpoint,
    options: remember(attributes, mount.attributes, attributeNames),
    optional: propagationNames(mount),
    fsType: mount.fsType + (mount.fsSubtype && `.${mount.fsSubtype}`),
    source: mount.source,
    vfsOptions: remember(superFlags, mount.superFlags, superFlagNames) +
      (mount.options && `,${mount.options}`),
    ...mount.attributes & MOUNT_ATTR_IDMAP ? readIdMaps(mountId, namespaceId) : undefined,
  };
}

// Few values, of many mounts.
const attributes = new Map<number, string>();
const superFlags = new Map<number, string>();

function remember(known: Map<number, string>, flags: number, nameOf: (flags: number) => string): string {
  const name = known.get(flags) ?? nameOf(flags);
  known.set(flags, name);
  return name;
}

function attributeNames(attributes: number): string {
  const names = [attributes & MOUNT_ATTR_RDONLY ? "ro" : "rw"];
  if (attributes & MOUNT_ATTR_NOSUID) names.push("nosuid");
  if (attributes & MOUNT_ATTR_NODEV) names.push("nodev");
  if (attributes & MOUNT_ATTR_NOEXEC) names.push("noexec");
  if ((attributes & MOUNT_ATTR__ATIME) === MOUNT_ATTR_NOATIME) names.push("noatime");
  if (attributes & MOUNT_ATTR_NODIRATIME) names.push("nodiratime");
  if ((attributes & MOUNT_ATTR__ATIME) === MOUNT_ATTR_RELATIME) names.push("relatime");
  if (attributes & MOUNT_ATTR_NOSYMFOLLOW) names.push("nosymfollow");
  if (attributes & MOUNT_ATTR_IDMAP) names.push("idmapped");
  return names.join(",");
}

function propagationNames(mount: Statmount): string {
  if (!(mount.propagation & (MS_SHARED | MS_SLAVE | MS_UNBINDABLE))) return "";
  const names: string[] = [];
  if (mount.propagation & MS_SHARED) names.push(`shared:${mount.peerGroup}`);
  if (mount.propagation & MS_SLAVE) {
    names.push(`master:${mount.master}`);
    if (mount.propagateFrom && mount.propagateFrom !== mount.master) {
      names.push(`propagate_from:${mount.propagateFrom}`);
    }
  }
  if (mount.propagation & MS_UNBINDABLE) names.push("unbindable");
  return names.join(" ");
}

function superFlagNames(flags: number): string {
  const names = [flags & 1 ? "ro" : "rw"]; // SB_RDONLY
  if (flags & MS_SYNCHRONOUS) names.push("sync");
  if (flags & MS_DIRSYNC) names.push("dirsync");
  if (flags & MS_MANDLOCK) names.push("mand");
  if (flags & MS_LAZYTIME) names.push("lazytime");
  return names.join(",");
}
