/**
 * What has happened to mounts, and two mount tables compared.
 *
 * @module
 */

import type { MountInfo } from "./parse_mountinfo.ts";
import type { PollFd } from "../syscalls/mod.ts";

/** One way to learn what happens. */
export interface MountSource extends Disposable {
  /** What to wait for. */
  readonly fds: readonly PollFd[];
  /** What has happened, after the wait has told this of each descriptor. */
  read(happened: readonly number[]): MountEvent[];
}

/** Something that happened to a mount. */
export type MountEvent =
  | {
    /** It was mounted. */
    kind: "mounted";
    /** The mount. */
    mount: MountInfo;
  }
  | {
    /** It was taken off, or out of sight with what it was mounted in. */
    kind: "unmounted";
    /** The mount as it was last seen. */
    mount: MountInfo;
  }
  | {
    /** It was moved, and what is mounted below it with it, of which nothing else is said. */
    kind: "moved";
    /** The mount as it is now. */
    mount: MountInfo;
    /** The mount as it was. */
    before: MountInfo;
  }
  | {
    /** Its options or its propagation were changed. Only told where `changes` asks for it. */
    kind: "changed";
    /** The mount as it is now. */
    mount: MountInfo;
    /** The mount as it was. */
    before: MountInfo;
  }
  | {
    /** It came and went before it could be looked at. */
    kind: "transient";
    /** Its unique id: nothing else is known. */
    mountId: bigint;
  };

/** A mount table by some id of each mount. */
export type MountTable<Id> = ReadonlyMap<Id, MountInfo>;

/**
 * What must have happened for one table to become another.
 *
 * @param before the one.
 * @param after the other.
 * @param changes whether changed options and propagation are of interest.
 * @returns the events: what went, the last mounted first, then what came, was moved or was changed.
 */
export function diffTables<Id>(
  before: MountTable<Id>,
  after: MountTable<Id>,
  changes: boolean,
): MountEvent[] {
  const events: MountEvent[] = [];
  for (const [id, mount] of [...before].reverse()) {
    const now = after.get(id);
    if (now === undefined || !isSame(mount, now)) events.push({ kind: "unmounted", mount });
  }
  const [oldPlaces, newPlaces] = [places(before), places(after)];
  for (const [id, mount] of after) {
    const old = before.get(id);
    if (old === undefined || !isSame(old, mount)) events.push({ kind: "mounted", mount });
    else if (placeOf(old, oldPlaces) !== placeOf(mount, newPlaces)) {
      events.push({ kind: "moved", mount, before: old });
    } else if (changes && isChanged(old, mount)) events.push({ kind: "changed", mount, before: old });
  }
  return events;
}

/** The kernel gives the ids of mountinfo again at once, and the minor numbers of file systems in memory too. */
function isSame(one: MountInfo, other: MountInfo): boolean {
  return one.major === other.major && one.minor === other.minor && one.root === other.root &&
    one.fsType === other.fsType && one.source === other.source;
}

/** Whether a mount's options or propagation differ. */
function isChanged(before: MountInfo, now: MountInfo): boolean {
  return before.options !== now.options || before.vfsOptions !== now.vfsOptions ||
    before.optional !== now.optional;
}

function places<Id>(table: MountTable<Id>): ReadonlyMap<number, string> {
  return new Map([...table.values()].map(({ id, mountpoint }) => [id, mountpoint]));
}

/** Where it is on its parent: that stays when the parent is moved. */
function placeOf({ parent, mountpoint }: MountInfo, mountpoints: ReadonlyMap<number, string>): string {
  const above = mountpoints.get(parent) ?? "";
  const inside = mountpoint.startsWith(above) ? mountpoint.slice(above.length) : mountpoint;
  return `${parent} ${inside.replace(/^\/?/, "/")}`;
}
