/**
 * What a command changed in an overlay: found in its upper directory, shown as a tree, applied to the files below.
 *
 * @module
 */

import { bold, dim, green, red, yellow } from "./deps.ts";
import { sizeText, visible } from "./print.ts";
import { treeLines, type TreeNode } from "./tree.ts";
import { runCommand } from "./self.ts";

/** A change. */
export interface Change {
  /** The path, from the root directory. */
  path: string;
  /** What became of it. */
  kind: "added" | "changed" | "deleted";
  /** Whether it is a directory. */
  isDirectory: boolean;
  /** Whether it stands where something of another kind stood. */
  replaces: boolean;
  /** Bytes, of a file that is there now. */
  size: number;
  /** Where its present content is. */
  content: string;
}

/** An overlay over one directory. */
export interface Cover {
  /** The directory that is covered. */
  path: string;
  /** Where it can be seen uncovered. */
  below: string;
  /** Its upper directory. */
  upper: string;
  /** Where the overlay is mounted. */
  merged: string;
}

/**
 * Compares what is below an overlay with what it shows now. Only the directories that its upper one has are looked at.
 *
 * @param cover the overlay, still mounted.
 * @returns the changes, a directory before what is in it.
 */
export function findChanges(cover: Cover): Change[] {
  return [...changesIn(cover, "")];
}

function* changesIn(cover: Cover, inside: string): Generator<Change> {
  const below = `${cover.below}${inside}`;
  const path = (name: string) => `${cover.path === "/" ? "" : cover.path}${inside}/${name}`;
  const [before, after] = [entries(below), entries(`${cover.merged}${inside}`)];
  for (const name of [...entries(`${cover.upper}${inside}`).keys()].sort()) {
    const entry = after.get(name);
    if (entry === undefined) continue; // a whiteout
    const content = `${cover.upper}${inside}/${name}`;
    const now = Deno.lstatSync(content);
    const { size, isDirectory } = now;
    const change = { path: path(name), isDirectory, size, content, replaces: false };
    const old = before.has(name) ? Deno.lstatSync(`${below}/${name}`) : undefined;
    if (old === undefined) yield { ...change, kind: "added" };
    else if (old.isDirectory !== isDirectory) yield { ...change, kind: "changed", replaces: true };
    else if (!isDirectory || !hasSameOwner(old, now)) yield { ...change, kind: "changed" };
    if (isDirectory) yield* changesIn(cover, `${inside}/${name}`);
  }
  for (const [name, { isDirectory }] of before) {
    if (!after.has(name)) {
      yield { path: path(name), kind: "deleted", isDirectory, size: 0, content: "", replaces: false };
    }
  }
}

/** A directory's time is no change of its own: it goes with what is in it. */
function hasSameOwner(a: Deno.FileInfo, b: Deno.FileInfo): boolean {
  return a.uid === b.uid && a.gid === b.gid && a.mode === b.mode;
}

function entries(directory: string): Map<string, Deno.DirEntry> {
  try {
    return new Map([...Deno.readDirSync(directory)].map((entry) => [entry.name, entry]));
  } catch (error) {
    if (
      error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory ||
      error instanceof Deno.errors.PermissionDenied
    ) return new Map();
    throw error;
  }
}

/** Made when it is printed: only then it is known whether colours are wanted. */
const signs = { added: () => green("+"), changed: () => yellow("~"), deleted: () => red("-") };

/**
 * The changes as a tree with sizes.
 *
 * @param changes the changes.
 * @returns its lines, and one that counts them.
 */
export function changeLines(changes: readonly Change[]): string[] {
  const root: TreeNode<Change | string>[] = [];
  for (const change of changes.toSorted((a, b) => a.path < b.path ? -1 : 1)) place(root, change);
  const lines = treeLines(root).map(({ strokes, value }) => {
    if (typeof value === "string") return `${dim(strokes)}${visible(value)}`;
    const name = visible(value.path.slice(value.path.lastIndexOf("/") + 1)) + (value.isDirectory ? "/" : "");
    const size = value.kind === "deleted" || value.isDirectory ? "" : dim(`  ${sizeText(value.size)}`);
    return `${dim(strokes)}${signs[value.kind]()} ${name}${size}`;
  });
  const count = (kind: Change["kind"]) => changes.filter((change) => change.kind === kind).length;
  const sum = `${count("added")} added, ${count("changed")} changed, ${count("deleted")} deleted`;
  return [...lines.length > 0 ? ["/", ...lines] : [], bold(sum)];
}

/** Puts a change where its path says, below lines for the directories on the way. */
function place(nodes: TreeNode<Change | string>[], change: Change): void {
  const names = change.path.split("/").slice(1);
  const last = names.pop() ?? "";
  for (const name of names) {
    let node = nodes.find(({ value }) => nameOf(value) === name);
    if (node === undefined) nodes.push(node = { value: name, children: [] });
    nodes = node.children;
  }
  const found = nodes.find(({ value }) => nameOf(value) === last);
  if (found) found.value = change;
  else nodes.push({ value: change, children: [] });
}

function nameOf(value: Change | string): string {
  return typeof value === "string" ? value : value.path.slice(value.path.lastIndexOf("/") + 1);
}

/**
 * Makes the changes for real: below, where the overlay only showed them.
 *
 * @param changes the changes.
 * @param root where to make them.
 */
export async function applyChanges(
  changes: readonly Change[],
  root: string,
): Promise<void> {
  for (const { path, kind, isDirectory, content, replaces } of changes) {
    const to = `${root}${path}`;
    if (kind === "deleted" || replaces) removeIfThere(to);
    if (kind === "deleted") continue;
    // cp keeps owners, modes, times, links, devices and extended attributes, each of them better than we would.
    Deno.mkdirSync(isDirectory ? to : to.slice(0, to.lastIndexOf("/")) || "/", { recursive: true });
    if (isDirectory) continue;
    const copy = ["cp", "--archive", "--no-target-directory", "--remove-destination", "--", content, to];
    const status = await runCommand(copy);
    if (status !== 0) throw new Error(`${to} could not be written`);
  }
  for (const { path, kind, isDirectory, content } of changes.toReversed()) {
    if (isDirectory && kind !== "deleted") await copyAttributes(content, `${root}${path}`);
  }
}

/** After what is in it, or its time would change again. */
async function copyAttributes(from: string, to: string): Promise<void> {
  for (
    const command of [["chown", `--reference=${from}`], ["chmod", `--reference=${from}`], [
      "touch",
      "-r",
      from,
    ]]
  ) {
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
