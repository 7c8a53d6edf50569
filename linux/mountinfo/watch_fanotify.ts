/**
 * A mount namespace watched through fanotify(7), from Linux 6.15: every mount and unmount in its order, however many
 * mounts there are. The kernel tells a mount's unique id and no more, so what is mounted is remembered by it.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { struct } from "../../ffi/scratch.ts";
import {
  FAN_CLOEXEC,
  FAN_EVENT_INFO_TYPE_MNT,
  FAN_MARK_ADD,
  FAN_MARK_MNTNS,
  FAN_MNT_ATTACH,
  FAN_MNT_DETACH,
  FAN_NONBLOCK,
  FAN_Q_OVERFLOW,
  FAN_REPORT_MNT,
  LSMT_ROOT,
  NS_GET_MNTNS_ID,
  O_RDONLY,
  POLLERR,
  POLLIN,
  POLLPRI,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mountOfId } from "./lookup.ts";
import { diffTables, type MountEvent, type MountSource } from "./diff.ts";
import type { MountInfo } from "./parse_mountinfo.ts";
import {
  fanotifyInit,
  fanotifyMark,
  ioctlStruct,
  listmount,
  open,
  type PollFd,
  read,
} from "../syscalls/mod.ts";
import { openMountinfo } from "./watch_mountinfo.ts";

/** Whether this kernel has what this needs; the right to it shows when it is tried. */
export function hasMountEvents(): boolean {
  return hasFeature("mountEvents") && hasFeature("statmount");
}

// struct fanotify_event_metadata and struct fanotify_event_info_mnt of linux/fanotify.h
const METADATA = { event_len: 0, metadata_len: 6, mask: 8 };
const INFO = { info_type: 0, mnt_id: 8 };

/** A few hundred events at a time: looking each mount up takes some microseconds, and others want their turn. */
const room = struct(16 * 1024);
const roomBytes = new Uint8Array(room.buffer);

/** The events of a mount namespace. */
export class FanotifyMounts implements MountSource {
  readonly fds: readonly PollFd[];
  readonly #queue: OwnedFd;
  readonly #table: OwnedFd | undefined; // tells by POLLPRI that options were changed, which fanotify does not
  readonly #namespaceId: bigint;
  readonly #opened: DisposableStack;
  #mounts: Map<bigint, MountInfo>;

  /**
   * Begins to watch.
   *
   * @param process whose namespace, such as "self" or a pid.
   * @param changes whether changed options are of interest.
   * @throws {SyscallError} EPERM without CAP_SYS_ADMIN there, EMFILE or ENOSPC where the user watches too much already.
   */
  constructor(process: string, changes: boolean) {
    using opened = new DisposableStack();
    this.#queue = opened.use(fanotifyInit(FAN_REPORT_MNT | FAN_NONBLOCK | FAN_CLOEXEC));
    using namespace = open(`/proc/${process}/ns/mnt`, O_RDONLY);
    this.#namespaceId = process === "self" ? 0n : idOf(namespace);
    const mask = FAN_MNT_ATTACH | FAN_MNT_DETACH;
    fanotifyMark(this.#queue.fd, FAN_MARK_ADD | FAN_MARK_MNTNS, mask, namespace.fd);
    this.#table = changes ? opened.use(openMountinfo(process)) : undefined;
    this.fds = [
      { fd: this.#queue.fd, events: POLLIN },
      ...this.#table ? [{ fd: this.#table.fd, events: POLLPRI | POLLERR }] : [],
    ];
    this.#mounts = this.#list(); // after the mark, so that nothing is missed in between
    this.#opened = opened.move();
  }

  read([queue = 0, table = 0]: readonly number[]): MountEvent[] {
    const events: MountEvent[] = [];
    if (!(table & POLLPRI)) {
      if (queue & POLLIN) this.#readQueue(events);
      return events;
    }
    while (this.#readQueue(events)); // all of it, for what is still in the queue must not be told of twice
    return [...events, ...this.#compare(true)];
  }

  /** Reads as much as there is room for; false where there is nothing. */
  #readQueue(events: MountEvent[]): boolean {
    const length = readNow(this.#queue);
    for (let at = 0; at < length; at += room.getUint32(at + METADATA.event_len, true)) {
      events.push(...this.#readEvent(at));
    }
    return length > 0;
  }

  #readEvent(at: number): MountEvent[] {
    const mask = Number(room.getBigUint64(at + METADATA.mask, true));
    if (mask & FAN_Q_OVERFLOW) return this.#compare(false); // some were lost, but what they led to can be seen
    const info = at + room.getUint16(at + METADATA.metadata_len, true);
    if (room.getUint8(info + INFO.info_type) !== FAN_EVENT_INFO_TYPE_MNT) return [];
    const id = room.getBigUint64(info + INFO.mnt_id, true);
    if (!(mask & FAN_MNT_DETACH)) return this.#attached(id);
    return mask & FAN_MNT_ATTACH ? this.#moved(id) : this.#detached(id);
  }

  #attached(id: bigint): MountEvent[] {
    if (this.#mounts.has(id)) return []; // a comparison of tables has told of it
    const mount = this.#look(id);
    if (mount === undefined) return [{ kind: "transient", mountId: id }];
    if (mount.mountpoint === "") return []; // outside of what can be seen from here, and from mountinfo
    this.#mounts.set(id, mount);
    return [{ kind: "mounted", mount }];
  }

  #detached(id: bigint): MountEvent[] {
    const mount = this.#mounts.get(id);
    this.#mounts.delete(id);
    return mount === undefined ? [] : [{ kind: "unmounted", mount }];
  }

  #moved(id: bigint): MountEvent[] {
    const before = this.#mounts.get(id);
    if (before === undefined) return this.#attached(id);
    const mount = this.#look(id);
    if (mount === undefined) return []; // that it was taken off comes next
    if (mount.mountpoint === "") return this.#detached(id);
    this.#mounts.set(id, mount);
    this.#lookAgainBelow(before.mountpoint);
    return [{ kind: "moved", mount, before }];
  }

  /** What is mounted below a moved mount has moved with it, of which the kernel says nothing. */
  #lookAgainBelow(path: string): void {
    for (const [id, { mountpoint }] of this.#mounts) {
      if (!mountpoint.startsWith(`${path}/`)) continue;
      const mount = this.#look(id);
      if (mount) this.#mounts.set(id, mount);
    }
  }

  #compare(changes: boolean): MountEvent[] {
    const now = this.#list();
    const events = diffTables(this.#mounts, now, changes);
    this.#mounts = now;
    return events;
  }

  #list(): Map<bigint, MountInfo> {
    const mounts = new Map<bigint, MountInfo>();
    for (const id of listmount(LSMT_ROOT, this.#namespaceId)) {
      const mount = this.#look(id);
      if (mount !== undefined && mount.mountpoint !== "") mounts.set(id, mount);
    }
    return mounts;
  }

  /** Undefined where it is gone already. */
  #look(id: bigint): MountInfo | undefined {
    try {
      return mountOfId(id, this.#namespaceId);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

function readNow(queue: OwnedFd): number {
  try {
    return read(queue.fd, roomBytes);
  } catch (error) {
    if (isErrno(error, "EAGAIN")) return 0;
    throw error;
  }
}

function idOf(namespace: OwnedFd): bigint {
  const id = new BigUint64Array(1);
  ioctlStruct(namespace.fd, NS_GET_MNTNS_ID, new Uint8Array(id.buffer), "/proc/PID/ns/mnt");
  return id[0] ?? 0n;
}
