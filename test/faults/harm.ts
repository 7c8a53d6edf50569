/**
 * One fault at one point, and the verdict on what came of it.
 *
 * @module
 */

import type { Bench } from "./bench.ts";
import type { Report } from "./child.ts";
import { type Look, without } from "./look.ts";
import { hit, isStatmount, type Point } from "./points.ts";
import { Strace } from "./strace.ts";

/** What is done to a call. */
export const faults = ["EINTR", "ENOMEM", "EBUSY", "EPERM", "ENOSYS", "KILL"] as const;

/** One of them. */
export type Fault = typeof faults[number];

/** What may come of a fault. */
export type Outcome =
  /** The operation did what it is for, and could be undone. */
  | "worked"
  /** A typed error, and nothing left. */
  | "typed error"
  /** Its own clearing up failed, it said so, and the next clean-up took what was left. */
  | "told"
  /** Killed, and nothing left that the next clean-up did not take. */
  | "killed"
  /** The call did not come this time. */
  | "not reached";

/** What came of a fault. */
export interface Verdict {
  /** What came of it; undefined where the rules were broken. */
  outcome?: Outcome;
  /** What is against the rules. */
  violations: string[];
}

/** Harms the operation on the bench. */
export async function harm(bench: Bench, point: Point, fault: Fault): Promise<Verdict> {
  try {
    await bench.subject();
    await bench.must("prepare");
    const { report, struck } = await run(bench, point, fault);
    const verdict = report === undefined
      ? await afterEnd(bench, fault)
      : report.error
      ? await afterError(bench, point, fault, report)
      : await afterSuccess(bench, point, fault, report);
    if (isStatmount(point)) await bench.dismiss(); // its filter can't be taken off
    return struck || verdict.violations.length > 0 ? verdict : { outcome: "not reached", violations: [] };
  } catch (error) {
    await bench.dismiss();
    return { violations: [String(error)] };
  }
}

async function run(bench: Bench, point: Point, fault: Fault): Promise<{ report?: Report; struck: boolean }> {
  const subject = await bench.subject();
  if (isStatmount(point)) {
    await bench.must(fault);
    return { ...reported(await subject.tell("run")), struck: true };
  }
  const { call, nth, threads } = point;
  const how = fault === "KILL" ? "signal=KILL" : `error=${fault}`;
  const inject = `--inject=${call}:${how}:when=${nth}`;
  const strace = await Strace.attach(
    subject.pid,
    threads,
    [`--trace=${call}`, inject],
    `${bench.dir}/strace`,
  );
  const report = await subject.tell("run");
  const calls = await strace.detach(report === undefined);
  const struck = report === undefined || hit(calls) === "ours";
  return { ...reported(report), struck };
}

const reported = (report?: Report) => report === undefined ? {} : { report };

async function afterEnd(bench: Bench, fault: Fault): Promise<Verdict> {
  await bench.dismiss();
  if (fault !== "KILL") {
    await bench.cleanUp();
    return { violations: ["the process ended, or gave no answer"] };
  }
  await helpersEnd(bench);
  const failures = await bench.cleanUp();
  const left = await bench.differencesAfterKill();
  return left.length + failures.length > 0
    ? { violations: [...failures, ...left.map((line) => `after a clean-up, ${line}`)] }
    : { outcome: "killed", violations: [] };
}

/** A helper that was started goes on by itself; it is let come to its end, and is not part of what is cleaned. */
async function helpersEnd(bench: Bench): Promise<void> {
  const isHelper = (command: string) => /mount\.fuse|fusermount|sh -c/.test(command);
  for (let tries = 0; tries < 100 && bench.look().processes.some(isHelper); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function afterError(
  bench: Bench,
  point: Point,
  fault: Fault,
  { error, warnings }: Report,
): Promise<Verdict> {
  const violations = error === undefined ? [] : untyped(error, point, fault);
  if (bench.operation.changes && !isStatmount(point)) return await afterHalf(bench, point, fault, violations);
  const left = await leftByFailure(bench);
  let outcome: Outcome = "typed error";
  if (left.length + warnings.length > 0) {
    if (left.every((line) => mayStay(point, line))) outcome = "told";
    else violations.push(...left.map((line) => `after the error "${error?.message}", ${line}`), ...warnings);
  }
  return await undone(bench, point, fault, outcome, violations);
}

/** A change that may be half done is done when it is made again. */
async function afterHalf(bench: Bench, point: Point, fault: Fault, violations: string[]): Promise<Verdict> {
  await bench.must("run");
  const wrong = await bench.differencesTo(bench.looks.made);
  violations.push(...wrong.map((line) => `made again, ${line}`));
  return await undone(bench, point, fault, "typed error", violations);
}

async function afterSuccess(
  bench: Bench,
  point: Point,
  fault: Fault,
  { warnings }: Report,
): Promise<Verdict> {
  const violations: string[] = [];
  const left = await bench.differencesTo(bench.looks.made);
  let outcome: Outcome = "worked";
  if (left.length + warnings.length > 0) {
    if (warnings.length > 0 && left.every((line) => mayStay(point, line))) outcome = "told";
    else violations.push(...left.map((line) => `it said that it worked, but ${line}`), ...warnings);
  }
  return await undone(bench, point, fault, outcome, violations);
}

/** Back to the beginning: by the operation's own reverse, then by the library's clean-ups where that is the rule. */
async function undone(
  bench: Bench,
  point: Point,
  fault: Fault,
  outcome: Outcome,
  violations: string[],
): Promise<Verdict> {
  // The filter that refuses statmount(2) still does.
  const remembered = bench.operation.learns &&
    (fault === "ENOSYS" || fault === "EPERM" || isStatmount(point));
  if (!remembered) await bench.must("undo");
  if (outcome === "told" || bench.operation.takes) violations.push(...await bench.cleanUp());
  if (point.call === "waitid") await bench.dismiss(); // the exit status goes with the one that it is for
  const left = await bench.differencesTo(bench.looks.clean);
  violations.push(...left.map((line) => `at the end, ${line}`));
  if (violations.length === 0) return { outcome, violations };
  await bench.cleanUp();
  await bench.dismiss(); // the next one begins with a child that has nothing to its name
  return { violations };
}

/** What is there after a failure and was not before; taking off may have got half way. */
async function leftByFailure(bench: Bench): Promise<string[]> {
  const { prepared } = bench.looks;
  const left = await bench.differencesTo(prepared, bench.operation.takes ? 100 : undefined);
  if (!bench.operation.takes) return left;
  const found = bench.look();
  return left.length === 0 ? [] : Object.keys(prepared).flatMap((kind) => {
    const key = kind as keyof Look;
    return without(found[key], prepared[key]).map((line) => `${kind}: left ${line}`);
  });
}

/**
 * What a failure of the very call that takes something away may leave: a temporary place, to the next clean-up, and
 * where the call is waitid(2) itself, an ended child of which nothing is there but its exit status.
 */
function mayStay(point: Point, line: string): boolean {
  if (point.call === "waitid") return line === "processes: left a child ";
  return point.undoing && /left (\/)?temporary\/denomount-/.test(line);
}

/** Without statx(2), glibc does without what no older call can do, and says EINVAL. */
const said = ({ call }: Point, fault: Fault) => call === "statx" && fault === "ENOSYS" ? "EINVAL" : fault;

/** What is wrong with an error: it has the code and the call, or names the kernel that is needed. */
function untyped(
  { name, message, code }: NonNullable<Report["error"]>,
  point: Point,
  fault: Fault,
): string[] {
  if (fault === "ENOSYS" && /Linux \d/.test(message)) return [];
  const typed = name === "MountError" || name === "SyscallError";
  const [, call, told] = /\((\w+): (E[A-Z0-9]+)\)$/.exec(message) ??
    /(?:^|: )(\w+)(?: '.*')?: [^:']* \((E[A-Z0-9]+)\)$/.exec(message) ?? [];
  if (typed && call !== undefined && told === code && code === said(point, fault)) {
    // An errno that is not the injected one must at least be that call's own.
    if (code === fault || call === point.call) return [];
  }
  return [`the error is ${name} ${code ?? "without a code"}: ${message}`];
}
