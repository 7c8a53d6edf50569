/**
 * Runs the fuzzing rules and the races with any number of inputs, as root: `deno task test:proofs`.
 *
 * @module
 */

import { Command } from "../cli/commander.ts";
import { mountAtRandomNames } from "./fuzz/names.ts";
import { comparePaths } from "./fuzz/paths.ts";
import { rules } from "./fuzz/rules.ts";
import { cases, timed } from "./fuzz/scale.ts";
import { type Attempts, kernels, swapSource, swapTarget } from "./race/races.ts";
import { markdownTable, record } from "./trust.ts";

interface Options {
  runs: string;
  names: string;
  tries: string;
  save?: true;
}

const options = new Command("deno task test:proofs")
  .description("Runs the fuzzing rules and the races with any number of inputs, as root.")
  .option("--runs <number>", "inputs for each rule", "60000")
  .option("--names <number>", "mountpoints with random names", "5000")
  .option("--tries <number>", "attempts of each race", "10000")
  .option("--save", "write the results to docs/trust.md")
  .parse(Deno.args, { from: "user" })
  .opts<Options>();
const [runs, names, tries] = [options.runs, options.names, options.tries].map(Number);
if (!runs || !names || !tries) throw new TypeError("runs, names and tries are numbers");
const MOST_NAMES = 500; // mounted at the same time
const TREES = Math.ceil(names / 5);

function say(what: string): void {
  console.error(`${new Date().toISOString().slice(11, 19)} ${what}`);
}

/** Runs every rule; returns a row with its name and number of inputs. */
async function fuzz(dir: string): Promise<(string | number)[][]> {
  const rows: (string | number)[][] = [];
  for (const { name, run } of rules) {
    say(name);
    run(runs ?? 0);
    rows.push([name, runs ?? 0, 0]);
  }
  say("mounts at random names");
  for (let left = names ?? 0; left > 0; left -= MOST_NAMES) {
    const place = await Deno.makeTempDir({ dir });
    await mountAtRandomNames(place, Math.min(left, MOST_NAMES));
    await Deno.remove(place, { recursive: true });
  }
  rows.push(["a mount at any name is listed under that name", names ?? 0, 0]);
  say("paths in random trees");
  await comparePaths(dir, TREES);
  rows.push(["rootPath() agrees with openat2(2) (trees of links)", TREES, 0]);
  return rows;
}

/** The times for ten megabytes of each kind of input, the longest first. */
function scale(): [name: string, ms: number][] {
  say("ten megabytes of each kind");
  return cases.map(([name, prepare]): [string, number] => {
    const { ms, isLinear } = timed(prepare, 10);
    if (!isLinear) throw new Error(`${name}: ${Math.round(ms)} ms`);
    return [name, Math.round(ms)];
  }).sort((a, b) => b[1] - a[1]);
}

async function race(dir: string): Promise<(string | number)[][]> {
  const rows: (string | number)[][] = [];
  const kinds: [string, typeof swapTarget][] = [
    ["target swapped with a symbolic link", swapTarget],
    ["source swapped with another", swapSource],
  ];
  for (const [what, run] of kinds) {
    for (const [kernel, missing] of Object.entries(kernels)) {
      say(`${what}, ${kernel}`);
      const place = await Deno.makeTempDir({ dir });
      const found: Attempts = await run(place, tries ?? 0, missing);
      for (const wrong of found.wrong) console.error(`    ${wrong}`);
      await Deno.remove(place, { recursive: true });
      rows.push([
        `${what}; kernel ${kernel}`,
        found.attempts,
        found.mounted,
        found.refused,
        found.wrong.length,
      ]);
    }
  }
  return rows;
}

function sum(rows: (string | number)[][], column: number): number {
  return rows.reduce((all, row) => all + Number(row[column]), 0);
}

const dir = await Deno.makeTempDir({ prefix: "denomount-proofs-" });
const fuzzed = await fuzz(dir);
const times = scale();
const raced = await race(dir);
await Deno.remove(dir, { recursive: true });
const wrong = sum(raced, 4);

const command = `\`deno task test:proofs --runs=${runs} --names=${names} --tries=${tries} --save\``;
const inputs = markdownTable(["rule", "inputs", "broken"], [...fuzzed, [
  "all",
  sum(fuzzed, 1),
  sum(fuzzed, 2),
]]);
const slowest = markdownTable(
  ["slowest inputs of ten megabytes", "CPU time in ms"],
  times.slice(0, 8),
);
const races = markdownTable([
  "race",
  "attempts",
  "mounted",
  "refused",
  "outside, wrong source, or left behind",
], [
  ...raced,
  ["all", ...[1, 2, 3, 4].map((column) => sum(raced, column))],
]);
console.log([inputs, slowest, races].join("\n\n"));
if (options.save && wrong === 0) {
  const long = `None of ${times.length} kinds of long input takes more than linear time.`;
  await record("fuzzing", "Random input", [command, inputs, long, slowest].join("\n\n"));
  await record("races", "Another process swaps names during a mount", [command, races].join("\n\n"));
}
Deno.exit(wrong > 0 ? 1 : 0);
