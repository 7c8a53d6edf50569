/**
 * Compares readChanges(), exportLayer() and keepChanges() with the tree that the kernel shows, after random operations.
 *
 * @module
 */

import { keepChanges, readChanges } from "../../linux/sandbox/changes/mod.ts";
import { assertEquals } from "../assert.ts";
import { unpack } from "./image.ts";
import { operate, Random } from "./operations.ts";
import { mountLayers, mountOverlay, type Overlay } from "./overlay.ts";
import { assertChanges, lines, readTree, type TreeOptions } from "./trees.ts";

const OVERLAYS = /^(trusted|user)\.overlay\./;

/** How many operations are done on which overlay. */
export interface Model {
  /** The directory of all, on the file system to test. */
  readonly base: string;
  /** The seed of the operations. */
  readonly seed: number;
  /** How many operations in all. */
  readonly operations: number;
  /** How many operations before the trees are compared. */
  readonly each: number;
  /** Whether the overlay is mounted with `userxattr`. */
  readonly userxattr: boolean;
  /** Whether this process may make devices, and unpack layers. */
  readonly isRoot: boolean;
}

/** Runs the operations; the last part of them with the changes of the first part as a second lower layer. */
export async function runModel(model: Model): Promise<void> {
  const { base, userxattr } = model;
  const random = new Random(model.seed);
  const one = `${base}/one`;
  const two = `${base}/two`;
  Deno.mkdirSync(one, { recursive: true });
  Deno.mkdirSync(two);
  const half = Math.ceil(model.operations / 2);
  {
    await using overlay = await mountOverlay(one, (lower) => {
      for (let count = 0; count < 150; count++) operate(lower, random, model);
    }, { userxattr });
    await operateAndCompare(overlay, random, half, model);
    Deno.mkdirSync(`${two}/lower0`);
    await keepChanges(overlay.upper, `${two}/lower0`, { userxattr });
  }
  await Deno.rename(`${one}/lower0`, `${two}/lower1`);
  {
    await using overlay = await mountOverlay(two, () => {}, { userxattr, layers: 2 });
    await operateAndCompare(overlay, random, model.operations - half, model);
  }
}

async function operateAndCompare(
  overlay: Overlay,
  random: Random,
  count: number,
  model: Model,
): Promise<void> {
  for (let done = 0; done < count; done += model.each) {
    for (let at = done; at < Math.min(count, done + model.each); at++) operate(overlay.merged, random, model);
    try {
      await compare(overlay, model);
    } catch (error) {
      throw new Error(`seed ${model.seed}, after ${done + model.each} operations`, { cause: error });
    }
  }
}

async function compare({ lower, upper, merged, base, userxattr }: Overlay, { isRoot }: Model): Promise<void> {
  const all: TreeOptions = isRoot
    ? userxattr ? { withoutLinksOf: "symlink" } : {}
    : { withoutLinksOf: "all" };
  const shown = await readTree(merged, all);
  {
    await using _lower = lower.length > 1 ? await mountLayers(lower, `${base}/below`, userxattr) : undefined;
    const below = await readTree(lower.length > 1 ? `${base}/below` : lower[0] ?? "");
    assertChanges(below, shown, await Array.fromAsync(readChanges(upper, { lower, userxattr })));
  }
  const kept = `${base}/kept`;
  await keepChanges(upper, kept, { userxattr });
  {
    const own = /^(trusted|user)\.overlay\.(?!opaque|whiteout)/;
    const isWhiteout = (line: string) => line.includes(" char 0:0 ");
    const compared = async (path: string) =>
      lines(await readTree(path, { without: own })).map((line) =>
        isWhiteout(line) ? line.split(" ")[0] : line
      );
    assertEquals(await compared(kept), await compared(upper), "the copy of the upper directory");
    await using _layers = await mountLayers([kept, ...lower], `${base}/below`, userxattr);
    assertEquals(lines(await readTree(`${base}/below`, all)), lines(shown), "the copy as a layer");
  }
  await Deno.remove(kept, { recursive: true });
  if (!isRoot) return;
  const layers = [...lower].reverse().map((path) => ({ path, userxattr }));
  await unpack(base, `${base}/unpacked`, [...layers, { path: upper, userxattr }]);
  const expected = lines(await readTree(merged, { ...all, withoutSockets: true, without: OVERLAYS }));
  assertEquals(lines(await readTree(`${base}/unpacked`, all)), expected, "the unpacked layers");
  await Deno.remove(`${base}/unpacked`, { recursive: true });
}
