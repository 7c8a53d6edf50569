/**
 * Puts bugs into copies of the project, one at a time, and runs the tests that must notice each, after these tests have
 * passed without a bug. Prints a table of the rooms, and the mutants that survived.
 *
 *     deno task test:mutants [--only TEXT] [--jobs 2] [--fresh] [--timeout 120] [--twice]
 *
 * Results are kept in .mutants/results.jsonl, so that a run that was ended goes on; a mutant runs again if its file, its
 * tests or itself have changed, or if it ran out of a shorter time. --fresh runs all of them.
 * --twice runs a mutant until the same test notices it twice in a row: on a busy machine a test may fail by chance.
 *
 * @module
 */

import { Command } from "../../cli/commander.ts";
import { Cgroup, keepNamespace, TemporaryNames } from "./leftovers.ts";
import { type Mutant, mutate, type Outcome } from "./mutant.ts";
import { rooms } from "./rooms.ts";

interface Options {
  only: string;
  jobs: string;
  timeout: string;
  fresh?: true;
  twice?: true;
}

const values = new Command("deno task test:mutants")
  .description(
    "Puts bugs into copies of the project, one at a time, and runs the tests that must notice each.",
  )
  .option("--only <text>", "only the mutants of rooms, files and names that contain the text", "")
  .option("--jobs <number>", "how many run at once", "2")
  .option("--timeout <seconds>", "how long the tests of a mutant may take", "120")
  .option("--fresh", "run also those whose result is known")
  .option("--twice", "run a mutant until the same test notices it twice in a row")
  .parse(Deno.args, { from: "user" })
  .opts<Options>();
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => stop.abort());
const project = new URL("../..", import.meta.url).pathname;
const state = `${project}.mutants`;
const log = `${state}/results.jsonl`;

interface Job {
  room: string;
  mutant: Mutant;
  key: string;
}

interface Result {
  key: string;
  outcome: Outcome;
  seconds: number;
  /** The test that noticed it. */
  by: string;
  /** The first line of its error. */
  why: string;
}

/** Changes with everything that decides the outcome. */
async function keyOf(mutant: Mutant): Promise<string> {
  const files = [mutant.file, ...mutant.tests].map((file) => Deno.readTextFileSync(project + file));
  const text = JSON.stringify([mutant.find, mutant.replace, ...files]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `${mutant.file} ${mutant.name} ${new Uint8Array(digest).slice(0, 8).toHex()}`;
}

function readResults(): Map<string, Result> {
  if (values.fresh) return new Map();
  try {
    const lines = Deno.readTextFileSync(log).trim().split("\n").filter((line) => line !== "");
    return new Map(lines.map((line) => JSON.parse(line) as Result).map((result) => [result.key, result]));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Map();
    throw error;
  }
}

/** A mutant that ran out of its time under load may be killed by a test within a longer one. */
function isKnown(key: string): boolean {
  const result = results.get(key);
  return result !== undefined && (result.outcome !== "timeout" || result.seconds >= Number(values.timeout));
}

/** A copy of the project, in which one job at a time runs. */
async function makeCopy(index: number): Promise<string> {
  const copy = `${state}/copy-${index}`;
  await run("rm", ["-rf", copy]);
  await Deno.mkdir(copy, { recursive: true });
  await run("sh", [
    "-c",
    `git -C "$0" ls-files -co --exclude-standard | tar -C "$0" -cf - -T - | tar -C "$1" -xf -`,
    project,
    copy,
  ]);
  await run("ln", ["-sfn", `${project}../shared`, `${state}/shared`]); // the tests' containerd is beside the project
  return copy;
}

/** Does something with each item, in as many copies as there are jobs. */
async function inCopies<T>(items: readonly T[], fn: (copy: string, item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const jobs = Math.min(Number(values.jobs), items.length);
  await Promise.all(Array.from({ length: jobs }, async (_, index) => {
    const copy = await makeCopy(index);
    for (const item of queue) { // the jobs share one iterator
      await fn(copy, item);
      if (stop.signal.aborted) break;
    }
    await run("rm", ["-rf", "--one-file-system", copy]);
  }));
}

async function run(program: string, args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { args, stderr: "piped" }).output();
  if (!success) throw new Error(`${program} failed: ${new TextDecoder().decode(stderr)}`);
}

/** Runs test files in a copy, in a mount namespace with a /tmp of its own; leaves no process and no loop device. */
async function runTests(copy: string, tests: readonly string[]): Promise<Omit<Result, "key" | "seconds">> {
  await run("rm", ["-rf", "--one-file-system", `${copy}/tmp`]);
  await Deno.mkdir(`${copy}/tmp`);
  await using temporary = new TemporaryNames(`${copy}/tmp`);
  const cgroup = await Cgroup.create(`denomount-mutants${copy.replaceAll("/", "-")}`);
  // With a node of its own: the lock of /dev/loop-control is one of its inode, which other runs wait for.
  const script = `mount --bind "$0/tmp" /tmp && mknod /tmp/control c 10 237 &&
    mount --bind /tmp/control /dev/loop-control && cd "$0" && exec "$@"`;
  const unshare = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, copy];
  const test = [Deno.execPath(), "test", "-A", "--no-check", "--fail-fast", ...tests];
  const [program, ...args] = cgroup.command(...unshare, "timeout", "--kill-after=5", values.timeout, ...test);
  const child = new Deno.Command(program, {
    args,
    env: { NO_COLOR: "1", CI: "false" },
    stdin: "null",
    stdout: "piped",
    stderr: "null",
    signal: stop.signal,
  }).spawn();
  const stdout = new Response(child.stdout).text(); // it ends with the last process that holds the pipe
  using _namespace = await keepNamespace(child.pid);
  const { code } = await child.status;
  await cgroup.kill();
  await temporary.detachLoops();
  if (code === 0) return { outcome: "survived", by: "", why: "" };
  const text = await stdout;
  const failed = /^(.+) => \.\/test\//m.exec(text);
  const isLate = code === 124 || code === 137;
  return {
    outcome: isLate ? "timeout" : "killed",
    by: failed?.[1] ?? (isLate ? "its time" : "no test: it does not load"),
    why: /^error: (.*)$/m.exec(text)?.[1] ?? "",
  };
}

async function runJob(copy: string, { mutant, key }: Job): Promise<Result> {
  const path = `${copy}/${mutant.file}`;
  const text = await Deno.readTextFile(project + mutant.file);
  const start = performance.now();
  await Deno.writeTextFile(path, mutate(text, mutant));
  try {
    let result = await runTests(copy, mutant.tests);
    let before = "";
    while (values.twice && result.outcome === "killed" && result.by !== before && !stop.signal.aborted) {
      before = result.by;
      result = await runTests(copy, mutant.tests);
    }
    return { key, ...result, seconds: Math.round((performance.now() - start) / 100) / 10 };
  } finally {
    await Deno.writeTextFile(path, text);
  }
}

function table(jobs: readonly Job[], results: ReadonlyMap<string, Result>): string {
  const lines = [["room", "mutants", "killed", "survived", "equivalent", "noticed"]];
  for (const [room, all] of Map.groupBy(jobs, (job) => job.room)) {
    const equivalent = all.filter(({ mutant }) => mutant.equivalent !== undefined).length;
    const outcomes = all.filter(({ mutant }) => mutant.equivalent === undefined).map(({ key }) =>
      results.get(key)?.outcome
    );
    const survived = outcomes.filter((outcome) => outcome === "survived").length;
    const killed = outcomes.filter((outcome) => outcome === "killed" || outcome === "timeout").length;
    const share = killed + survived === 0 ? "" : `${Math.round(killed / (killed + survived) * 100)} %`;
    lines.push([room, `${all.length}`, `${killed}`, `${survived}`, `${equivalent}`, share]);
  }
  return lines.map(([room = "", ...numbers]) =>
    room.padEnd(24) + numbers.map((number) => number.padStart(11)).join("")
  ).join("\n");
}

const jobs: Job[] = [];
for (const { room, mutants } of rooms) {
  for (const mutant of mutants) {
    mutate(await Deno.readTextFile(project + mutant.file), mutant); // a text that has changed is reported before any run
    jobs.push({ room, mutant, key: await keyOf(mutant) });
  }
}
await Deno.mkdir(state, { recursive: true });
const results = readResults();
const chosen = jobs.filter(({ room, mutant, key }) =>
  `${room} ${mutant.file} ${mutant.name}`.includes(values.only) && mutant.equivalent === undefined &&
  !isKnown(key)
);
const files = [...new Set(chosen.flatMap(({ mutant }) => mutant.tests))];
let done = 0;
const broken = new Map<string, string>();
await inCopies(files, async (copy, file) => {
  const { outcome, by } = await runTests(copy, [file]);
  if (outcome !== "survived" && !stop.signal.aborted) broken.set(file, by);
});
const sound = chosen.filter(({ mutant }) => !mutant.tests.some((file) => broken.has(file)));
await inCopies(stop.signal.aborted ? [] : sound, async (copy, job) => {
  const result = await runJob(copy, job);
  if (stop.signal.aborted) return; // the signal has ended the tests
  results.set(job.key, result);
  await Deno.writeTextFile(log, JSON.stringify(result) + "\n", { append: true });
  console.log(
    `${++done}/${sound.length} ${result.outcome} in ${result.seconds} s: ${job.mutant.file}: ${job.mutant.name}` +
      (result.by === "" ? "" : ` (${result.by})`),
  );
});
console.log(`\n${table(jobs, results)}`);
const survivors = jobs.filter(({ key }) => results.get(key)?.outcome === "survived");
for (const { room, mutant } of survivors) {
  console.log(`survived: ${room}: ${mutant.file}: ${mutant.name}: ${mutant.rule}`);
}
const equivalents = jobs.filter(({ mutant }) => mutant.equivalent !== undefined);
for (const { mutant } of equivalents) {
  console.log(`equivalent: ${mutant.file}: ${mutant.name}: ${mutant.equivalent}`);
}
for (const [file, by] of broken) {
  console.log(`not run: the mutants of ${file}, which fails without one: ${by}`);
}
Deno.exit(stop.signal.aborted ? 130 : survivors.length + broken.size > 0 ? 1 : 0);
