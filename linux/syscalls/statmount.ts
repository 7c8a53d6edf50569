/**
 * statmount(2) and listmount(2): mounts by their unique ids.
 *
 * @module
 */

import { check, isErrno } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { decodeCString } from "../../ffi/memory.ts";
import { decodeName } from "../../ffi/text.ts";
import { getUint64AsNumber, Scratch } from "../../ffi/scratch.ts";
import {
  STATMOUNT_FS_SUBTYPE,
  STATMOUNT_FS_TYPE,
  STATMOUNT_MNT_GIDMAP,
  STATMOUNT_MNT_OPTS,
  STATMOUNT_MNT_POINT,
  STATMOUNT_MNT_ROOT,
  STATMOUNT_MNT_UIDMAP,
  STATMOUNT_SB_BASIC,
  STATMOUNT_SB_SOURCE,
} from "./constants.ts";
import { SYS_listmount } from "./numbers.ts";

const SYS_statmount = 457; // asm-generic/unistd.h

/** The result of {@linkcode statmount}: fields of struct statmount in linux/mount.h. */
export interface Statmount {
  /** The `STATMOUNT_…` flags of the fields that are filled. */
  mask: number;
  /** Major number of the file system's device. */
  devMajor: number;
  /** Minor number of the file system's device. */
  devMinor: number;
  /** The file system's magic number (linux/magic.h). */
  magic: number;
  /** The file system's `SB_…` flags. */
  superFlags: number;
  /** The mount's id in mountinfo. */
  oldId: number;
  /** The parent mount's id in mountinfo. */
  oldParentId: number;
  /** The mount's `MOUNT_ATTR_…` flags. */
  attributes: number;
  /** `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` and `MS_UNBINDABLE` flags. */
  propagation: number;
  /** The id of its peer group, for a shared mount. */
  peerGroup: number;
  /** The id of its master's peer group, for a slave mount. */
  master: number;
  /** The nearest dominating peer group under the process's root, for a slave mount. */
  propagateFrom: number;
  /** The file system's type. */
  fsType: string;
  /** The subtype, such as "sshfs" of "fuse.sshfs"; "" for none. */
  fsSubtype: string;
  /** The path in the file system that is the root of the mount. */
  root: string;
  /** The mountpoint, as a path from this process's root. */
  mountpoint: string;
  /** The file system's options, comma-separated. */
  options: string;
  /** The source, such as a device. */
  source: string;
  /** The `STATMOUNT_…` flags that the kernel knows. */
  supportedMask: number;
  /** The ranges of the user id map of an id-mapped mount, each as `container host size`. */
  uidMap: string[];
  /** The ranges of its group id map. */
  gidMap: string[];
}

const request = new Scratch(32); // struct mnt_id_req, MNT_ID_REQ_SIZE_VER1
const STRINGS_OFFSET = 512; // offsetof(struct statmount, str)
// Reused, and replaced by a larger one if needed. Calls are synchronous, so they do not overlap.
let mountResult = new Scratch(4096);
let mountResultSize = 4096n;

/**
 * statmount(2): the fields of one mount, without reading the mount table.
 *
 * Needs the permission `ffi` and Linux 6.8 (6.11 for another namespace, 6.13 for the source).
 *
 * @param mountId the unique id, from {@linkcode statx} with `STATX_MNT_ID_UNIQUE`.
 * @param mask `STATMOUNT_…` flags: the fields to fill.
 * @param namespaceId the id of the mount's namespace, from `NS_GET_MNTNS_ID`; 0 for that of this process.
 * @returns the fields; those without a flag in the returned mask are 0 or "".
 * @throws {SyscallError} ENOENT if the mount namespace has no such mount.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const { mountId } = linux.statx(linux.AT_FDCWD, "/proc", 0, linux.STATX_MNT_ID_UNIQUE);
 * console.log(linux.statmount(mountId, linux.STATMOUNT_FS_TYPE).fsType); // "proc"
 * ```
 */
export function statmount(mountId: bigint, mask: number, namespaceId = 0n): Statmount {
  setRequest(mountId, BigInt(mask), namespaceId);
  statmountInto();
  const { view, bytes } = mountResult;
  const fields = readNumbers(view);
  for (const { name, bit, offset } of STRINGS) {
    if (fields.mask & bit) fields[name] = decodeCString(bytes, STRINGS_OFFSET + view.getUint32(offset, true));
  }
  if (fields.mask & STATMOUNT_MNT_UIDMAP) {
    fields.uidMap = readStrings(mountResult, UIDMAP.mnt_uidmap_num, UIDMAP.mnt_uidmap);
  }
  if (fields.mask & STATMOUNT_MNT_GIDMAP) {
    fields.gidMap = readStrings(mountResult, GIDMAP.mnt_gidmap_num, GIDMAP.mnt_gidmap);
  }
  return fields;
}

/** Makes the call, with a result that is large enough for the strings. */
function statmountInto(): void {
  for (;;) {
    try {
      const { address } = mountResult;
      check(
        libc().statmount(SYS_statmount, request.address, address, mountResultSize, 0),
        errno[0],
        "statmount",
      );
      return;
    } catch (error) {
      if (!isErrno(error, "EOVERFLOW")) throw error;
      mountResult = new Scratch(mountResult.bytes.length * 4);
      mountResultSize = BigInt(mountResult.bytes.length);
    }
  }
}

// struct statmount of linux/mount.h
const UIDMAP = { mnt_uidmap_num: 152, mnt_uidmap: 156 };
const GIDMAP = { mnt_gidmap_num: 160, mnt_gidmap: 164 };

/** Strings one after the other, each with a NUL at its end. */
function readStrings({ view, bytes }: Scratch, countOffset: number, offset: number): string[] {
  let at = STRINGS_OFFSET + view.getUint32(offset, true);
  return Array.from({ length: view.getUint32(countOffset, true) }, () => {
    const text = decodeCString(bytes, at);
    at += text.length + 1;
    return text;
  });
}

/**
 * statmount(2) for several mounts. Their strings are decoded together: for each alone, that would take as long as the
 * call.
 *
 * Needs the permission `ffi` and Linux 6.8 (6.11 for another namespace, 6.13 for the source).
 *
 * @param mountIds the unique ids; the kernel counts up and does not reach 2^53.
 * @param mask `STATMOUNT_…` flags: the fields to fill. Id maps are not read.
 * @param namespaceId the id of the mounts' namespace, from `NS_GET_MNTNS_ID`; 0 for that of this process.
 * @returns the fields of each mount; undefined for one that the mount namespace does not have.
 * @throws {SyscallError} with another errno than ENOENT.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const ids = linux.listmount(linux.LSMT_ROOT).map(Number);
 * console.log(linux.statmountMany(ids, linux.STATMOUNT_MNT_POINT).map((mount) => mount?.mountpoint));
 * ```
 */
export function statmountMany(
  mountIds: readonly number[],
  mask: number,
  namespaceId = 0n,
): (Statmount | undefined)[] {
  const texts = new TextBatch();
  setRequest(0n, BigInt(mask), namespaceId);
  const { view } = request;
  const mounts = mountIds.map((mountId) => {
    view.setUint32(8, mountId % 2 ** 32, true); // mnt_id
    view.setUint32(12, mountId / 2 ** 32, true); // mnt_id, upper half
    if (!isFound()) return undefined;
    const fields = readNumbers(mountResult.view);
    texts.add(fields, mountResult);
    return fields;
  });
  texts.decode();
  return mounts;
}

function isFound(): boolean {
  try {
    statmountInto();
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

/** The strings of several mounts. */
class TextBatch {
  #bytes = new Uint8Array(16 * 1024);
  #length = 0;
  readonly #mounts: Statmount[] = [];
  readonly #starts: number[] = []; // of each mount, the indexes of its strings; -1 for none

  add(mount: Statmount, { view, bytes }: Scratch): void {
    const strings = bytes.subarray(STRINGS_OFFSET, view.getUint32(0, true)); // size
    if (this.#length + strings.length > this.#bytes.length) this.decode();
    if (strings.length > this.#bytes.length) this.#bytes = new Uint8Array(strings.length * 2);
    this.#bytes.set(strings, this.#length);
    this.#mounts.push(mount);
    for (const { bit, offset } of STRINGS) {
      this.#starts.push(mount.mask & bit ? this.#length + view.getUint32(offset, true) : -1);
    }
    this.#length += strings.length;
  }

  /** Fills the strings of the mounts since the last call. */
  decode(): void {
    const text = decodeName(this.#bytes.subarray(0, this.#length));
    const isAscii = text.length === this.#length; // then an index of the bytes is one of the text
    const stringAt = (start: number) =>
      isAscii ? text.slice(start, text.indexOf("\0", start)) : decodeCString(this.#bytes, start);
    let index = 0;
    for (const mount of this.#mounts) {
      for (const { name } of STRINGS) {
        const start = this.#starts[index++] ?? -1;
        if (start >= 0) mount[name] = stringAt(start);
      }
    }
    this.#mounts.length = this.#starts.length = this.#length = 0;
  }
}

/**
 * statmount(2) for the file system's magic number and flags only. Without strings, the call takes half a microsecond.
 *
 * Needs the permission `ffi` and Linux 6.8.
 *
 * @param mountId the unique id; the kernel counts up and does not reach 2^53.
 * @returns the magic number (linux/magic.h) and the file system's `SB_…` flags.
 * @throws {SyscallError} ENOENT if this mount namespace has no such mount.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const { mountId } = linux.statx(linux.AT_FDCWD, "/proc", 0, linux.STATX_MNT_ID_UNIQUE);
 * console.log(linux.statmountBasic(Number(mountId)).magic.toString(16)); // "9fa0", PROC_SUPER_MAGIC
 * ```
 */
export function statmountBasic(mountId: number): { magic: number; superFlags: number } {
  const { view } = basicRequest;
  view.setUint32(0, 24, true); // size
  view.setUint32(8, mountId % 2 ** 32, true); // mnt_id
  view.setUint32(12, mountId / 2 ** 32, true); // mnt_id, upper half
  view.setUint32(16, STATMOUNT_SB_BASIC, true); // param
  check(
    libc().statmount(SYS_statmount, basicRequest.address, basicResult.address, 512n, 0),
    errno[0],
    "statmount",
  );
  return {
    magic: getUint64AsNumber(basicResult.view, 24), // sb_magic
    superFlags: basicResult.view.getUint32(32, true), // sb_flags
  };
}

const basicRequest = new Scratch(24); // struct mnt_id_req, MNT_ID_REQ_SIZE_VER0
const basicResult = new Scratch(512); // struct statmount without strings

/** Without a namespace id, the struct has the size that kernels before 6.11 take. */
function setRequest(mountId: bigint, param: bigint, namespaceId: bigint): void {
  const { view } = request;
  view.setUint32(0, namespaceId === 0n ? 24 : 32, true); // size
  view.setBigUint64(8, mountId, true); // mnt_id
  view.setBigUint64(16, param, true); // param
  view.setBigUint64(24, namespaceId, true); // mnt_ns_id
}

/**
 * listmount(2): the unique ids of the mounts below a mount.
 *
 * Needs the permission `ffi` and Linux 6.8 (6.11 for another namespace).
 *
 * @param mountId the unique id; `LSMT_ROOT` for all mounts of the namespace.
 * @param namespaceId the id of the mount namespace, from `NS_GET_MNTNS_ID`; 0 for that of this process.
 * @returns the ids, in ascending order, which is the order in which the mounts were created.
 * @throws {SyscallError} ENOENT if the mount namespace has no such mount.
 *
 * @example
 * ```ts
 * import { listmount, LSMT_ROOT } from "@denomount/mount/linux";
 *
 * console.log(listmount(LSMT_ROOT).length, "mounts");
 * ```
 */
export function listmount(mountId: bigint, namespaceId = 0n): bigint[] {
  const ids: bigint[] = [];
  for (;;) {
    const page = listmountPage(mountId, ids.at(-1) ?? 0n, namespaceId);
    for (const id of page) ids.push(BigInt(id));
    if (page.length < LISTMOUNT_IDS) return ids;
  }
}

/**
 * listmount(2), called once: at most 1024 mounts below a mount.
 *
 * Needs the permission `ffi` and Linux 6.8 (6.11 for another namespace).
 *
 * @param mountId the unique id; `LSMT_ROOT` for all mounts of the namespace.
 * @param last the last id of the page before; 0 for the first page.
 * @param namespaceId the id of the mount namespace, from `NS_GET_MNTNS_ID`; 0 for that of this process.
 * @returns the ids, in ascending order; fewer than 1024 on the last page.
 * @throws {SyscallError} ENOENT if the mount namespace has no such mount.
 *
 * @example
 * ```ts
 * import { listmountPage, LSMT_ROOT } from "@denomount/mount/linux";
 *
 * console.log(listmountPage(LSMT_ROOT, 0n)[0]); // the mount of "/", or a mount that was there before it
 * ```
 */
export function listmountPage(mountId: bigint, last: bigint, namespaceId = 0n): number[] {
  setRequest(mountId, last, namespaceId);
  const count = BigInt(LISTMOUNT_IDS);
  const found = check(
    libc().listmount(SYS_listmount, request.address, idResult.address, count, 0),
    errno[0],
    "listmount",
  );
  const ids: number[] = [];
  for (let index = 0; index < found; index++) ids.push(getUint64AsNumber(idResult.view, index * 8));
  return ids;
}

/** The most ids that {@linkcode listmountPage} returns. */
export const LISTMOUNT_IDS = 1024;
const idResult = new Scratch(LISTMOUNT_IDS * 8);

function readNumbers(view: DataView<ArrayBuffer>): Statmount {
  return {
    mask: getUint64AsNumber(view, 8), // mask
    devMajor: view.getUint32(16, true), // sb_dev_major
    devMinor: view.getUint32(20, true), // sb_dev_minor
    magic: getUint64AsNumber(view, 24), // sb_magic
    superFlags: view.getUint32(32, true), // sb_flags
    oldId: view.getUint32(56, true), // mnt_id_old
    oldParentId: view.getUint32(60, true), // mnt_parent_id_old
    attributes: getUint64AsNumber(view, 64), // mnt_attr
    propagation: getUint64AsNumber(view, 72), // mnt_propagation
    peerGroup: getUint64AsNumber(view, 80), // mnt_peer_group
    master: getUint64AsNumber(view, 88), // mnt_master
    propagateFrom: getUint64AsNumber(view, 96), // propagate_from
    fsType: "",
    fsSubtype: "",
    root: "",
    mountpoint: "",
    options: "",
    source: "",
    supportedMask: getUint64AsNumber(view, 144), // supported_mask
    uidMap: [],
    gidMap: [],
  };
}

/** The strings of struct statmount: the bit of the mask, and the offset of the field with the string's place. */
const STRINGS = [
  { name: "options", bit: STATMOUNT_MNT_OPTS, offset: 4 }, // mnt_opts
  { name: "fsType", bit: STATMOUNT_FS_TYPE, offset: 36 }, // fs_type
  { name: "root", bit: STATMOUNT_MNT_ROOT, offset: 104 }, // mnt_root
  { name: "mountpoint", bit: STATMOUNT_MNT_POINT, offset: 108 }, // mnt_point
  { name: "fsSubtype", bit: STATMOUNT_FS_SUBTYPE, offset: 120 }, // fs_subtype
  { name: "source", bit: STATMOUNT_SB_SOURCE, offset: 124 }, // sb_source
] as const;
