/**
 * Runs the tests as root in a mount namespace, and those that don't require root in a user namespace; without root, only
 * the second part. Passes its arguments to `deno test`. All tests together run in two lanes at once, of about the same
 * length: those of test/hang wait most of the time, so these, some others and the second part run beside the rest, and are
 * printed after it.
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
  /** What `deno test` says of the errors after the last test; empty without one. */
  errors: string;
  /** The files in their /tmp and the processes that the tests have left. */
  left: string[];
}

/** The mounts and loop devices, which must be the same after the tests. */
function machine(): string[] {
  const loops = [...Deno.readDirSync("/sys/block")].map(({ name }) => name)
    .filter((name) => name.startsWith("loop") && read(`/sys/block/${name}/loop/backing_file`) !== undefined);
  const mounts = Deno.readTextFileSync("/proc/self/mountinfo").trim().split("\n");
  return [...mounts.map((line) => `mount ${line}`), ...loops.map((name) => `loop device ${name}`)];
}

/** The text of a file; undefined if it or its process is gone. */
function read(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    const isGone = error instanceof Deno.errors.NotFound || /os error (3|22)\b/.test(`${error}`); // ESRCH; EINVAL of a zombie
    if (isGone) return undefined;
    throw error;
  }
}

/** The files and processes that tests have left: the processes are those with it mounted at /tmp. */
async function leftovers(temporary: string): Promise<string[]> {
  const files = [...Deno.readDirSync(temporary)].map(({ name }) => `file /tmp/${name}`);
  const processes = () =>
    [...Deno.readDirSync("/proc")].map(({ name }) => name).filter((pid) =>
      /^\d+$/.test(pid) && read(`/proc/${pid}/mountinfo`)?.includes(` ${temporary} `)
    ).map((pid) => `process ${pid} ${read(`/proc/${pid}/cmdline`)?.replaceAll("\0", " ").trim()}`);
  for (let tries = 0; tries < 50 && processes().length > 0; tries++) { // those that were killed may be ending
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return [...files, ...processes()];
}

/** Where a part of the tests prints to. */
type Print = (bytes: Uint8Array) => void | Promise<void>;

/** A part of the tests. */
interface Part {
  /** What is said of it. */
  readonly title: string;
  /** What stands behind the name of a file in the table of times. */
  readonly suffix: string;
  /** Whether it runs in a user namespace. */
  readonly userNamespace: boolean;
  /** The arguments of `deno test`. */
  readonly args: readonly string[];
}

/** Runs a part in namespaces and a /tmp of its own. */
async function pass(part: Part, print: Print): Promise<Result> {
  await print(new TextEncoder().encode(`${part.title}:\n`));
  const temporary = await Deno.makeTempDir({ prefix: "denomount-machine-" });
  try {
    await Deno.chmod(temporary, 0o1777);
    const result = await runTests(part, temporary, print);
    return { ...result, left: await leftovers(temporary) };
  } finally {
    await Deno.remove(temporary, { recursive: true });
  }
}

/** Runs a part, and ends it if a test is much later than it may be: then its thread is blocked in a system call. */
async function runTests(
  { suffix, userNamespace, args }: Part,
  temporary: string,
  print: Print,
): Promise<Omit<Result, "left">> {
  await using machine = await SharedMachine.start(userNamespace, temporary);
  const [report, heartbeat] = [`${temporary}/report`, `${temporary}/heartbeat`];
  for (const file of [report, heartbeat]) await Deno.writeTextFile(file, "");
  const child = machine.spawn([Deno.execPath(), "test", "-A", "--junit-path=/tmp/report", ...args], {
    DENOMOUNT_BESIDE: machine.beside.join(),
    DENOMOUNT_HEARTBEAT: "/tmp/heartbeat",
  });
  using _signals = forwardSignals(child);
  let ending: ReturnType<typeof setTimeout> | undefined;
  const watchdog = setInterval(() => {
    if (ending === undefined && isLate(heartbeat)) ending = end(child);
  }, 1000);
  const { times, errors } = await printAndTime(child.stdout, print);
  const files = times.map((time) => ({ part: suffix, ...time }));
  const { code, signal } = await child.status;
  if (signal !== null) console.error(`\nThe tests were ended by ${signal}.`);
  clearInterval(watchdog);
  clearTimeout(ending);
  const xml = await Deno.readTextFile(report);
  if (ending !== undefined) {
    for (const [, why] of xml.matchAll(/<failure message="(.*?)">/gs)) console.error(why);
  }
  for (const file of [report, heartbeat]) await Deno.remove(file);
  if (!userNamespace) await Deno.remove(`${temporary}/${SharedMachine.LOOP_CONTROL}`);
  const counted = totals(xml);
  // An error outside of a test is in no report.
  const failed = code !== 0 && counted.failed === 0 ? 1 : counted.failed;
  return { code, ...counted, failed, files, errors };
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

/** What `deno test` prints above the errors, in color or not. */
// deno-lint-ignore no-control-regex
const ERRORS = /^(\x1b\[[\d;]*m)* ERRORS (\x1b\[[\d;]*m)*$/;

/**
 * Prints the output of the tests; returns the time of each file (the report names the harness as the file of a test) and
 * what is said of the errors.
 */
async function printAndTime(
  output: ReadableStream<Uint8Array>,
  print: Print,
): Promise<{ times: FileTime[]; errors: string }> {
  const times: FileTime[] = [];
  const errors: string[] = [];
  let [line, start] = ["", performance.now()];
  const decoder = new TextDecoder();
  for await (const chunk of output) {
    await print(chunk);
    const lines = (line + decoder.decode(chunk, { stream: true })).split("\n");
    line = lines.pop() ?? "";
    for (const text of lines) {
      if (errors.length > 0 || ERRORS.test(text)) errors.push(text);
      const file = /running \d+ tests? from (?:\.\/)?(\S+?\.ts)/.exec(text)?.[1];
      if (file === undefined) continue;
      end();
      times.push({ file, seconds: 0 });
    }
  }
  end();
  return { times, errors: errors.join("\n") };

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

/** Runs lanes at once, and the parts of a lane one after the other; what the later lanes print waits for the first. */
async function runLanes(lanes: Part[][]): Promise<Result[]> {
  const held: Uint8Array[] = [];
  let isHeld = true;
  const hold = (bytes: Uint8Array) => isHeld ? void held.push(bytes) : writeAll(bytes);
  const running = lanes.map(async (parts, index) => {
    const results: Result[] = [];
    for (const part of parts) results.push(await pass(part, index === 0 ? writeAll : hold));
    if (index > 0) return results;
    for (const bytes of held) await writeAll(bytes); // those that come meanwhile too
    isHeld = false;
    return results;
  });
  return (await Promise.all(running)).flat();
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
const all = Deno.args.length === 0;
const args = all ? ["test/"] : Deno.args;
const withRoot = { title: "As root, in a mount namespace", suffix: "", userNamespace: false };
const withoutRoot = {
  title: "Without root, in a user namespace",
  suffix: ", without root",
  userNamespace: true,
  args,
};
const BESIDE = ["test/hang/", "test/sandbox/", "test/sandbox_changes/", "test/filesystem/", "test/use/"];
const lanes: Part[][] = !root ? [[withoutRoot]] : !all ? [[{ ...withRoot, args }, withoutRoot]] : [
  [{ ...withRoot, args: [`--ignore=${BESIDE.join()}`, ...args] }],
  [{ ...withRoot, title: `${withRoot.title}, beside the rest`, args: BESIDE }, withoutRoot],
];
if (!root) console.log("Not root: tests of loop devices and block file systems require sudo.");
const results = await runLanes(lanes);

const after = machine();
const left = [
  ...after.filter((line) => !before.includes(line)),
  ...results.flatMap((result) => result.left),
];
const gone = before.filter((line) => line.startsWith("mount ") && !after.includes(line));
printTimes(results.flatMap(({ files }) => files));
if (all) { // again: a long output is read from its end
  for (const { errors } of results) if (errors !== "") console.log(errors);
}
for (const line of left) console.error(`left behind: ${line}`);
for (const line of gone) console.error(`gone: ${line}`);
const sum = (key: keyof Totals) => results.reduce((all, result) => all + result[key], 0);
const [passed, failed, skipped] = [sum("passed"), sum("failed"), sum("skipped")];
const strict = Deno.env.get("CI") === "true";
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
const bad = results.some(({ code }) => code !== 0) || failed > 0 || passed === 0 ||
  left.length + gone.length > 0 ||
  (strict && skipped > 0);
Deno.exit(bad ? 1 : 0);
