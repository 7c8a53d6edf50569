/**
 * Runs the tests as root in a mount namespace, then those that don't require root in a user namespace; without root, only
 * the second part. Passes its arguments to `deno test`.
 *
 * @module
 */

import { obstacle, runIsolated } from "./isolated.ts";

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
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

async function pass(userNamespace: boolean, args: string[]): Promise<Totals & { code: number }> {
  const report = await Deno.makeTempFile({ prefix: "denomount-report-" });
  try {
    const command = [Deno.execPath(), "test", "-A", `--junit-path=${report}`, ...args];
    const code = await runIsolated(command, userNamespace);
    return { code, ...totals(await Deno.readTextFile(report)) };
  } finally {
    await Deno.remove(report);
  }
}

/** Counts the results; a JUnit report has one `<testcase>` for each top-level test. */
function totals(report: string): Totals {
  const count = (pattern: RegExp) => report.match(pattern)?.length ?? 0;
  const all = count(/<testcase /g);
  const failed = count(/<failure/g);
  const skipped = count(/<skipped/g);
  return { passed: all - failed - skipped, failed, skipped };
}

const root = Deno.uid() === 0;
const why = await obstacle(!root);
if (why !== undefined) {
  console.error(why);
  Deno.exit(1);
}
const before = machine();
const args = Deno.args.length > 0 ? Deno.args : ["test/"];
const results: (Totals & { code: number })[] = [];
if (root) {
  console.log("As root, in a private mount namespace:");
  results.push(await pass(false, args));
} else console.log("Not root: tests of loop devices and block file systems require sudo.");
console.log("Without root, in a user namespace:");
results.push(await pass(true, args));

const left = machine().filter((line) => !before.includes(line));
const gone = before.filter((line) => line.startsWith("mount ") && !machine().includes(line));
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
