/**
 * Overlays.
 *
 * @module
 */

import { type Peer, shell } from "../peers.ts";
import { type Bench, make, type Row } from "../row.ts";
import { AS_FAST_AS_GO, onAndOff } from "./mounts.ts";

/** Creates directories for layers. */
export function makeLayers(bench: Bench, count: number): string[] {
  return Array.from({ length: count }, (_, index) => make(bench, `layers/${index}/fs`));
}

/** The peers that can mount these layers: libmount sets lowerdir= as one string, and the kernel takes 255 bytes. */
function able({ peers }: Bench, layers: readonly string[]): readonly Peer[] {
  return peers.filter(({ name }) => name !== "libmount" || layers.join(":").length < 256);
}

const readonly: Row[] = [5, 100].map((count) => ({
  name: `overlay of ${count} layers`,
  limits: [AS_FAST_AS_GO, { peer: "C floor", most: 1.2 }],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const target = make(bench, "target");
    const layers = makeLayers(bench, count);
    const lowerdir = `lowerdir=${layers.join(":")}`;
    return [
      onAndOff({ type: "overlay", source: "overlay", options: [lowerdir] }, target, 1500 / count),
      ...able(bench, layers).map((peer) => peer.contender("overlay", 1500 / count, target, ...layers)),
      ...lowerdir.length < 4000
        ? [shell(1, ["mount", "-t", "overlay", "overlay", "-o", lowerdir, target], ["umount", target])]
        : [],
    ];
  },
}));

const writable: Row[] = [2, 20].map((count) => ({
  name: `writable overlay of ${count} layers`,
  limits: [AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const [target, upper, work] = [make(bench, "target"), make(bench, "upper"), make(bench, "work")];
    const layers = makeLayers(bench, count);
    const options = [`lowerdir=${layers.join(":")}`, `upperdir=${upper}`, `workdir=${work}`];
    return [
      onAndOff({ type: "overlay", source: "overlay", options }, target, 1000 / count),
      ...able(bench, layers).map((peer) =>
        peer.contender("overlay-rw", 1000 / count, target, upper, work, ...layers)
      ),
    ];
  },
}));

/** Every row of this file. */
export const rows: readonly Row[] = [...readonly, ...writable];
