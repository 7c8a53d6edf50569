/**
 * Runs the tests as root in a mount namespace, then those that don't require root in a user namespace; without root, only
 * the second part. Passes its arguments to `deno test`.
 *
 * @module
 */

import { killDescendants, waits } from "../test/kernel.ts";
import { forwardSignals, obstacle } from "./isolated.ts";
import { SharedMachine } from "./machine.ts";

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

interface FileTime {
  file: string;
  seconds: number;
}

interface Result extends Totals {
  code: number;
  files: (FileTime & { part: string })[];
}

/** The mounts, loop devices, temporary files and processes, which must be the same after the tests. */
function machine(): string[] {
  const loops = [...Deno.readDirSync("/sys/block")].map(({ name }) => name)
    .filter((name) => name.startsWith("loop") && exists(`/sys/block/${name}/loop/backing_file`));
  const temporary = [...Deno.readDirSync("/tmp")].map(({ name }) => name).filter((name) =>
    name.startsWith("denomount")
  );
  const mounts = Deno.readTextFileSync("/proc/self/mountinfo").trim().split("\n");
  return [
    ...mounts.map((line) => `mount ${line}`),
    ...loops.map((name) => `loop device ${name}`),
    ...temporary.map((name) => `file /tmp/${name}`),
    ...processes().map((line) => `process ${line}`),
  ];
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path) !== undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** FUSE servers and helpers, found by their command lines because they outlive the process that started them. */
function processes(): string[] {
  const found: string[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const command = Deno.readTextFileSync(`/proc/${name}/cmdline`).replaceAll("\0", " ").trim();
      if (/denomount-test|bindfs|fuse-overlayfs/.test(command)) found.push(`${name} ${command}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound) && !String(error).includes("os error 3")) throw error; // the process ended
    }
  }
  return found;
}

/** Runs the tests, and ends them if a test is much later than it may be: then its thread is blocked in a system call. */
async function pass(part: string, userNamespace: boolean, args: string[]): Promise<Result> {
  const report = await Deno.makeTempFile({ prefix: "denomount-report-" });
  const heartbeat = await Deno.makeTempFile({ prefix: "denomount-heartbeat-" });
  try {
    await using machine = await SharedMachine.start(userNamespace);
    const child = machine.spawn([Deno.execPath(), "test", "-A", `--junit-path=${report}`, ...args], {
      DENOMOUNT_BESIDE: machine.beside.join(),
      DENOMOUNT_HEARTBEAT: heartbeat,
    });
    using _signals = forwardSignals(child);
    let ending: ReturnType<typeof setTimeout> | undefined;
    const watchdog = setInterval(() => {
      if (ending === undefined && isLate(heartbeat)) ending = end(child);
    }, 1000);
    const files = (await printAndTime(child.stdout)).map((time) => ({ part, ...time }));
    const { code, signal } = await child.status;
    if (signal !== null) console.error(`\nThe tests were ended by ${signal}.`);
    clearInterval(watchdog);
    clearTimeout(ending);
    const xml = await Deno.readTextFile(report);
    if (ending !== undefined) {
      for (const [, why] of xml.matchAll(/<failure message="(.*?)">/gs)) console.error(why);
    }
    return { code, ...totals(xml), files };
  } finally {
    await Deno.remove(report);
    await Deno.remove(heartbeat);
  }
}

/** Whether the test that the harness has named last must have ended. */
function isLate(heartbeat: string): boolean {
  const text = Deno.readTextFileSync(heartbeat);
  if (text === "") return false; // no test of the harness has started
  const { test, end }: { test: string; end: number } = JSON.parse(text);
  if (Date.now() < end) return false;
  console.error(`\nThe tests are ended: ${test} did not end in time.`);
  return true;
}

/** Says what the tests wait for, and ends them: with their report, or else with the timer that is returned. */
function end(tests: Deno.ChildProcess): ReturnType<typeof setTimeout> {
  console.error("They waited with");
  for (const line of waits(tests.pid)) console.error(`  ${line}`);
  killDescendants(tests.pid);
  tests.kill("SIGINT");
  return setTimeout(() => tests.kill("SIGKILL"), 10_000);
}

/** Counts the results; a JUnit report has one `<testcase>` for each top-level test. */
function totals(report: string): Totals {
  const count = (pattern: RegExp) => report.match(pattern)?.length ?? 0;
  const all = count(/<testcase /g);
  const failed = count(/<failure/g);
  const skipped = count(/<skipped/g);
  return { passed: all - failed - skipped, failed, skipped };
}

/** Prints the output of the tests, and returns the time of each file: the report names the harness as the file of a test. */
async function printAndTime(output: ReadableStream<Uint8Array>): Promise<FileTime[]> {
  const times: FileTime[] = [];
  let [line, start] = ["", performance.now()];
  const decoder = new TextDecoder();
  for await (const chunk of output) {
    await writeAll(chunk);
    const lines = (line + decoder.decode(chunk, { stream: true })).split("\n");
    line = lines.pop() ?? "";
    for (const text of lines) {
      const file = /running \d+ tests? from (?:\.\/)?(\S+?\.ts)/.exec(text)?.[1];
      if (file === undefined) continue;
      end();
      times.push({ file, seconds: 0 });
    }
  }
  end();
  return times;

  function end(): void {
    const last = times.at(-1);
    const now = performance.now();
    if (last !== undefined) last.seconds = (now - start) / 1000;
    start = now;
  }
}

/** Writes bytes to the standard output. */
async function writeAll(bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await Deno.stdout.write(bytes.subarray(written));
}

/** Prints the files that take a second or longer, the slowest first. */
function printTimes(times: (FileTime & { part: string })[]): void {
  console.log(
    "The seconds of each test file that takes one or more:",
  );
  for (const { part, file, seconds } of times.toSorted((a, b) => b.seconds - a.seconds)) {
    if (seconds >= 1) console.log(`${seconds.toFixed(1).padStart(8)}  ${file}${part}`);
  }
}

const root = Deno.uid() === 0;
const why = await obstacle(!root);
if (why !== undefined) {
  console.error(why);
  Deno.exit(1);
}
const before = machine();
const args = Deno.args.length > 0 ? Deno.args : ["test/"];
const results: Result[] = [];
if (root) {
  console.log("As root, in a mount namespace:");
  results.push(await pass("", false, args));
} else console.log("Not root: tests of loop devices and block file systems require sudo.");
console.log("Without root, in a user namespace:");
results.push(await pass(", without root", true, args));

const left = machine().filter((line) => !before.includes(line));
const gone = before.filter((line) => line.startsWith("mount ") && !machine().includes(line));
for (const line of left) console.error(`left behind: ${line}`);
for (const line of gone) console.error(`gone: ${line}`);

printTimes(results.flatMap(({ files }) => files));
const sum = (key: keyof Totals) => results.reduce((all, result) => all + result[key], 0);
const [passed, failed, skipped] = [sum("passed"), sum("failed"), sum("skipped")];
const strict = Deno.env.get("CI") === "true";
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
const bad = results.some(({ code }) => code !== 0) || failed > 0 || passed === 0 ||
  left.length + gone.length > 0 ||
  (strict && skipped > 0);
Deno.exit(bad ? 1 : 0);
