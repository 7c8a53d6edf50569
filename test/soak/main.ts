/**
 * Runs random operations for any time, and compares the kernel's mount table after each.
 *
 *     deno task test:soak --seconds 3600 --seed 7
 *
 * @module
 */

import { Command } from "../../cli/commander.ts";
import { setTempMountLocation } from "../../mod.ts";
import { loopDevices, names, openFiles, readText } from "../kernel.ts";
import { markdownTable, record } from "../trust.ts";
import { World } from "./model.ts";
import { Random } from "./random.ts";

interface Options {
  seconds: string;
  seed: string;
  save?: boolean;
}

const options = new Command("deno task test:soak")
  .description("Runs random mounts and unmounts, and compares the mount table with the expected mounts.")
  .option("--seconds <number>", "duration in seconds", "3600")
  .option(
    "--seed <number>",
    "seed of the random operations; the same seed repeats a run",
    `${Date.now() % 1_000_000}`,
  )
  .option("--save", "write the result to docs/trust.md")
  .parse(Deno.args, { from: "user" })
  .opts<Options>();

/** The current threads, descriptors and memory. */
function usage(): { threads: number; descriptors: number; memory: number } {
  (globalThis as { gc?: () => void }).gc?.();
  const threads = Number(/Threads:\s*(\d+)/.exec(readText("/proc/self/status") ?? "")?.[1]);
  return { threads, descriptors: openFiles().length, memory: Deno.memoryUsage().heapUsed };
}

/** Waits until idle threads end: the runtime keeps threads of blocking calls for ten seconds. Leaked threads don't end. */
async function waitForThreads(threads: number): Promise<void> {
  for (const begun = performance.now(); performance.now() - begun < 30_000;) {
    if (usage().threads <= threads) return;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function makeImage(dir: string): Promise<string | undefined> {
  const image = `${dir}/image.ext4`;
  const args = ["-q", image, "1M"];
  try {
    const { success } = await new Deno.Command("mkfs.ext4", { args, stdout: "null", stderr: "null" })
      .output();
    return success ? image : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

const seed = Number(options.seed);
const seconds = Number(options.seconds);
console.log(`seed ${seed}, ${seconds} s`);
const dir = await Deno.makeTempDir({ prefix: "denomount-soak-" });
const world = new World(dir, await makeImage(dir), new Random(seed));
await world.begin();
await setTempMountLocation(`${dir}/temporary`);

let steps = 0;
let last = "";
const start = performance.now();
let settled: ReturnType<typeof usage> | undefined;
try {
  while (performance.now() - start < seconds * 1000) {
    last = await world.step();
    steps++;
    const difference = await world.difference();
    if (difference !== undefined) throw new Error(difference);
    if (steps === 1000) settled = usage(); // by then V8 has compiled the code, and features are probed
    if (steps % 100 === 0) await new Promise((resolve) => setTimeout(resolve)); // lets the event loop run
  }
} catch (error) {
  console.error(`step ${steps} of seed ${seed} (last completed: "${last}"):`);
  throw error;
} finally {
  await world.end();
}
const difference = await world.difference();
const left = [
  ...difference === undefined ? [] : [difference],
  ...names(`${dir}/temporary`),
  ...loopDevices(dir),
];
await Deno.remove(dir, { recursive: true });
if (settled) await waitForThreads(settled.threads);
const after = usage();
const grown = settled === undefined ? 0 : after.memory - settled.memory;
const result = {
  seed,
  seconds,
  steps,
  left: left.length,
  threads: after.threads - (settled?.threads ?? after.threads),
  descriptors: after.descriptors - (settled?.descriptors ?? after.descriptors),
  memory: grown,
};
console.log(JSON.stringify(result));
const flat = result.threads <= 0 && result.descriptors <= 0 && grown < 4 * 2 ** 20;
if (left.length > 0 || !flat) {
  console.error(`left behind: ${left.join("; ")}`);
  Deno.exit(1);
}
if (options.save) await save();

async function save(): Promise<void> {
  const table = markdownTable(["", ""], [
    ["hours", (seconds / 3600).toFixed(2)],
    ["random operations, each followed by a comparison of the mount table", steps],
    ["differences", 0],
    ["mounts, loop devices and directories left behind", left.length],
    ["more threads than after 1000 operations", result.threads],
    ["more descriptors", result.descriptors],
    ["more memory, in KiB", Math.round(grown / 1024)],
  ]);
  const command = `deno task test:soak --seconds ${seconds} --seed ${seed} --save`;
  await record("soak", "Hours of random operations", `\`${command}\`\n\n${table}`);
}
