/**
 * The benchmark: the library beside what people would pick instead, in one run.
 *
 *     deno task bench --help
 *
 * @module
 */

import { Command, Table } from "../cli/deps.ts";
import { OURS, type Spread } from "./measure.ts";
import { buildPeers, type Program } from "./peers.ts";
import type { Result, Row, Verdict } from "./row.ts";
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
    "Measures the library beside util-linux's commands, containerd's Go package and the bare system calls.",
  )
  .option("--only <text>", "measure only the rows whose name holds the text")
  .option("--rounds <number>", "how often the contenders take turns", "30")
  .option("--json", "print the results as JSON")
  .option("--check", "exit with 1 where a row falls short, and name it")
  .option("--save", "write bench/results.json and bench/results.svg")
  .parse(Deno.args, { from: "user" })
  .opts<Options>();

/** In a process and a mount namespace of its own. */
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

/** Compares with the limits; a limit whose peer or row was not measured says nothing. */
function judge(results: readonly Result[]): void {
  for (const result of results) {
    const limits = rows.find(({ name }) => name === result.name)?.limits ?? [];
    result.verdicts = limits.flatMap((limit): Verdict[] => {
      const ours = result.times[OURS]?.median ?? NaN;
      const other = results.find(({ name }) => name === limit.row)?.times[OURS]?.median;
      const value = limit.peer ? result.ratios[limit.peer]?.median : limit.row ? ours / (other ?? NaN) : ours;
      return value === undefined || Number.isNaN(value)
        ? []
        : [{ ...limit, value, reached: value <= limit.most }];
    });
  }
}

function text(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function limitText({ peer, row, most, value, reached }: Verdict, unit: string): string {
  const against = peer ? `× ${peer}` : row ? `× ${row}` : unit;
  return `${reached ? "yes" : "NO "} ${text(value)} ≤ ${text(most)} ${against}`;
}

function ratioText(name: string, { low, median, high }: Spread): string {
  return `${text(median)} × ${name} (${text(low)}–${text(high)})`;
}

function printTable(results: readonly Result[]): void {
  const table = new Table({
    head: ["work", "takes", "of that", "beside the others (quartiles)", "to reach"],
    style: { head: [] },
  });
  for (const { name, unit, times, shares, ratios, verdicts } of results) {
    table.push([
      name,
      `${text(times[OURS]?.median ?? NaN)} ${unit}`,
      Object.entries(shares).map(([where, share]) => `${Math.round(share * 100)}% ${where}`).join("\n"),
      Object.entries(ratios).map(([peer, ratio]) => ratioText(peer, ratio)).join("\n"),
      verdicts.map((verdict) => limitText(verdict, unit)).join("\n"),
    ]);
  }
  console.log(table.toString());
}

/**
 * Keeps the processors from going to sleep, as tuned's latency profiles do. Every unmount waits for a grace period of the
 * kernel's RCU, whose thread is woken on another processor: in a virtual machine that takes 7 microseconds where that one
 * is awake, and 50 where it has halted, which of the two being luck.
 */
function keepAwake(): Disposable {
  const file = Deno.openSync("/dev/cpu_dma_latency", { write: true });
  file.writeSync(new Uint8Array(4)); // 0 microseconds, for as long as it is open
  return file;
}

const chosen = rows.filter(({ name }) => name.includes(options.only ?? ""));
if (Deno.uid() !== 0) {
  console.error("the benchmark mounts for real: run it as root");
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
else printTable(results);
if (options.save) {
  await Deno.writeTextFile(new URL("results.json", import.meta.url), JSON.stringify(results, null, 2) + "\n");
  await Deno.writeTextFile(new URL("results.svg", import.meta.url), draw(results));
}
if (short.length > 0) console.error(`falls short: ${short.map(({ name }) => name).join("; ")}`);
Deno.exit(options.check && short.length > 0 ? 1 : 0);
