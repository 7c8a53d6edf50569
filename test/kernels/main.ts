/**
 * Runs the tests on other kernels, and on another architecture, in virtual machines that QEMU emulates.
 *
 *     deno task test:kernels --only 5.10 --tests core
 *
 * @module
 */

import { cachePath } from "../cache.ts";
import { Command, Option } from "../../cli/commander.ts";
import { boot, type Directories } from "./boot.ts";
import type { Result } from "./protocol.ts";
import { report, type Row } from "./report.ts";
import { type Target, targets } from "./target.ts";
import { testFiles } from "./tests.ts";

interface Options {
  only?: string;
  tests: "core" | "all";
  timeout: string;
  verbose?: true;
  save?: true;
}

const command = new Command("deno task test:kernels")
  .description("Boots Debian's kernels in QEMU and runs the tests there.")
  .argument("[files...]", "test files, instead of a set")
  .addOption(new Option("--only <kernel>", "only this kernel").choices(targets.map(({ name }) => name)))
  .addOption(new Option("--tests <set>", "the set of tests").choices(["core", "all"]).default("all"))
  .option("--timeout <seconds>", "timeout of the tests on each kernel", "1800")
  .option("--verbose", "print the output of each guest")
  .option("--save", "write the table to docs/trust.md")
  .parse(Deno.args, { from: "user" });
const options = command.opts<Options>();

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => stop.abort());

const directories: Directories = {
  cache: cachePath("denomount-kernels"),
  project: new URL("../..", import.meta.url).pathname.replace(/\/$/, ""),
};
const tests = command.args.length > 0 ? command.args : testFiles(options.tests, directories.project);

/** Runs the tests on one kernel, and prints the result. */
async function attempt(target: Target): Promise<Row> {
  const lines: string[] = [];
  const onLine = (line: string) => {
    lines.push(line);
    if (options.verbose) console.log(`${target.name} | ${line}`);
  };
  try {
    const seconds = Number(options.timeout);
    const result = await boot(target, directories, { job: { tests }, seconds, signal: stop.signal, onLine });
    if (result === undefined) {
      console.log(`${target.name}: skipped, ${target.suite ?? "this Debian release"} has no such kernel`);
    } else printResult(target, result, lines);
    return { target, result };
  } catch (error) {
    if (!stop.signal.aborted) {
      console.error(`${target.name}: ${error instanceof Error ? error.message : error}`);
    }
    return { target, result: "failed" };
  }
}

function printResult(
  target: Target,
  { machine, passed, failed, seconds, good }: Result,
  lines: string[],
): void {
  if (!good && !options.verbose) { for (const line of lines) console.log(`${target.name} | ${line}`); }
  const where = `Linux ${machine.kernel}, ${machine.architecture}`;
  console.log(`${target.name}: ${passed} tests passed, ${failed} failed in ${seconds} s on ${where}`);
  for (const { name, note } of machine.missing) console.log(`    without ${name}: ${note}`);
}

const rows: Row[] = [];
for (const target of targets) {
  if (stop.signal.aborted) Deno.exit(130);
  if (options.only === undefined || options.only === target.name) rows.push(await attempt(target));
}
if (options.save) await report(rows, options.tests);
const ran = rows.filter(({ result }) => result !== undefined);
const bad = ran.length === 0 || ran.some(({ result }) => result === "failed" || result?.good !== true);
Deno.exit(bad ? 1 : 0);
