/**
 * Reading the mount table, at several sizes.
 *
 * @module
 */

import { isMountpoint, listMounts, lookupMount, unmountRecursive } from "../../mod.ts";
import { type Contender, each, OURS } from "../measure.ts";
import { shell } from "../peers.ts";
import type { Bench, Limit, Row } from "../row.ts";
import { AS_FAST_AS_GO, fill, fillTable } from "./mounts.ts";

const SIZES = [100, 1_000, 10_000];

/** A row for each size; `growth` limits the ratio to the previous size. */
function atEachSize(
  name: string,
  growth: number,
  limits: readonly Limit[],
  contenders: (bench: Bench, size: number) => Promise<Contender[]>,
  sizes = SIZES,
): Row[] {
  const named = (size: number) => `${name} at ${size.toLocaleString("en")} mounts`;
  return sizes.map((size, index) => {
    const before = sizes[index - 1];
    return {
      name: named(size),
      ...size > 1000 && { calls: false as const },
      limits: before === undefined ? limits : [...limits, { row: named(before), most: growth }],
      prepare: (bench) => contenders(bench, size),
    };
  });
}

// Ten times as many mounts may take twelve times as long, because they exceed the caches.
const LINEAR = 12;
const FLAT = 1.3;
const MICROSECONDS_20 = { most: 0.02 };

const list = atEachSize("listMounts", LINEAR, [AS_FAST_AS_GO], async (bench, size) => {
  await fillTable(bench, size);
  const count = Math.max(3, 10_000 / size); // the first run after a pause finds cold caches
  return [
    { name: OURS, count, run: () => each(count, () => listMounts()) },
    ...bench.peers.map((peer) => peer.contender("list", count)),
    shell(1, ["findmnt", "--json"]),
  ];
});

const questions: [string, string, (path: string) => Promise<unknown>][] = [
  ["lookupMount", "lookup", lookupMount],
  ["isMountpoint", "mountpoint", isMountpoint],
];

const lookups = questions.flatMap(([name, work, ask]) =>
  atEachSize(name, FLAT, [MICROSECONDS_20], async (bench, size) => {
    const path = `${await fillTable(bench, size)}/${size / 2}`;
    return [
      { name: OURS, count: 200, run: () => each(200, () => ask(path)) },
      ...bench.peers.map((peer) => peer.contender(work, peer.name === "C floor" ? 200 : 2, path)),
    ];
  })
);

const unmounting = atEachSize("unmountRecursive", LINEAR, [AS_FAST_AS_GO], async (bench, size) => {
  const directory = await fillTable(bench, size);
  await unmountRecursive(directory);
  const filled = (contender: Contender): Contender => ({
    ...contender,
    async run() {
      await fill(bench, size, `${bench.dir}/filler`, directory);
      const time = await contender.run();
      if (time === undefined) await unmountRecursive(directory); // else the next one finds two mounts at each mountpoint
      return time;
    },
  });
  return [
    { name: OURS, count: 1, run: () => each(1, () => unmountRecursive(directory)) },
    ...bench.peers.map((peer) => peer.contender("unmount-recursive", 1, directory)),
  ].map(filled);
}, SIZES.slice(1));

/** Every row of this file. */
export const rows: readonly Row[] = [...list, ...lookups, ...unmounting];
