/**
 * containerd's messages as the library's values.
 *
 * @module
 */

import { create, type Timestamp, timestampDate, timestampFromDate } from "./deps.ts";
import { type Info, InfoSchema, Kind } from "./api/snapshots_pb.ts";
import type { ActivationInfo, Mount as MountMessage } from "./api/mount_pb.ts";
import type { SnapshotInfo, SnapshotKind } from "./snapshotter.ts";
import type { Activation } from "../linux/manager/types.ts";
import type { Mount } from "../linux/spec/mount.ts";

/**
 * Reads mounts.
 *
 * @param messages the messages.
 * @returns the mounts; an empty target or list of options is left out, as in containerd's JSON.
 */
export function toMounts(messages: readonly MountMessage[]): Mount[] {
  return messages.map(({ type, source, target, options }) => ({
    type,
    source,
    ...target === "" ? {} : { target },
    ...options.length === 0 ? {} : { options },
  }));
}

/**
 * Writes mounts.
 *
 * @param mounts the mounts.
 * @returns what a message's field takes.
 */
export function fromMounts(
  mounts: readonly Mount[],
): { type: string; source: string; target: string; options: string[] }[] {
  return mounts.map(({ type, source, target = "", options = [] }) => ({
    type,
    source,
    target,
    options: [...options],
  }));
}

/**
 * Reads an activation.
 *
 * @param info the message.
 * @returns the activation.
 */
export function toActivation(info: ActivationInfo | undefined): Activation {
  const { name = "", active = [], system = [], labels = {} } = info ?? {};
  return {
    name,
    active: active.map(({ mount, mountPoint, mountedAt, data }) => {
      const [entry = { type: "", source: "" }] = toMounts(mount === undefined ? [] : [mount]);
      return { ...entry, mountPoint, mountedAt: toDate(mountedAt), data };
    }),
    system: toMounts(system),
    labels,
  };
}

/**
 * Reads a time.
 *
 * @param time the message.
 * @returns the time, to the millisecond; 1970 if containerd gives none.
 */
export function toDate(time: Timestamp | undefined): Date {
  return time === undefined ? new Date(0) : timestampDate(time);
}

const kinds: Record<Kind, SnapshotKind> = {
  [Kind.UNKNOWN]: "unknown",
  [Kind.VIEW]: "view",
  [Kind.ACTIVE]: "active",
  [Kind.COMMITTED]: "committed",
};

/**
 * Reads the record of a snapshot.
 *
 * @param info the message.
 * @returns the record.
 */
export function toInfo(info: Info | undefined): SnapshotInfo {
  const { name = "", parent = "", kind = Kind.UNKNOWN, labels = {} } = info ?? {};
  const [createdAt, updatedAt] = [toDate(info?.createdAt), toDate(info?.updatedAt)];
  return { name, parent, kind: kinds[kind] ?? "unknown", createdAt, updatedAt, labels };
}

const numbers: Record<SnapshotKind, Kind> = {
  unknown: Kind.UNKNOWN,
  view: Kind.VIEW,
  active: Kind.ACTIVE,
  committed: Kind.COMMITTED,
};

/**
 * Writes the record of a snapshot.
 *
 * @param info the record.
 * @returns the message.
 */
export function fromInfo({ name, parent, kind, createdAt, updatedAt, labels }: SnapshotInfo): Info {
  return create(InfoSchema, {
    name,
    parent,
    kind: numbers[kind],
    createdAt: timestampFromDate(createdAt),
    updatedAt: timestampFromDate(updatedAt),
    labels,
  });
}
