/**
 * Mount events from fanotify(7), from Linux 6.15: every mount and unmount, in order, at a cost that does not depend on the
 * number of mounts. An event has only the mount's unique id, so the fields of all mounts are kept by their ids.
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
import { lookupMountId } from "./lookup.ts";
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

/** Whether the kernel has mount events and statmount(2). Opening them still fails without CAP_SYS_ADMIN. */
export function hasMountEvents(): boolean {
  return hasFeature("mountEvents") && hasFeature("statmount");
}

// struct fanotify_event_metadata and struct fanotify_event_info_mnt of linux/fanotify.h
const METADATA = { event_len: 0, metadata_len: 6, mask: 8 };
const INFO = { info_type: 0, mnt_id: 8 };

/** A few hundred events for each read(2): looking up a mount takes microseconds, and blocks the event loop. */
const buffer = struct(16 * 1024);
const bufferBytes = new Uint8Array(buffer.buffer);

/** The fanotify events of a mount namespace. */
export class FanotifyMounts implements MountSource {
  readonly fds: readonly PollFd[];
  readonly #queue: OwnedFd;
  readonly #table: OwnedFd | undefined; // polled for changes of options, which have no fanotify event
  readonly #namespaceId: bigint;
  readonly #opened: DisposableStack;
  #mounts: Map<bigint, MountInfo>;

  /**
   * Begins to watch.
   *
   * @param process the process of the namespace: "self" or a pid.
   * @param changes whether to report changed options.
   * @throws {SyscallError} EPERM without CAP_SYS_ADMIN in the namespace's user namespace, EMFILE or ENOSPC at the user's
   * limits of fanotify.
   */
  constructor(process: string, changes: boolean) {
    using opened = new DisposableStack();
    this.#queue = opened.use(fanotifyInit(FAN_REPORT_MNT | FAN_NONBLOCK | FAN_CLOEXEC));
    using namespace = open(`/proc/${process}/ns/mnt`, O_RDONLY);
    this.#namespaceId = process === "self" ? 0n : namespaceId(namespace);
    const mask = FAN_MNT_ATTACH | FAN_MNT_DETACH;
    fanotifyMark(this.#queue.fd, FAN_MARK_ADD | FAN_MARK_MNTNS, mask, namespace.fd);
    this.#table = changes ? opened.use(openMountinfo(process)) : undefined;
    this.fds = [
      { fd: this.#queue.fd, events: POLLIN },
      ...this.#table ? [{ fd: this.#table.fd, events: POLLPRI | POLLERR }] : [],
    ];
    this.#mounts = this.#list(); // after fanotify_mark(2), so that no mount is missed
    this.#opened = opened.move();
  }

  read([queue = 0, table = 0]: readonly number[]): MountEvent[] {
    const events: MountEvent[] = [];
    if (!(table & POLLPRI)) {
      if (queue & POLLIN) this.#readQueue(events);
      return events;
    }
    while (this.#readQueue(events)); // empties the queue: the comparison would report its events a second time
    return [...events, ...this.#compare(true)];
  }

  /** Reads a buffer of events; false if the queue is empty. */
  #readQueue(events: MountEvent[]): boolean {
    const length = readAvailable(this.#queue);
    for (let at = 0; at < length; at += buffer.getUint32(at + METADATA.event_len, true)) {
      events.push(...this.#readEvent(at));
    }
    return length > 0;
  }

  #readEvent(at: number): MountEvent[] {
    const mask = Number(buffer.getBigUint64(at + METADATA.mask, true));
    if (mask & FAN_Q_OVERFLOW) return this.#compare(false); // events were lost: the comparison finds their result
    const info = at + buffer.getUint16(at + METADATA.metadata_len, true);
    if (buffer.getUint8(info + INFO.info_type) !== FAN_EVENT_INFO_TYPE_MNT) return [];
    const id = buffer.getBigUint64(info + INFO.mnt_id, true);
    if (!(mask & FAN_MNT_DETACH)) return this.#attached(id);
    return mask & FAN_MNT_ATTACH ? this.#moved(id) : this.#detached(id);
  }

  #attached(id: bigint): MountEvent[] {
    if (this.#mounts.has(id)) return []; // already reported by a comparison
    const mount = this.#lookUp(id);
    if (mount === undefined) return [{ kind: "transient", mountId: id }];
    if (mount.mountpoint === "") return []; // outside of this process's root, as mountinfo leaves it out
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
    const mount = this.#lookUp(id);
    if (mount === undefined) return []; // unmounted meanwhile: that event follows
    if (mount.mountpoint === "") return this.#detached(id);
    this.#mounts.set(id, mount);
    this.#updateBelow(before.mountpoint);
    return [{ kind: "moved", mount, before }];
  }

  /** Mounts below a moved mount have moved with it, without events. */
  #updateBelow(path: string): void {
    for (const [id, { mountpoint }] of this.#mounts) {
      if (!mountpoint.startsWith(`${path}/`)) continue;
      const mount = this.#lookUp(id);
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
      const mount = this.#lookUp(id);
      if (mount !== undefined && mount.mountpoint !== "") mounts.set(id, mount);
    }
    return mounts;
  }

  /** Undefined if the mount was unmounted meanwhile. */
  #lookUp(id: bigint): MountInfo | undefined {
    try {
      return lookupMountId(id, this.#namespaceId);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

function readAvailable(queue: OwnedFd): number {
  try {
    return read(queue.fd, bufferBytes);
  } catch (error) {
    if (isErrno(error, "EAGAIN")) return 0;
    throw error;
  }
}

function namespaceId(namespace: OwnedFd): bigint {
  const id = new BigUint64Array(1);
  ioctlStruct(namespace.fd, NS_GET_MNTNS_ID, new Uint8Array(id.buffer), "/proc/PID/ns/mnt");
  return id[0] ?? 0n;
}
