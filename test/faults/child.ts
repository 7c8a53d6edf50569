/**
 * The process that gets the faults: runs the steps of an operation on request, and reports their results.
 *
 *     deno run -A test/faults/child.ts OPERATION DIRECTORY
 *
 * @module
 */

import { hasFeature } from "../../linux/syscalls/features.ts";
import { setTempMountLocation } from "../../mod.ts";
import { everyFeature, type Operation, operations } from "./operations.ts";
import { refuse } from "./seccomp.ts";

/** The result of a step. */
export interface Report {
  /** The fields of its error. */
  error?: { name: string; message: string; code?: string };
  /** The messages that it wrote with console.warn. */
  warnings: string[];
}

const [name = "", dir = ""] = Deno.args;
const operation = operations(dir).find((operation) => operation.name === name);
if (operation === undefined) throw new Error(`unknown operation "${name}"`);

const warnings: string[] = [];
console.warn = (...words: unknown[]) => warnings.push(words.join(" "));

/** Runs everything once, so that modules are loaded, features probed and threads started. */
async function warmUp({ prepare, run, undo }: Operation): Promise<void> {
  await setTempMountLocation(`${dir}/temporary`);
  for (const feature of everyFeature) hasFeature(feature);
  await prepare?.();
  await run();
  await undo?.();
}

async function attempt(step: () => Promise<void> | void): Promise<Report> {
  try {
    await step();
    return { warnings: warnings.splice(0) };
  } catch (error) {
    const { name, message, code } = error as Error & { code?: string };
    return {
      error: { name, message, ...(code === undefined ? {} : { code }) },
      warnings: warnings.splice(0),
    };
  }
}

function steps(command: string): () => Promise<void> | void {
  switch (command) {
    case "prepare":
      return () => operation?.prepare?.();
    case "run":
      return () => operation?.run();
    case "undo":
      return () => operation?.undo?.();
    default:
      return () => refuse(command);
  }
}

/** Writes a report with one write(2): the parent reads whole lines. */
function send(report: Report): void {
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(report) + "\n"));
}

send(await attempt(() => warmUp(operation)));
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  send(await attempt(steps(text.trim())));
}
