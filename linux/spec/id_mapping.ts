/**
 * Id maps: which user and group ids stand for which, inside and outside.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";

/** A range of ids inside that stands for one outside. */
export interface IdMapping {
  /** The first id inside. */
  containerId: number;
  /** The first id outside. */
  hostId: number;
  /** How many ids there are in the range. */
  size: number;
}

const IDS = 2 ** 32; // uid_t and gid_t have 32 bits
const UID_GID_MAP_MAX_EXTENTS = 340; // linux/user_namespace.h
const LONGEST_MAP = 4095; // the kernel takes a map in one write of less than a page

/**
 * Reads id maps in containerd's form.
 *
 * @param text ranges of `container:host:size`, parted by commas.
 * @returns the ranges.
 * @throws {TypeError} naming the part that is empty, no number, negative, over 2^32, overlapping, or one too many.
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
  refuseBadMappings(mappings);
  return mappings;
}

/**
 * Checks id maps and writes them as the kernel's uid_map and gid_map files take them.
 *
 * @param map the ranges, or their text in containerd's form.
 * @returns a line for each range.
 * @throws {TypeError} naming the range that can't be.
 */
export function mapFileText(map: string | readonly IdMapping[]): string {
  const mappings = typeof map === "string" ? parseIdMappings(map) : map;
  refuseBadMappings(mappings);
  const text = mappings.map(({ containerId, hostId, size }) => `${containerId} ${hostId} ${size}\n`).join("");
  if (text.length > LONGEST_MAP) {
    throw new TypeError(
      `an id map of ${mappings.length} ranges is ${text.length} bytes long: the kernel takes ${LONGEST_MAP}`,
    );
  }
  return text;
}

function refuseBadMappings(mappings: readonly IdMapping[]): void {
  if (mappings.length === 0) throw new TypeError("an id map needs at least one range");
  refuseBadCount(mappings.length);
  for (const mapping of mappings) refuseBadMapping(mapping);
  refuseOverlap(mappings, "containerId");
  refuseOverlap(mappings, "hostId");
}

function refuseBadCount(count: number): void {
  if (count > UID_GID_MAP_MAX_EXTENTS) {
    throw new TypeError(`an id map has ${UID_GID_MAP_MAX_EXTENTS} ranges at most, not ${count}`);
  }
}

function refuseBadMapping(mapping: IdMapping): void {
  const { containerId, hostId, size } = mapping;
  const name = nameOf(mapping);
  for (const number of [containerId, hostId, size]) {
    if (!Number.isSafeInteger(number) || number < 0) throw new TypeError(`${name}: ${number} is no id`);
  }
  if (size === 0) throw new TypeError(`${name}: the range is empty`);
  // The last id of all, -1 to setuid(2), means "no id".
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
