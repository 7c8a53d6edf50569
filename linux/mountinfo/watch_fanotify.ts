/**
 * Mount events from fanotify(7), from Linux 6.15: every mount and unmount, in order, at a cost that does not depend on the
 * number of mounts. An event has only the mount's unique id, so the fields of all mounts are kept by their ids.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { getUint64AsNumber, struct } from "../../ffi/scratch.ts";
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
  O_RDONLY,
  POLLERR,
  POLLIN,
  POLLPRI,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { lookupMountId } from "./lookup.ts";
import { diffTables, type MountEvent, type MountSource } from "./diff.ts";
import type { MountInfo } from "./parse_mountinfo.ts";
import { closeOffThread, fanotifyInit, fanotifyMark, open, type PollFd, read } from "../syscalls/mod.ts";
import { atOnce, each, inSteps } from "../path/steps.ts";
import { namespaceId } from "./id_maps.ts";
import { subtreeIds } from "./mount_ids.ts";
import { readMounts } from "./read_mounts.ts";
import { openMountinfo } from "./read_mountinfo.ts";

/** Whether the kernel has mount events and statmount(2). Opening them still fails without CAP_SYS_ADMIN. */
export function hasMountEvents(): boolean {
  return hasFeature("mountEvents") && hasFeature("statmount");
}

// struct fanotify_event_metadata and struct fanotify_event_info_mnt of linux/fanotify.h
const METADATA = { event_len: 0, metadata_len: 6, mask: 8 };
const INFO = { info_type: 0, mnt_id: 8 };

/** A hundred events for each read(2): looking up a mount takes microseconds, and blocks the event loop. */
const buffer = struct(4 * 1024);
const bufferBytes = new Uint8Array(buffer.buffer);

/** The fanotify events of a mount namespace. */
export class FanotifyMounts implements MountSource {
  readonly fds: readonly PollFd[];
  readonly #queue: OwnedFd;
  readonly #table: OwnedFd | undefined; // polled for changes of options, which have no fanotify event
  readonly #namespaceId: bigint;
  readonly #opened: DisposableStack;
  readonly #beginning: Generator<void, Map<number, MountInfo>>;
  /** Mounts that were unmounted while the first table was read, before their turn. */
  readonly #missed = new Set<number>();
  #mounts: Map<number, MountInfo> = new Map();
  #ready: Promise<unknown> | undefined; // until the first table is read
  /** Mounts that a comparison has reported, and whose events may follow. */
  readonly #compared = new Set<number>();
  #isIncomplete = false; // events were lost: a comparison finds their result

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
    // After fanotify_mark(2), so that no mount is missed. The ids at once: an event about another one says nothing.
    const ids = atOnce(subtreeIds(LSMT_ROOT, this.#namespaceId));
    this.#beginning = this.#read(ids, this.#missed);
    this.#begin(inSteps(this.#beginning));
    this.#opened = opened.move();
  }

  #begin(table: Map<number, MountInfo> | Promise<Map<number, MountInfo>>): void {
    if (!(table instanceof Promise)) {
      this.#mounts = table;
      return;
    }
    this.#ready = table.then((mounts) => this.#mounts = mounts);
    this.#ready.catch(() => {}); // read() throws it
  }

  async read([queue = 0, table = 0]: readonly number[]): Promise<MountEvent[]> {
    await this.#ready;
    const events: MountEvent[] = [];
    if (!(table & POLLPRI)) {
      if (queue & POLLIN) this.#readQueue(events);
      return this.#isIncomplete ? await this.#compare(events, false) : events;
    }
    await inSteps(this.#emptyQueue(events)); // the comparison would report its events a second time
    return await this.#compare(events, true);
  }

  /** Reads a buffer of events; false if the queue is empty. */
  #readQueue(events: MountEvent[]): boolean {
    const length = readAvailable(this.#queue);
    for (let at = 0; at < length; at += buffer.getUint32(at + METADATA.event_len, true)) {
      events.push(...this.#readEvent(at));
    }
    return length > 0;
  }

  *#emptyQueue(events: MountEvent[]): Generator<void, void> {
    while (this.#readQueue(events)) yield;
  }

  #readEvent(at: number): MountEvent[] {
    const mask = Number(buffer.getBigUint64(at + METADATA.mask, true));
    if (mask & FAN_Q_OVERFLOW) {
      this.#isIncomplete = true;
      return [];
    }
    const info = at + buffer.getUint16(at + METADATA.metadata_len, true);
    if (buffer.getUint8(info + INFO.info_type) !== FAN_EVENT_INFO_TYPE_MNT) return [];
    const id = getUint64AsNumber(buffer, info + INFO.mnt_id);
    if (!(mask & FAN_MNT_DETACH)) return this.#attached(id);
    return mask & FAN_MNT_ATTACH ? this.#moved(id) : this.#detached(id);
  }

  #attached(id: number): MountEvent[] {
    if (this.#compared.delete(id)) return [];
    const mount = this.#lookUp(id);
    if (mount === undefined) return [transient(id)];
    if (mount.mountpoint === "") return []; // outside of this process's root, as mountinfo leaves it out
    this.#mounts.set(id, mount);
    return [{ kind: "mounted", mount }];
  }

  #detached(id: number): MountEvent[] {
    if (this.#missed.delete(id)) return [transient(id)];
    this.#compared.delete(id);
    const mount = this.#mounts.get(id);
    this.#mounts.delete(id);
    return mount === undefined ? [] : [{ kind: "unmounted", mount }];
  }

  #moved(id: number): MountEvent[] {
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

  /** Adds the differences between the last table and the present one. */
  async #compare(events: MountEvent[], changes: boolean): Promise<MountEvent[]> {
    this.#isIncomplete = false;
    const ids = await inSteps(subtreeIds(LSMT_ROOT, this.#namespaceId));
    const now = await inSteps(this.#read(ids));
    const found = await inSteps(diffTables(this.#mounts, now, changes));
    this.#compared.clear();
    for (const id of now.keys()) if (!this.#mounts.has(id)) this.#compared.add(id);
    this.#mounts = now;
    return events.concat(found);
  }

  /** The newest mounts are read first: of those that are unmounted soon, most are new. */
  *#read(ids: readonly number[], missed?: Set<number>): Generator<void, Map<number, MountInfo>> {
    const found: [number, MountInfo][] = [];
    const take = (mount: MountInfo | undefined, id: number) => {
      if (mount === undefined) missed?.add(id);
      else if (mount.mountpoint !== "") found.push([id, mount]);
    };
    yield* readMounts(ids.toReversed(), take, { namespaceId: this.#namespaceId });
    const mounts = new Map<number, MountInfo>();
    yield* each(found.reverse(), ([id, mount]) => mounts.set(id, mount));
    return mounts;
  }

  /** Undefined if the mount was unmounted meanwhile. */
  #lookUp(id: number): MountInfo | undefined {
    try {
      return lookupMountId(BigInt(id), this.#namespaceId);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }

  /** The kernel frees the mark after a grace period, for which close(2) waits. */
  async end(): Promise<void> {
    this.#beginning.return(new Map());
    if (this.#queue.isOpen) await closeOffThread(this.#queue);
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#beginning.return(new Map());
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

function transient(id: number): MountEvent {
  return { kind: "transient", mountId: BigInt(id) };
}
