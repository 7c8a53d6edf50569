/**
 * Mounts at directories with random names, compared with the library's mount table.
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
  /** The end of its source, or of its root: a root starts below the mountpoint of its file system. */
  suffix: raw.Bytes;
  isBind: boolean;
}

/** Mounts random sources on `count` directories with random names, and compares the mount table. */
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
    return { target, suffix: other, isBind };
  }
  const source = raw.path(dir, "sources", other);
  raw.mkdir(source);
  raw.bind(source, target);
  return { target, suffix: raw.path("sources", other), isBind };
}

async function compare(mounted: readonly Mounted[]): Promise<void> {
  const table = new Map<string, MountInfo[]>();
  for (const info of await listMounts()) {
    const key = encodeName(info.mountpoint).join();
    table.set(key, [...table.get(key) ?? [], info]);
  }
  for (const { target, suffix, isBind } of mounted) {
    const [info, ...others] = table.get(target.join()) ?? [];
    assert(info !== undefined, `${target} is not in the table`);
    assertEquals(others, []);
    assertEquals(encodeName(info.mountpoint), target);
    const said = encodeName(isBind ? info.root : info.source);
    assertEquals(said.slice(-suffix.length), suffix);
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
