/**
 * Writes the section of docs/trust.md about kernels.
 *
 * @module
 */

import { markdownTable, record } from "../trust.ts";
import type { Result } from "./protocol.ts";
import type { Target } from "./target.ts";

/** A kernel and its result: undefined if its suite has no such kernel, "failed" if the guest ended before its tests. */
export interface Row {
  /** The kernel. */
  target: Target;
  /** The result. */
  result: Result | "failed" | undefined;
}

/**
 * Writes the section.
 *
 * @param rows the kernels.
 * @param set the set of tests that ran.
 */
export async function report(rows: readonly Row[], set: string): Promise<void> {
  const table = markdownTable(["kernel", "architecture", "passed", "failed", "seconds"], rows.map(cells));
  const text =
    `In emulated machines, each with its own kernel. Again with: \`deno task test:kernels --tests ${set}\`.`;
  await record("kernels", "Old kernels", [text, table, ...rows.flatMap(missing)].join("\n\n"));
}

function cells({ target, result }: Row): (string | number)[] {
  const { name, architecture } = target;
  if (result === undefined) return [`${name}: not in its Debian suite`, architecture.deno, "", "", ""];
  if (result === "failed") return [name, architecture.deno, "", "not ended", ""];
  return [result.machine.kernel, result.machine.architecture, result.passed, result.failed, result.seconds];
}

function missing({ result }: Row): string[] {
  if (result === undefined || result === "failed") return [];
  const { kernel, architecture, missing } = result.machine;
  const lines = missing.map(({ name, note }) => `- ${name}: ${note}`);
  return [`What Linux ${kernel} (${architecture}) lacks, and what is done instead:\n\n${lines.join("\n")}`];
}
