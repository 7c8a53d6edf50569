/**
 * Injects one fault at one call of an operation, and checks the result.
 *
 * @module
 */

import type { Bench } from "./bench.ts";
import type { Report } from "./child.ts";
import { type Look, without } from "./look.ts";
import { injectedCall, isStatmount, type Point } from "./points.ts";
import { Strace } from "./strace.ts";

/** The faults: an errno of the call, or SIGKILL at it. */
export const faults = ["EINTR", "ENOMEM", "EBUSY", "EPERM", "ENOSYS", "KILL"] as const;

/** Errors of a disk, for operations that write files. */
export const diskFaults = ["EIO", "ENOSPC"] as const;

/** A fault. */
export type Fault = typeof faults[number] | typeof diskFaults[number];

/** The results that the rules allow. */
export type Outcome =
  /** The operation succeeded, and could be undone. */
  | "worked"
  /** The operation failed with a typed error and left nothing behind. */
  | "typed error"
  /** The operation reported that its own clean-up failed, and the next clean-up removed the rest. */
  | "reported"
  /** The process was killed, and the next clean-up left nothing behind. */
  | "killed"
  /** The operation did not make the call this time. */
  | "not reached";

/** The result of a fault. */
export interface Verdict {
  /** The outcome; undefined if a rule was broken. */
  outcome?: Outcome;
  /** The broken rules, a sentence each. */
  violations: string[];
}

/** Runs the operation with the fault at the point. */
export async function harm(bench: Bench, point: Point, fault: Fault): Promise<Verdict> {
  try {
    await bench.subject();
    await bench.must("prepare");
    const { report, injected } = await run(bench, point, fault);
    if (report === undefined && !injected) { // another call of this name got the fault
      await bench.dismiss();
      await bench.cleanUp();
      return { outcome: "not reached", violations: [] };
    }
    const verdict = report === undefined
      ? await afterEnd(bench, fault)
      : report.error
      ? await afterError(bench, point, fault, report)
      : await afterSuccess(bench, point, fault, report);
    if (isStatmount(point)) await bench.dismiss(); // a seccomp filter can't be removed
    return injected || verdict.violations.length > 0 ? verdict : { outcome: "not reached", violations: [] };
  } catch (error) {
    await bench.dismiss();
    return { violations: [String(error)] };
  }
}

async function run(
  bench: Bench,
  point: Point,
  fault: Fault,
): Promise<{ report?: Report; injected: boolean }> {
  const subject = await bench.subject();
  if (isStatmount(point)) {
    await bench.must(fault);
    return { ...reported(await subject.request("run")), injected: true };
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
  const report = await subject.request("run");
  const calls = await strace.detach(report === undefined);
  const isKilled = report === undefined && fault === "KILL";
  const injected = isKilled || injectedCall(calls, bench.operation.calls) === "library";
  return { ...reported(report), injected };
}

const reported = (report?: Report) => report === undefined ? {} : { report };

async function afterEnd(bench: Bench, fault: Fault): Promise<Verdict> {
  await bench.dismiss();
  if (fault !== "KILL") {
    await bench.cleanUp();
    return { violations: ["the process ended, or did not answer"] };
  }
  await helpersEnd(bench);
  const failures = await bench.cleanUp();
  const left = await bench.differencesAfterKill();
  return left.length + failures.length > 0
    ? { violations: [...failures, ...left.map((line) => `after a clean-up, ${line}`)] }
    : { outcome: "killed", violations: [] };
}

/** Waits for the helpers of a killed process: they outlive it, and are not part of the clean-up. */
async function helpersEnd(bench: Bench): Promise<void> {
  const isHelper = (command: string) => /mount\.fuse|fusermount|sh -c|mkfs/.test(command);
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
  if (bench.operation.changes && !isStatmount(point)) {
    return await afterPartialChange(bench, point, fault, violations);
  }
  const left = await leftByFailure(bench);
  let outcome: Outcome = "typed error";
  if (left.length + warnings.length > 0) {
    const isReported = bench.operation.reports?.test(error?.message ?? "") ?? false;
    if (isReported || left.every((line) => mayStay(point, line))) outcome = "reported";
    else violations.push(...left.map((line) => `after the error "${error?.message}", ${line}`), ...warnings);
  }
  return await undone(bench, point, fault, outcome, violations);
}

/** Checks that a change that failed halfway is complete when it runs again. */
async function afterPartialChange(
  bench: Bench,
  point: Point,
  fault: Fault,
  violations: string[],
): Promise<Verdict> {
  await bench.must("run");
  const wrong = await bench.differencesTo(bench.looks.made);
  violations.push(...wrong.map((line) => `after running again, ${line}`));
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
    if (warnings.length > 0 && left.every((line) => mayStay(point, line))) outcome = "reported";
    else violations.push(...left.map((line) => `after success, ${line}`), ...warnings);
  }
  return await undone(bench, point, fault, outcome, violations);
}

/** Returns to the initial state: by the operation's reversal, then by the library's clean-ups if the rules allow it. */
async function undone(
  bench: Bench,
  point: Point,
  fault: Fault,
  outcome: Outcome,
  violations: string[],
): Promise<Verdict> {
  // The filter still refuses statmount(2).
  const { learns, takes } = bench.operation;
  const remembered = learns && (fault === "ENOSYS" || fault === "EPERM") ||
    isStatmount(point) && (learns || takes);
  if (!remembered) await bench.must("undo");
  if (outcome === "reported" || bench.operation.takes) violations.push(...await bench.cleanUp());
  if (point.call === "waitid") await bench.dismiss(); // a child that was not waited for is reaped with its parent
  const left = await bench.differencesTo(bench.looks.clean);
  violations.push(...left.map((line) => `at the end, ${line}`));
  if (violations.length === 0) return { outcome, violations };
  await bench.cleanUp();
  await bench.dismiss(); // the next fault starts with a new child
  return { violations };
}

/** The lines that a failure left behind; an unmount may have failed halfway. */
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
 * Whether a failed clean-up call may leave this: a temporary directory, until the next clean-up, or after waitid(2) a
 * zombie.
 */
function mayStay(point: Point, line: string): boolean {
  if (point.call === "waitid") return line === "processes: left a child ";
  return point.undoing && /left (\/)?temporary\/denomount-/.test(line);
}

/** The errno that the library gets: without statx(2), glibc's emulation returns EINVAL. */
const expectedCode = ({ call }: Point, fault: Fault) =>
  call === "statx" && fault === "ENOSYS" ? "EINVAL" : fault;

/** Why an error is not typed: it must have its code and its call, or name the required kernel version. */
function untyped(
  { name, message, code: own }: NonNullable<Report["error"]>,
  point: Point,
  fault: Fault,
): string[] {
  if (fault === "ENOSYS" && /Linux \d/.test(message)) return [];
  if (name === "RecordError") return []; // SQLite tells a sentence, and no errno
  const several = ["SuppressedError", "AggregateError"].includes(name);
  if (several && message.includes("the record ")) return [];
  const typed = several || ["MountError", "SyscallError", "BusyError"].includes(name);
  const [, call, errno] = /\((\w+): (E[A-Z0-9]+)\)$/.exec(message) ??
    /(?:^|: )(\w+)(?: '.*')?: [^:']* \((E[A-Z0-9]+)\)$/.exec(message) ?? [];
  const code = several ? errno : own;
  if (typed && call !== undefined && errno === code && code === expectedCode(point, fault)) {
    // An errno other than the injected one must come from the same call.
    if (code === fault || call === point.call) return [];
  }
  return [`the error is ${name} ${code ?? "without a code"}: ${message}`];
}
