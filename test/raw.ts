/**
 * System calls that take names as bytes, for names that are not valid UTF-8; independent of the library under test.
 *
 * @module
 */

import { readBytes } from "./kernel.ts";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
});

/** The bytes of a name or a path. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** The bytes of a text. */
export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

/** Joins parts to a path. */
export function path(...parts: (Bytes | string)[]): Bytes {
  const texts = parts.map((part) => typeof part === "string" ? utf8(part) : part);
  return Uint8Array.from(texts.flatMap((part, index) => index === 0 ? [...part] : [0x2f, ...part]));
}

const c = (bytes: Bytes) => Uint8Array.from([...bytes, 0]);

/** mkdir(2). */
export function mkdir(path: Bytes): void {
  if (libc.mkdir(c(path), 0o700) !== 0) throw new Error(`mkdir ${path} failed`);
}

/** mount(2) of a tmpfs. */
export function mountTmpfs(source: Bytes, target: Bytes): void {
  const result = libc.mount(c(source), c(target), c(utf8("tmpfs")), 0n, c(utf8("size=64k")));
  if (result !== 0) throw new Error(`mounting a tmpfs on ${target} failed`);
}

/** mount(2) of a bind. */
export function bind(source: Bytes, target: Bytes): void {
  const result = libc.mount(c(source), c(target), null, 4096n, null); // MS_BIND
  if (result !== 0) throw new Error(`binding ${source} on ${target} failed`);
}

/** mount(2) of a bind of a directory on itself, which is made private. */
export function bindPrivate(directory: Bytes): void {
  bind(directory, directory);
  const result = libc.mount(null, c(directory), null, 1n << 18n, null); // MS_PRIVATE
  if (result !== 0) throw new Error(`making ${directory} private failed`);
}

/** umount2(2); ignores an error if nothing is mounted. */
export function umount(target: Bytes): void {
  libc.umount2(c(target), 0);
}

/** The sorted mountpoints below a directory, each as its bytes joined by commas. */
export function mountpointsBelow(dir: string): string[] {
  const table = [...readBytes("/proc/self/mountinfo") ?? []].map((byte) => String.fromCharCode(byte)).join(
    "",
  );
  const below = [...utf8(dir)].map((byte) => String.fromCharCode(byte)).join("") + "/";
  return table.trimEnd().split("\n").map((line) => line.split(" ")[4] ?? "").map((name) =>
    name.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)))
  ).filter((name) => name.startsWith(below)).map((name) =>
    [...name].map((character) => character.charCodeAt(0)).join()
  ).sort();
}
