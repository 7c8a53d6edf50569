/**
 * Changes made for real: below an overlay, where it only showed them.
 *
 * @module
 */

import { isErrno, llistxattr, lremovexattr } from "../linux/mod.ts";
import { dirname } from "../linux/path/path.ts";
import type { Change } from "./changes.ts";
import { runCommand } from "./self.ts";

/**
 * Makes the changes.
 *
 * @param changes the changes, a directory before what is in it.
 * @param root where to make them.
 */
export async function applyChanges(changes: readonly Change[], root: string): Promise<void> {
  for (const { path, kind, replaces } of changes) {
    if (kind === "deleted" || replaces) removeIfThere(`${root}${path}`);
  }
  const present = changes.filter(({ kind }) => kind !== "deleted");
  const copied = [...topmostCopies(present)];
  for (const { path } of present.filter(isChangedDirectory)) {
    Deno.mkdirSync(`${root}${path}`, { recursive: true });
  }
  for (const [directory, group] of Map.groupBy(copied, ({ path }) => dirname(path))) {
    Deno.mkdirSync(`${root}${directory}`, { recursive: true });
    await copy(group.map(({ content }) => content), `${root}${directory}`);
  }
  for (const { path } of present) withoutOverlayAttributes(`${root}${path}`);
  for (const change of present.toReversed()) { // after what is in it, or its time would change again
    if (isChangedDirectory(change)) await copyAttributes(change.content, `${root}${change.path}`);
  }
}

/** A directory that was there before, and got another owner or mode. */
function isChangedDirectory({ kind, isDirectory, replaces }: Change): boolean {
  return isDirectory && kind === "changed" && !replaces;
}

/** What is to be copied, and not what goes with a new directory; of a directory that was there, only what is in it. */
function* topmostCopies(changes: readonly Change[]): Generator<Change> {
  let whole: string | undefined;
  for (const change of changes) {
    if (isChangedDirectory(change) || whole !== undefined && change.path.startsWith(`${whole}/`)) continue;
    if (change.isDirectory) whole = change.path;
    yield change;
  }
}

const LONGEST = 100_000; // characters of paths to a call: the kernel takes at least 128 KiB

/** cp keeps owners, modes, times, links, devices and extended attributes, each of them better than we would. */
async function copy(paths: readonly string[], directory: string): Promise<void> {
  const command = ["cp", "--archive", "--remove-destination", `--target-directory=${directory}`, "--"];
  for (let at = 0; at < paths.length;) {
    const group: string[] = [];
    for (let length = 0; at < paths.length && length < LONGEST; at++) {
      const path = paths[at] ?? "";
      group.push(path);
      length += path.length;
    }
    if (await runCommand([...command, ...group]) !== 0) throw new Error(`${directory} could not be written`);
  }
}

/** Overlay keeps notes in attributes of its files, such as where one was copied from; they mean nothing elsewhere. */
function withoutOverlayAttributes(path: string): void {
  try {
    for (const name of llistxattr(path)) {
      if (/^(trusted|user)\.overlay\./.test(name)) lremovexattr(path, name);
    }
  } catch (error) {
    if (!isErrno(error, "EOPNOTSUPP", "ENODATA")) throw error;
  }
}

async function copyAttributes(from: string, to: string): Promise<void> {
  const commands = [["chown", `--reference=${from}`], ["chmod", `--reference=${from}`], [
    "touch",
    "-r",
    from,
  ]];
  for (const command of commands) {
    if (await runCommand([...command, "--", to]) !== 0) throw new Error(`${to} could not be written`);
  }
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
