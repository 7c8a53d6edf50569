/**
 * Id maps of user namespaces: the user or group ids in a container and the ids on the host that they stand for.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";

/** A range of ids in a container, mapped to a range of the same size on the host. */
export interface IdMapping {
  /** The first id in the container. */
  containerId: number;
  /** The first id on the host. */
  hostId: number;
  /** The number of ids in the range. */
  size: number;
}

const IDS = 2 ** 32; // uid_t and gid_t have 32 bits
const UID_GID_MAP_MAX_EXTENTS = 340; // linux/user_namespace.h
const MAP_BYTES_MAX = 4095; // map_write() of kernel/user_namespace.c: a single write of less than a page

/**
 * Parses an id map in containerd's form. It makes no system call.
 *
 * @param text ranges of the form `container:host:size`, separated by commas; at most 340.
 * @returns the ranges.
 * @throws {TypeError} for a range that is malformed, empty, out of bounds or overlaps another one, and for too many
 * ranges. The message names the range.
 *
 * @example
 * ```ts
 * import { parseIdMappings } from "@denomount/mount";
 *
 * const [range] = parseIdMappings("0:100000:65536");
 * console.log(range?.hostId); // 100000
 * ```
 */
export function parseIdMappings(text: string): IdMapping[] {
  const parts = text.split(",");
  refuseBadCount(parts.length);
  const mappings = parts.map((part) => {
    const match = /^(\d+):(\d+):(\d+)$/.exec(part);
    if (!match) {
      throw new TypeError(
        `${quote(part)} is no id map: it is written container:host:size, such as 0:100000:65536`,
      );
    }
    return { containerId: Number(match[1]), hostId: Number(match[2]), size: Number(match[3]) };
  });
  refuseBadMap(mappings);
  return mappings;
}

/**
 * Formats an id map for /proc/PID/uid_map or gid_map.
 *
 * @param map the ranges, or text in containerd's form.
 * @returns one line for each range.
 * @throws {TypeError} as {@linkcode parseIdMappings} does, and for a text of a page or more.
 */
export function mapFileText(map: string | readonly IdMapping[]): string {
  const mappings = typeof map === "string" ? parseIdMappings(map) : map;
  refuseBadMap(mappings);
  const text = mappings.map(({ containerId, hostId, size }) => `${containerId} ${hostId} ${size}\n`).join("");
  if (text.length > MAP_BYTES_MAX) {
    throw new TypeError(
      `an id map of ${mappings.length} ranges is ${text.length} bytes long: the kernel takes ${MAP_BYTES_MAX}`,
    );
  }
  return text;
}

function refuseBadMap(mappings: readonly IdMapping[]): void {
  if (mappings.length === 0) throw new TypeError("an id map needs at least one range");
  refuseBadCount(mappings.length);
  for (const mapping of mappings) refuseBadRange(mapping);
  refuseOverlap(mappings, "containerId");
  refuseOverlap(mappings, "hostId");
}

function refuseBadCount(count: number): void {
  if (count > UID_GID_MAP_MAX_EXTENTS) {
    throw new TypeError(`an id map has ${UID_GID_MAP_MAX_EXTENTS} ranges at most, not ${count}`);
  }
}

function refuseBadRange(mapping: IdMapping): void {
  const { containerId, hostId, size } = mapping;
  const name = nameOf(mapping);
  for (const number of [containerId, hostId, size]) {
    if (!Number.isSafeInteger(number) || number < 0) throw new TypeError(`${name}: ${number} is no id`);
  }
  if (size === 0) throw new TypeError(`${name}: the range is empty`);
  // 2^32 - 1 is (uid_t) -1, which means "no id".
  if (containerId + size >= IDS || hostId + size >= IDS) {
    throw new TypeError(`${name}: ids end below 2^32 - 1`);
  }
}

function refuseOverlap(mappings: readonly IdMapping[], side: "containerId" | "hostId"): void {
  const ordered = mappings.toSorted((a, b) => a[side] - b[side]);
  ordered.forEach((mapping, index) => {
    const before = ordered[index - 1];
    if (before !== undefined && before[side] + before.size > mapping[side]) {
      throw new TypeError(`${nameOf(before)} and ${nameOf(mapping)} overlap`);
    }
  });
}

function nameOf({ containerId, hostId, size }: IdMapping): string {
  return `id map ${containerId}:${hostId}:${size}`;
}
