/**
 * Mounts at directories of random names, and what the library says of them.
 *
 * @module
 */

import fc from "fast-check";
import { decodeName, encodeName } from "../../ffi/text.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { isMountpoint, listMounts, lookupMount, type MountInfo, unmount } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import * as raw from "../raw.ts";
import { nameBytes } from "./input.ts";

interface Mounted {
  target: raw.Bytes;
  /** What its source or its root is to end with: a root begins below its file system's own mountpoint. */
  shown: raw.Bytes;
  isBind: boolean;
}

/** Mounts on so many directories with random names, of random sources, and compares what is told of them. */
export async function mountAtRandomNames(dir: string, count: number): Promise<void> {
  const names = distinct(fc.sample(nameBytes, { numRuns: 2 * count }));
  raw.mkdir(raw.path(dir, "targets"));
  raw.mkdir(raw.path(dir, "sources"));
  const mounted: Mounted[] = [];
  try {
    for (const [index, name] of names.slice(0, count).entries()) {
      const other = names.at(-1 - index) ?? name;
      mounted.push(mountAt(dir, name, other, index % 3 === 0));
    }
    await compare(mounted);
  } finally {
    for (const { target } of mounted) raw.umount(target);
  }
}

function distinct(names: raw.Bytes[]): raw.Bytes[] {
  return [...new Map(names.map((name) => [name.join(), name])).values()];
}

function mountAt(dir: string, name: raw.Bytes, other: raw.Bytes, isBind: boolean): Mounted {
  const target = raw.path(dir, "targets", name);
  raw.mkdir(target);
  if (!isBind) {
    raw.mountTmpfs(other, target);
    return { target, shown: other, isBind };
  }
  const source = raw.path(dir, "sources", other);
  raw.mkdir(source);
  raw.bind(source, target);
  return { target, shown: raw.path("sources", other), isBind };
}

async function compare(mounted: readonly Mounted[]): Promise<void> {
  const table = new Map<string, MountInfo[]>();
  for (const info of await listMounts()) {
    const key = encodeName(info.mountpoint).join();
    table.set(key, [...table.get(key) ?? [], info]);
  }
  for (const { target, shown, isBind } of mounted) {
    const [info, ...others] = table.get(target.join()) ?? [];
    assert(info !== undefined, `${target} is not in the table`);
    assertEquals(others, []);
    assertEquals(encodeName(info.mountpoint), target);
    const said = encodeName(isBind ? info.root : info.source);
    assertEquals(said.slice(-shown.length), shown);
    await compareLookups(info, decodeName(target));
    await unmount(info.mountpoint);
    assertEquals(await isMountpoint(info.mountpoint), false);
  }
}

async function compareLookups(info: MountInfo, path: string): Promise<void> {
  assert(await isMountpoint(path));
  assertEquals(await lookupMount(path), info);
  using _ = pretendMissing("statmount");
  assertEquals(await lookupMount(path), info);
}
