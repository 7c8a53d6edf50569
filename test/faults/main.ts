/**
 * Fault injection at every system call of every operation: `deno task test:faults`, as root.
 *
 *     --only=TEXT     the operations whose names hold the text
 *     --sample=N      N faults of each operation, chosen by --seed=N
 *     --jobs=N        how many operations at a time
 *     --save          puts the table into docs/trust.md; for a run of all of it
 *
 * @module
 */

import { parseArgs } from "node:util";
import { markdownTable, record } from "../trust.ts";
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

if (options.save && (options.only !== "" || options.sample !== undefined)) {
  throw new TypeError("--save is for a run of all of it: without --only and --sample");
}

const legend =
  `"worked": it did what it is for. "typed error": with its code and call, and nothing left. "told": its own clearing
up failed, it said so, and the next clean-up took what was left. "killed": nothing left after the next clean-up. "not
reached": the call did not come this time. "rules broken": anything else.`;

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
  const table = markdownTable(["operation", ...columns], [
    ...rows.map((row) => [row.operation, ...cells(row)]),
    ["all", ...totals(rows)],
  ]);
  await record(
    "faults",
    "A fault at every system call",
    `\`deno task test:faults --save\`: every system call that an operation makes was made to fail with
${faults.slice(0, -1).join(", ")} in turn, and the process was killed at it. It took ${seconds} s.

${table}

${legend}`,
  );
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
console.log(`\n${legend}`);
if (options.save) await save(rows, seconds);
Deno.exit(violated || rows.length === 0 ? 1 : 0);
