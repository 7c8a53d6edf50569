/**
 * Long input: a parser with quadratic time takes a hundred times as long for ten times the input.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { escapeControl } from "../../cli/print.ts";
import { decodeName, encodeName } from "../../ffi/text.ts";
import { mapFileText, parseIdMappings } from "../../linux/spec/id_mapping.ts";
import { isReadonly, type Mount, readonlyMounts, subpathOf } from "../../linux/spec/mount.ts";
import { parseMounts } from "../../linux/spec/read_mount.ts";
import { parseMountInfo } from "../../linux/mountinfo/parse_mountinfo.ts";
import { parseOptions } from "../../linux/spec/options.ts";
import { parseOverlayOptions } from "../../linux/spec/overlay_options.ts";
import { resolveInRoot } from "../../linux/path/path.ts";
import { planMounts } from "../../linux/spec/plan.ts";
import { unlessRefused } from "./rules.ts";

/** Repeats a text up to a length. */
const fill = (unit: string, size: number) => unit.repeat(Math.ceil(size / unit.length));

/** Entries of a list with this length in total. */
const entries = (unit: (index: number) => string, size: number) =>
  Array.from({ length: Math.ceil(size / unit(0).length) }, (_, index) => unit(index));

/** Input for the option parser, alone and in a mount. */
const optionLists: [name: string, make: (size: number) => string[]][] = [
  ["options in one entry", (size) => [fill("ro,a=b,nosuid,", size)]],
  ["commas", (size) => [fill(",", size)]],
  ["quotes", (size) => [`context=${fill('"', size)},`]],
  ["a quote that never ends", (size) => [`context="${fill(",", size)}`]],
  ["quoted commas", (size) => [`${fill('"a,b"', size)},ro`]],
  ["one long option", (size) => [`size=${fill("1", size)},ro`]],
  ["an id map's ranges", (size) => [`uidmap=${fill("0:0:1,", size)}`, "gidmap=0:0:1"]],
  ["an id map's digits", (size) => [`uidmap=${fill("1", size)}:0:1`, "gidmap=0:0:1"]],
  ["an offset's digits", (size) => ["loop", `offset=${fill("1", size)}`]],
  ["entries", (size) => entries(() => "noexec", size)],
  ["entries for the kernel", (size) => entries((index) => `key${index}=value`, size)],
  ["propagations", (size) => entries(() => "rslave", size)],
  ["layers", (size) => [`lowerdir=${fill("/a:", size)}/z`]],
  ["colons", (size) => [`lowerdir=${fill(":", size)}`]],
  ["backslashes in a layer", (size) => [`lowerdir=${fill("\\", size)}`]],
  ["escaped colons in a layer", (size) => [`lowerdir=${fill("\\:", size)}`]],
  ["a long layer", (size) => [`lowerdir=${fill("a", size)}:/b`]],
  [
    "backslashes in an upper directory",
    (size) => ["lowerdir=/a", `upperdir=${fill("\\", size)}`, "workdir=/w"],
  ],
  ["lowerdirs one after the other", (size) => entries(() => "lowerdir=/a:/b", size)],
];

const targets: [name: string, make: (size: number) => string][] = [
  ["a deep path", (size) => fill("/a", size)],
  ["a long name", (size) => `/${fill("a", size)}`],
  ["slashes", (size) => fill("/", size)],
  ["dots", (size) => fill("/.", size)],
  ["ways up", (size) => fill("/..", size)],
  ["down and up", (size) => fill("/a/..", size)],
  ["down and up below a long name", (size) => `/${fill("a", size / 2)}${fill("/b/..", size / 2)}`],
  ["down and up in the depth", (size) => fill("/a", size / 2) + fill("/b/..", size / 2)],
];

const line = (index: number) =>
  `${index} 1 0:${index} / /mnt/${index} rw,relatime shared:1 - tmpfs t rw,size=1m\n`;
const tables: [name: string, make: (size: number) => string][] = [
  ["lines", (size) => entries(line, size).join("")],
  ["optional fields", (size) => `1 1 0:1 / / rw ${fill("shared:1 ", size)}- tmpfs t rw\n`],
  ["fields without end", (size) => `1 1 0:1 / / rw ${fill("- ", size)}`],
  ["escapes", (size) => `1 1 0:1 / /${fill("\\040", size)} rw - tmpfs t rw\n`],
  ["escaped bytes", (size) => `1 1 0:1 / /${fill("\\377\\303\\251", size)} rw - tmpfs t rw\n`],
  ["backslashes", (size) => `1 1 0:1 / /${fill("\\", size)} rw - tmpfs t rw\n`],
  ["no table", (size) => fill("a", size)],
  ["empty lines", (size) => fill("\n", size)],
  ["digits", (size) => `${fill("1", size)} 1 0:1 / / rw - tmpfs t rw\n`],
];

const bytes = (unit: number[], size: number) =>
  Uint8Array.from({ length: size }, (_, index) => unit[index % unit.length] ?? 0);

const json: [name: string, make: (size: number) => string][] = [
  ["mounts", (size) => `[${entries(() => '{"type":"bind","source":"/a"}', size).join(",")}]`],
  ["options", (size) => `[{"options":[${entries(() => '"ro"', size).join(",")}]}]`],
  ["fields", (size) => `[{${entries((index) => `"${index}":1`, size).join(",")}}]`],
  ["brackets", (size) => fill("[", size)],
  ["nested lists", (size) => fill("[", size / 2) + fill("]", size / 2)],
  ["one string", (size) => `["${fill("a", size)}"]`],
];

const overlay = (options: string[]): Mount => ({ type: "overlay", source: "o", options });

/** The calls that must take linear time: each makes its input, and returns the call to measure. */
export const cases: [name: string, prepare: (size: number) => () => unknown][] = [
  ...optionLists.flatMap(([name, make]): typeof cases => [
    [`option parser: ${name}`, (size) => bind(make(size), parseOptions)],
    [
      `a mount's plan: ${name}`,
      (size) => bind([overlay(make(size))], (mounts) => planMounts(mounts, "/mnt")),
    ],
  ]),
  ...targets.flatMap(([name, make]): typeof cases => [
    [
      `a mount's place: ${name}`,
      (size) => bind(make(size), subpathOf),
    ],
    [`a path in a root: ${name}`, (size) => bind(make(size), (path) => resolveInRoot("/", path))],
    [
      `a target: ${name}`,
      (size) => bind(make(size), (target) => planMounts([{ type: "bind", source: "/", target }], "/mnt")),
    ],
  ]),
  ...tables.map((
    [name, make],
  ): typeof cases[number] => [`mount table: ${name}`, (size) => bind(make(size), parseMountInfo)]),
  ...json.map(([name, make]): typeof cases[number] => [
    `mounts file: ${name}`,
    (size) => bind(make(size), (text) => parseMounts(text, "file")),
  ]),
  ["an overlay's layers", (size) => bind([`lowerdir=${fill("/a:", size)}/z`], parseOverlayOptions)],
  [
    "an overlay made read-only",
    (size) => bind([overlay([`lowerdir=/a`, `upperdir=${fill("\\:", size)}`])], readonlyMounts),
  ],
  ["is it read-only", (size) => bind(overlay(entries(() => "ro,noexec", size)), isReadonly)],
  ["id maps: ranges", (size) => bind(fill("0:0:1,", size), parseIdMappings)],
  ["id maps: digits", (size) => bind(`0:0:${fill("1", size)}`, mapFileText)],
  ["id maps: colons", (size) => bind(fill(":", size), parseIdMappings)],
  ["names: no UTF-8", (size) => bind(bytes([0xff], size), decodeName)],
  ["names: nearly UTF-8", (size) => bind(bytes([0xf0, 0x9f, 0x98, 0x61], size), decodeName)],
  ["names: their bytes", (size) => bind(fill("\udcff", size), encodeName)],
  ["names: their bytes, here and there", (size) => bind(fill("a\udcff", size), encodeName)],
  ["names: halves of pairs", (size) => bind(fill("a\ud800", size), encodeName)],
  ["names: on a terminal", (size) => bind(fill("\n\\012", size), escapeControl)],
  ["a list's order: siblings", (size) => order(entries((index) => `/mnt/${index}`, size))],
  ["a list's order: children first", (size) => order(chain(size).reverse())],
  ["a list's order: parents first", (size) => order(chain(size))],
  [
    "a list's order: one parent at the end",
    (size) => order([...entries((index) => `/mnt/${index}`, size), "/mnt"]),
  ],
];

/**
 * The shortest CPU time of several calls, in milliseconds; other programs don't lengthen it. A call may refuse its input.
 */
function time(prepare: (size: number) => () => unknown, size: number, tries: number): number {
  const call = prepare(size);
  return Math.min(...Array.from({ length: tries }, () => {
    const before = cpuUsage();
    unlessRefused(call);
    const { user, system } = cpuUsage(before);
    return (user + system) / 1000;
  }));
}

/** The CPU time of an input. */
export interface Timed {
  /** The CPU time, in milliseconds. */
  ms: number;
  /** Whether the call takes linear time. */
  isLinear: boolean;
}

/**
 * Measures an input of a size in megabytes.
 *
 * @param prepare makes the input.
 * @param megabytes the size of the input.
 * @returns linear, if a hundredth of the input takes more than a thousandth of the time: with quadratic time it would be a
 * ten-thousandth.
 */
export function timed(prepare: (size: number) => () => unknown, megabytes: number): Timed {
  const limit = 300 * megabytes; // three times the time on an idle machine
  const first = time(prepare, megabytes * 1e6, 1);
  if (first < limit) return { ms: first, isLinear: true };
  const ms = time(prepare, megabytes * 1e6, 3);
  return { ms, isLinear: ms < limit || ms < 1000 * time(prepare, megabytes * 1e4, 5) };
}

function bind<T>(value: T, call: (value: T) => unknown): () => unknown {
  return () => call(value);
}

function order(paths: string[]): () => unknown {
  const mounts = paths.map((target) => ({ type: "tmpfs", source: "t", target }));
  return bind(mounts, (list) => planMounts(list, "/mnt"));
}

/** Repeated chains of nested paths, up to the longest that the kernel takes. */
function chain(size: number): string[] {
  const deep = Array.from({ length: 200 }, (_, depth) => fill("/directory", 10 * (depth + 1)));
  const length = deep.reduce((sum, path) => sum + path.length, 0);
  return Array.from(
    { length: Math.ceil(size / length) },
    (_, index) => deep.map((path) => `/${index}${path}`),
  ).flat();
}
