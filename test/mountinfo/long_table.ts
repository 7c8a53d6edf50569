/**
 * Thousands of mounts, made in a moment.
 *
 * @module
 */

import { mount, MS_BIND, MS_REC, MS_SHARED } from "../../linux/mod.ts";

const TREE = 500; // a recursive bind copies so many at once

/**
 * Mounts many directories below one. The caller detaches its topmost mount.
 *
 * @param dir a directory on a private mount.
 * @param count how many; a multiple of 500.
 * @param isShared whether all of them are in one peer group.
 */
export function makeMounts(dir: string, count: number, isShared = false): void {
  mount("many", dir, "tmpfs", 0, "size=4m");
  const make = (name: string) => {
    Deno.mkdirSync(`${dir}/${name}`);
    return `${dir}/${name}`;
  };
  const source = make("source");
  mount("source", source, "tmpfs", 0, "size=64k");
  if (isShared) mount(null, source, null, MS_SHARED, null);
  const first = make("0");
  mount("tree", first, "tmpfs", 0, "size=1m");
  for (let index = 2; index < TREE; index++) {
    mount(source, make(`0/${index}`), null, MS_BIND, null);
  }
  for (let at = TREE; at < count; at += TREE) mount(first, make(`${at}`), null, MS_BIND | MS_REC, null);
}
