/**
 * Fault injection at every system call of every operation: `deno task test:faults`, as root.
 *
 *     --only=TEXT     the operations whose names hold the text
 *     --sample=N      N faults of each operation, chosen by --seed=N
 *     --jobs=N        how many operations at a time
 *     --save          writes the numbers to docs/trust/faults.json
 *
 * @module
 */

import { parseArgs } from "node:util";
import { faults } from "./harm.ts";
import { type Row, runFaults } from "./run.ts";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    jobs: { type: "string", default: `${navigator.hardwareConcurrency}` },
    save: { type: "boolean", default: false },
  },
});

const columns = [
  "points",
  "faults",
  "worked",
  "typed error",
  "told",
  "killed",
  "not reached",
  "rules broken",
];

function line(name: string, cells: (string | number)[]): string {
  return name.padEnd(52) +
    cells.map((cell, index) => `${cell}`.padStart((columns[index]?.length ?? 0) + 2)).join("");
}

function cells({ points, tried, outcomes, violations }: Row): number[] {
  const { worked, told, killed } = outcomes;
  return [
    points,
    tried,
    worked,
    outcomes["typed error"],
    told,
    killed,
    outcomes["not reached"],
    violations.length,
  ];
}

function totals(rows: Row[]): number[] {
  return columns.map((_, index) => rows.reduce((sum, row) => sum + (cells(row)[index] ?? 0), 0));
}

async function save(rows: Row[], seconds: number): Promise<void> {
  const directory = new URL("../../docs/trust/", import.meta.url);
  await Deno.mkdir(directory, { recursive: true });
  const kernel = (await Deno.readTextFile("/proc/sys/kernel/osrelease")).trim();
  const sums = totals(rows);
  const total = Object.fromEntries(columns.map((column, index) => [column, sums[index] ?? 0]));
  const report = { kernel, deno: Deno.version.deno, seconds, faults, total, operations: rows };
  await Deno.writeTextFile(new URL("faults.json", directory), JSON.stringify(report, null, 2) + "\n");
}

const base = await Deno.makeTempDir({ prefix: "denomount-test-faults-" });
const started = performance.now();
const rows = await runFaults({
  base,
  only: options.only,
  ...(options.sample === undefined ? {} : { sample: Number(options.sample) }),
  seed: Number(options.seed),
  jobs: Number(options.jobs),
  done(row) {
    console.error(`${row.operation}: ${row.tried} faults at ${row.points} points`);
    for (const violation of row.violations) console.error(`    ${violation}`);
  },
});
const seconds = Math.round((performance.now() - started) / 1000);
const violated = rows.some(({ violations }) => violations.length > 0);
if (!violated) await Deno.remove(base, { recursive: true }); // else what is left there may be somebody's mount

console.log(line("operation", columns));
for (const row of rows) console.log(line(row.operation, cells(row)));
console.log(line(`all, in ${seconds} s`, totals(rows)));
console.log(`
worked: it did what it is for. typed error: with its code and call, and nothing left. told: its own clearing up
failed, it said so, and the next clean-up took what was left. killed: nothing left after the next clean-up.`);
if (options.save) await save(rows, seconds);
Deno.exit(violated || rows.length === 0 ? 1 : 0);
