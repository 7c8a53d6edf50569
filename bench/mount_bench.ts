/**
 * The library beside mount(8) and umount(8): what most Deno programs do today. Both take turns, so that a slow moment of
 * the machine hits both; only the ratio means anything.
 *
 *     deno task bench
 *
 * @module
 */

import { type Mount, mount } from "../mod.ts";

const ROUNDS = 30;

async function shell(command: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, stdout: "null", stderr: "piped" })
    .output();
  if (!success) throw new Error(`${command}: ${new TextDecoder().decode(stderr)}`);
}

async function timed(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

function median(times: number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN;
}

async function compare(
  name: string,
  ours: () => Promise<void>,
  theirs: () => Promise<void>,
): Promise<boolean> {
  const [mine, other]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    mine.push(await timed(ours));
    other.push(await timed(theirs));
  }
  const ratio = median(mine) / median(other);
  const times = `${median(mine).toFixed(3)} ms against ${median(other).toFixed(3)} ms`;
  console.log(
    `${name.padEnd(18)} ${times.padEnd(32)} ratio ${ratio.toFixed(3)} (1/${(1 / ratio).toFixed(0)})`,
  );
  return ratio < 1 / 3;
}

const dir = await Deno.makeTempDir({ prefix: "denomount-bench-" });
let good = true;
try {
  const target = `${dir}/target`;
  await Deno.mkdir(target);
  const layers = Array.from({ length: 5 }, (_, index) => `${dir}/${index}`);
  for (const layer of layers) await Deno.mkdir(layer);

  const work: [string, Mount, string[]][] = [
    ["bind", { type: "bind", source: `${dir}/0`, options: ["bind"] }, ["--bind", `${dir}/0`, target]],
    [
      "overlay, 5 layers",
      { type: "overlay", source: "overlay", options: [`lowerdir=${layers.join(":")}`] },
      ["-t", "overlay", "overlay", "-o", `lowerdir=${layers.join(":")}`, target],
    ],
  ];
  for (const [name, m, args] of work) {
    const ours = async () => await (await mount(m, target)).unmount();
    const theirs = async () => {
      await shell("mount", ...args);
      await shell("umount", target);
    };
    good = await compare(name, ours, theirs) && good;
  }
} finally {
  await Deno.remove(dir, { recursive: true });
}
console.log(good ? "Less than a third of mount(8), as it should be." : "NOT less than a third of mount(8).");
Deno.exit(good ? 0 : 1);
