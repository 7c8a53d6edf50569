/**
 * How the time of each operation grows with the number of mounts, and of an overlay with its layers.
 *
 *     deno run -A scripts/isolated.ts bench/growth.ts
 *     deno run -A scripts/isolated.ts bench/growth.ts --most 10000
 *
 * It prints two Markdown tables and a verdict for each row: flat, linear, or more. For 100,000 mounts it raises
 * /proc/sys/fs/mount-max, and sets it back.
 *
 * @module
 */

import {
  explain,
  listMounts,
  lookupMount,
  mount,
  type MountHandle,
  unmountRecursive,
  watchMounts,
} from "../mod.ts";
import { MNT_DETACH, mount as mountCall, MS_BIND, MS_REC, umount2 } from "../linux/mod.ts";

const SIZES = [10, 100, 1_000, 10_000, 100_000];
const LAYERS = [1, 10, 100, 500];
const TREE = 1_000; // a recursive bind copies so many mounts at once
const LIMIT = "/proc/sys/fs/mount-max";
const ROUNDS = 15;

/** An operation, and the work of a measurement that is not timed. */
interface Operation {
  readonly name: string;
  run(): unknown;
  before?(): unknown;
  after?(): unknown;
}

const most = Number(Deno.args[Deno.args.indexOf("--most") + 1] ?? NaN) || Infinity;
const dir = Deno.makeTempDirSync();
mountCall("growth", dir, "tmpfs", 0, null);
try {
  await printGrowth("mounts", SIZES.filter((size) => size <= most), amongMounts);
  console.log();
  await printGrowth("layers", LAYERS, ofLayers);
} finally {
  umount2(dir, MNT_DETACH);
  Deno.removeSync(dir);
}

type Measure = (size: number) => Promise<Map<string, number>>;

/** Measures at each size, and prints the table. */
async function printGrowth(what: string, sizes: readonly number[], measure: Measure): Promise<void> {
  const rows = new Map<string, number[]>();
  for (const size of sizes) {
    for (const [name, ms] of await measure(size)) rows.set(name, [...rows.get(name) ?? [], ms]);
  }
  const heads = [what, ...sizes.map((size) => size.toLocaleString("en")), "growth"];
  console.log(`| ${heads.join(" | ")} |`);
  console.log(`| --- |${" ---: |".repeat(sizes.length)} --- |`);
  for (const [name, times] of rows) {
    console.log(`| ${[name, ...times.map(text), growth(times, sizes)].join(" | ")} |`);
  }
}

function text(ms: number): string {
  return ms < 1 ? `${(1000 * ms).toPrecision(3)} µs` : `${ms.toPrecision(3)} ms`;
}

/** The power of the number that the time grows with, from the second size to the last. */
function growth(times: readonly number[], sizes: readonly number[]): string {
  const [, first = 1] = times;
  const [, from = 1] = sizes;
  const power = Math.log((times.at(-1) ?? 1) / first) / Math.log((sizes.at(-1) ?? 1) / from);
  return power < 0.2 ? "flat" : power <= 1.1 ? "at most linear" : "more than linear";
}

async function amongMounts(count: number): Promise<Map<string, number>> {
  using _limit = raiseLimit(count + 10_000);
  const [table, target, source] = [make("table"), make("target"), make("source")];
  fill(table, count);
  const bind = { type: "bind", source, options: ["bind", "ro"] };
  let watch: ReturnType<typeof watchMounts> | undefined;
  let handle: MountHandle | undefined;
  const tmpfs = () => mountCall("one", target, "tmpfs", 0, "size=64k");
  try {
    return await measured([
      { name: "listMounts()", run: () => listMounts() },
      { name: "lookupMount()", run: () => lookupMount(table) },
      { name: "explain()", run: () => explain([bind], target) },
      { name: "bind + unmount", run: async () => await (await mount(bind, target)).unmount() },
      {
        name: "handle.unmount()",
        before: async () =>
          handle = await mount({ type: "tmpfs", source: "one", options: ["size=64k"] }, target),
        run: () => handle?.unmount(),
      },
      { name: "unmountRecursive() of one", before: tmpfs, run: () => unmountRecursive(target) },
      {
        name: "watchMounts(), until its first event",
        run: async () => {
          watch = watchMounts();
          const event = watch.next();
          tmpfs();
          await event;
        },
        after: async () => {
          await watch?.return?.();
          umount2(target, 0);
        },
      },
    ], count >= 100_000 ? 5 : ROUNDS);
  } finally {
    umount2(table, MNT_DETACH);
  }
}

/** Mounts a directory many times below another one. */
function fill(table: string, count: number): void {
  mountCall("table", table, "tmpfs", 0, null);
  const make = (name: string) => {
    Deno.mkdirSync(`${table}/${name}`, { recursive: true });
    return `${table}/${name}`;
  };
  const [source, tree] = [make("source"), make("tree")];
  mountCall("tree", tree, "tmpfs", 0, null);
  for (let index = 2; index < Math.min(count, TREE); index++) {
    mountCall(source, make(`tree/${index}`), null, MS_BIND, null);
  }
  for (let at = TREE; at < count; at += TREE) mountCall(tree, make(`${at}`), null, MS_BIND | MS_REC, null);
}

async function ofLayers(count: number): Promise<Map<string, number>> {
  const target = make("target");
  const layers = Array.from({ length: count }, (_, index) => make(`layers/${index}`)).join(":");
  const upper = [`upperdir=${make("upper")}`, `workdir=${make("work")}`];
  const overlay = { type: "overlay", source: "overlay", options: [`lowerdir=${layers}`, ...upper] };
  let handle: MountHandle | undefined;
  return await measured([
    {
      name: "overlay: mount",
      run: async () => handle = await mount(overlay, target),
      after: () => handle?.unmount(),
    },
    {
      name: "overlay: unmount",
      before: async () => handle = await mount(overlay, target),
      run: () => handle?.unmount(),
    },
    { name: "overlay: explain()", run: () => explain([overlay], target) },
  ], ROUNDS);
}

/** The median of each operation, in milliseconds. The first rounds compile the code. */
async function measured(operations: readonly Operation[], rounds: number): Promise<Map<string, number>> {
  const medians = new Map<string, number>();
  for (const { name, before, run, after } of operations) {
    const times: number[] = [];
    for (let round = -rounds; round < rounds; round++) {
      await before?.();
      const start = performance.now();
      await run();
      const time = performance.now() - start;
      await after?.();
      if (round >= 0) times.push(time);
      await new Promise((resolve) => setTimeout(resolve, 5)); // the kernel frees what was unmounted
    }
    medians.set(name, times.sort((a, b) => a - b)[rounds >> 1] ?? NaN);
  }
  return medians;
}

function make(name: string): string {
  Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
  return `${dir}/${name}`;
}

/** The kernel's limit of mounts in a namespace. */
function raiseLimit(count: number): Disposable {
  const before = Deno.readTextFileSync(LIMIT);
  if (Number(before) < count) Deno.writeTextFileSync(LIMIT, `${count}\n`);
  return { [Symbol.dispose]: () => Deno.writeTextFileSync(LIMIT, before) };
}
