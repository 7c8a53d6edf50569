/**
 * Injects faults at every system call of every operation, as root: `deno task test:faults`.
 *
 * @module
 */

import { Command } from "../../cli/commander.ts";
import { markdownTable, record } from "../trust.ts";
import { faults } from "./harm.ts";
import { type Row, runFaults } from "./run.ts";

interface Options {
  only: string;
  without?: string;
  sample?: string;
  seed: string;
  jobs: string;
  save?: true;
}

const options = new Command("deno task test:faults")
  .description("Injects errors and SIGKILL at every system call of every operation, as root.")
  .option("--only <text>", "only operations with names that contain the text", "")
  .option(
    "--without <text>",
    'no operations with names that contain the text: those of the "manager" take long',
  )
  .option("--sample <number>", "so many random faults of each operation")
  .option("--seed <number>", "repeats a sample", "1")
  .option("--jobs <number>", "how many operations run at once", `${navigator.hardwareConcurrency}`)
  .option("--save", "write the table to docs/trust.md; only for a complete run")
  .parse(Deno.args, { from: "user" })
  .opts<Options>();

if (options.save && (options.only !== "" || (options.without ?? options.sample) !== undefined)) {
  throw new TypeError("--save requires a complete run, without --only, --without and --sample");
}

const legend =
  `"worked": the operation succeeded. "typed error": it failed with an error that names its code and its call, and left
nothing behind. "reported": its own clean-up failed, it reported that, and the next clean-up removed the rest. "killed":
the next clean-up left nothing behind. "not reached": the operation did not make the call this time. "rules broken":
anything else.`;

const columns = [
  "points",
  "faults",
  "worked",
  "typed error",
  "reported",
  "killed",
  "not reached",
  "rules broken",
];

function line(name: string, cells: (string | number)[]): string {
  return name.padEnd(52) +
    cells.map((cell, index) => `${cell}`.padStart((columns[index]?.length ?? 0) + 2)).join("");
}

function cells({ points, tried, outcomes, violations }: Row): number[] {
  const { worked, reported, killed } = outcomes;
  return [
    points,
    tried,
    worked,
    outcomes["typed error"],
    reported,
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
    `\`deno task test:faults --save\`: each system call of each operation fails in turn with
${faults.slice(0, -2).join(", ")} and ${
      faults.at(-2)
    }, and the process is killed at it. The run took ${seconds} s.

${table}

${legend}`,
  );
}

const base = await Deno.makeTempDir({ prefix: "denomount-test-faults-" });
const started = performance.now();
const rows = await runFaults({
  base,
  only: options.only,
  ...options.without === undefined ? {} : { without: options.without },
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
if (!violated) await Deno.remove(base, { recursive: true }); // otherwise it may contain mounts

console.log(line("operation", columns));
for (const row of rows) console.log(line(row.operation, cells(row)));
console.log(line(`all, in ${seconds} s`, totals(rows)));
console.log(`\n${legend}`);
if (options.save) await save(rows, seconds);
Deno.exit(violated || rows.length === 0 ? 1 : 0);
