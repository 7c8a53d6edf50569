/**
 * Mount events, and the events between two mount tables.
 *
 * @module
 */

import type { MountInfo } from "./parse_mountinfo.ts";
import { each } from "../path/steps.ts";
import type { PollFd } from "../syscalls/mod.ts";

/** A source of mount events: fanotify(7), or a mountinfo file. */
export interface MountSource extends Disposable {
  /** The descriptors to poll. */
  readonly fds: readonly PollFd[];
  /**
   * Reads the events.
   *
   * @param revents the result of poll(2) for each descriptor, `POLL…` flags.
   * @returns the events since the last call; a promise of them if a long table has to be read.
   */
  read(revents: readonly number[]): MountEvent[] | Promise<MountEvent[]>;
  /** Closes the descriptors without blocking the event loop, which a plain dispose may do for some milliseconds. */
  end(): void | Promise<void>;
}

/** A change of the mount table. */
export type MountEvent =
  | {
    /** It was mounted. */
    kind: "mounted";
    /** The new mount. */
    mount: MountInfo;
  }
  | {
    /** It was unmounted, or detached together with its parent. */
    kind: "unmounted";
    /** The mount as it was last read. */
    mount: MountInfo;
  }
  | {
    /** It was moved. The mounts below it moved with it, without events. */
    kind: "moved";
    /** The mount as it is now. */
    mount: MountInfo;
    /** The mount as it was. */
    before: MountInfo;
  }
  | {
    /** Its options or its propagation changed. Only reported with the option `changes`. */
    kind: "changed";
    /** The mount as it is now. */
    mount: MountInfo;
    /** The mount as it was. */
    before: MountInfo;
  }
  | {
    /** It was mounted, or the watch began, and it was unmounted before its fields could be read. */
    kind: "transient";
    /** Its unique id, the only known field. */
    mountId: bigint;
  };

/** A mount table: the mounts by their ids. */
export type MountTable<Id> = ReadonlyMap<Id, MountInfo>;

/**
 * Compares two mount tables, in steps.
 *
 * @param before the earlier table.
 * @param after the later table.
 * @param changes whether to report changed options and propagation.
 * @returns the events: unmounted mounts first, in reverse order of the table, then mounted, moved and changed ones.
 */
export function* diffTables<Id>(
  before: MountTable<Id>,
  after: MountTable<Id>,
  changes: boolean,
): Generator<void, MountEvent[]> {
  const events: MountEvent[] = [];
  yield* each(before, ([id, mount]) => {
    const now = after.get(id);
    if (now === undefined || !isSame(mount, now)) events.push({ kind: "unmounted", mount });
  });
  events.reverse();
  const mountpointsBefore = yield* mountpointsById(before);
  const mountpointsAfter = yield* mountpointsById(after);
  yield* each(after, ([id, mount]) => {
    const old = before.get(id);
    if (old === undefined || !isSame(old, mount)) events.push({ kind: "mounted", mount });
    else if (placeOnParent(old, mountpointsBefore) !== placeOnParent(mount, mountpointsAfter)) {
      events.push({ kind: "moved", mount, before: old });
    } else if (changes && isChanged(old, mount)) events.push({ kind: "changed", mount, before: old });
  });
  return events;
}

/** Needed because the kernel reuses mountinfo ids, and the minor numbers of file systems without a device, at once. */
function isSame(one: MountInfo, other: MountInfo): boolean {
  return one.major === other.major && one.minor === other.minor && one.root === other.root &&
    one.fsType === other.fsType && one.source === other.source;
}

/** Whether a mount's options or propagation differ. */
function isChanged(before: MountInfo, now: MountInfo): boolean {
  return before.options !== now.options || before.vfsOptions !== now.vfsOptions ||
    before.optional !== now.optional;
}

function* mountpointsById<Id>(table: MountTable<Id>): Generator<void, ReadonlyMap<number, string>> {
  const mountpoints = new Map<number, string>();
  yield* each(table.values(), ({ id, mountpoint }) => mountpoints.set(id, mountpoint));
  return mountpoints;
}

/** Its parent, and its path within the parent. Neither changes when the parent is moved. */
function placeOnParent({ parent, mountpoint }: MountInfo, mountpoints: ReadonlyMap<number, string>): string {
  const parentPath = mountpoints.get(parent) ?? "";
  const inside = mountpoint.startsWith(parentPath) ? mountpoint.slice(parentPath.length) : mountpoint;
  return `${parent} ${inside.replace(/^\/?/, "/")}`;
}
