/**
 * `denomount try`: a command whose writes are held back, and what it has changed.
 *
 * @module
 */

import { type Sandbox, sandbox } from "../linux/sandbox/mod.ts";
import { changesOf, diffLines, toJson, treeOf } from "./changes.ts";
import { runInBox } from "./in_box.ts";
import { print } from "./print.ts";
import { type BoxFlags, boxOptions } from "./sandbox.ts";

/** The options of `try`, as they are typed. */
export interface TryFlags extends BoxFlags {
  json?: true;
  diff?: true;
  all?: true;
  keep?: string;
  layer?: string;
}

/**
 * Runs a command with its writes held back, and prints what it has changed.
 *
 * @param command the program and its arguments.
 * @param flags what the box may do, and how the changes are printed and kept.
 * @returns the exit status of the command.
 */
export async function tryCommand(command: readonly string[], flags: TryFlags): Promise<number> {
  const { json, diff, all = false, keep, layer, ...box } = flags;
  const overlay = box.overlay ?? [box.cwd ?? "."];
  checkReport(flags, overlay.length);
  const options = await boxOptions({ ...box, overlay });
  const [program = "", ...args] = command;
  const { status, lines } = await runInBox({
    start: (signal) => sandbox({ ...options, signal }),
    spawn: (box, streams) => box.spawn(program, { ...streams, args }),
    hasTerminals: options.dev !== "host",
    printsToError: Boolean(json ?? diff),
    after: async (box) => {
      await store(box, keep, layer);
      const changes = await changesOf(box);
      if (json) return [toJson(changes)];
      return diff ? await diffLines(changes) : await treeOf(changes, { all });
    },
  });
  if (lines.length > 0) print(lines.join("\n"));
  return status;
}

/** Before the command runs: its work would be in vain. */
function checkReport({ json, diff, keep, layer }: TryFlags, overlays: number): void {
  if (json && diff) throw new TypeError("--json and --diff exclude each other");
  for (const [name, path] of [["--keep", keep], ["--layer", layer]] as const) {
    if (path !== undefined && overlays !== 1) throw new TypeError(`${name} goes with one --overlay`);
  }
  if (keep !== undefined && !isEmptyOrMissing(keep)) {
    throw new Error(`--keep: ${keep} is not an empty directory`);
  }
  if (layer !== undefined && exists(layer)) throw new Error(`--layer: ${layer} exists`);
}

function isEmptyOrMissing(path: string): boolean {
  try {
    return Deno.readDirSync(path)[Symbol.iterator]().next().done === true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    if (error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function store(box: Sandbox, keep: string | undefined, layer: string | undefined): Promise<void> {
  if (keep !== undefined) await box.keep(keep);
  if (layer === undefined) return;
  const file = await Deno.open(layer, { write: true, createNew: true });
  try {
    await box.exportLayer(file.writable);
  } catch (error) {
    await Deno.remove(layer).catch(() => {});
    throw error;
  }
}
