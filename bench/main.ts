/**
 * Compares the speed of the library with its alternatives, in one run.
 *
 *     deno task bench --help
 *
 * @module
 */

import { Command } from "../cli/commander.ts";
import { format, replacePart } from "../scripts/markdown.ts";
import { buildPeers, type Program } from "./peers.ts";
import { judge, printTable, tables } from "./report.ts";
import type { Result, Row } from "./row.ts";
import { rows } from "./rows.ts";
import { draw } from "./svg.ts";

interface Options {
  json?: true;
  check?: true;
  save?: true;
  only?: string;
  rounds: string;
}

const options = new Command("deno task bench")
  .description(
    "Compares the library with util-linux's commands, containerd's Go package and bare system calls.",
  )
  .option("--only <text>", "measure only rows with names that contain the text")
  .option("--rounds <number>", "number of rounds", "30")
  .option("--json", "print the results as JSON")
  .option("--check", "exit with 1 if a row misses a limit, and name the row")
  .option("--save", "write bench/results.json, bench/results.svg and the tables in bench/README.md")
  .parse(Deno.args, { from: "user" })
  .opts<Options>();

/** Measures a row in a new process with a private mount namespace. */
async function runRow(row: Row, programs: readonly Program[]): Promise<Result> {
  const runner = new URL("run_row.ts", import.meta.url).pathname;
  const deno = [
    Deno.execPath(),
    "run",
    "--quiet",
    "-A",
    "--v8-flags=--expose-gc",
    runner,
    row.name,
    options.rounds,
  ];
  const { success, stdout } = await new Deno.Command("unshare", {
    args: ["-m", "--propagation", "private", ...deno, ...programs.map(({ name, path }) => `${name}=${path}`)],
    stdout: "piped",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`the row "${row.name}" failed`);
  const measured = JSON.parse(new TextDecoder().decode(stdout));
  return { name: row.name, unit: row.unit ?? "ms", ...measured, verdicts: [] };
}

/**
 * Keeps the processors out of idle states, as tuned's latency profiles do. Every unmount waits for an RCU grace period of
 * the kernel, and the RCU thread wakes on another processor: in a virtual machine that takes 7 microseconds if the
 * processor is awake, and 50 if it has halted, at random.
 */
function keepAwake(): Disposable {
  const file = Deno.openSync("/dev/cpu_dma_latency", { write: true });
  file.writeSync(new Uint8Array(4)); // a latency of 0 microseconds, until the file is closed
  return file;
}

const chosen = rows.filter(({ name }) => name.includes(options.only ?? ""));
if (Deno.uid() !== 0) {
  console.error("the benchmark mounts file systems: run it as root");
  Deno.exit(1);
}
using _awake = keepAwake();
const programs = await Deno.makeTempDir({ prefix: "denomount-peers-" });
const results: Result[] = [];
try {
  const built = await buildPeers(programs);
  for (const row of chosen) {
    console.error(`measuring: ${row.name}`);
    results.push(await runRow(row, built));
  }
} finally {
  await Deno.remove(programs, { recursive: true });
}
judge(results);
const short = results.filter(({ verdicts }) => verdicts.some(({ reached }) => !reached));
if (options.json) console.log(JSON.stringify(results, null, 2));
else await printTable(results);
if (options.save) {
  await Deno.writeTextFile(new URL("results.json", import.meta.url), JSON.stringify(results, null, 2) + "\n");
  const picture = new URL("results.svg", import.meta.url);
  await Deno.writeTextFile(picture, draw(results));
  const page = new URL("README.md", import.meta.url);
  await Deno.writeTextFile(page, replacePart(await Deno.readTextFile(page), "results", tables(results)));
  for (const file of [page, picture]) await format(file);
}
if (short.length > 0) console.error(`misses a limit: ${short.map(({ name }) => name).join("; ")}`);
Deno.exit(options.check && short.length > 0 ? 1 : 0);
