/**
 * What a command changed in an overlay: found in its upper directory, shown as a tree.
 *
 * @module
 */

import { bold, dim, green, red, yellow } from "./deps.ts";
import { escapeControl, sizeText } from "./print.ts";
import { treeLines, type TreeNode } from "./tree.ts";

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

const TURN = 50; // ms, after which something else gets its turn: the line that says what is waited for

/**
 * Compares what is below overlays with what they show now. Only the directories that their upper ones have are looked at.
 *
 * @param covers the overlays, still mounted.
 * @returns the changes, a directory before what is in it.
 */
export async function findChanges(covers: readonly Cover[]): Promise<Change[]> {
  const changes: Change[] = [];
  let since = performance.now();
  for (const cover of covers) {
    for (const change of changesIn(cover, "")) {
      changes.push(change);
      if (performance.now() - since < TURN) continue;
      await new Promise((resolve) => setTimeout(resolve));
      since = performance.now();
    }
  }
  return changes;
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
  const root = treeOf(changes.toSorted((a, b) => a.path < b.path ? -1 : 1));
  const lines = treeLines(root).map(({ strokes, value }) => {
    if (typeof value === "string") return `${dim(strokes)}${escapeControl(value)}`;
    const name = escapeControl(value.path.slice(value.path.lastIndexOf("/") + 1)) +
      (value.isDirectory ? "/" : "");
    const size = value.kind === "deleted" || value.isDirectory ? "" : dim(`  ${sizeText(value.size)}`);
    return `${dim(strokes)}${signs[value.kind]()} ${name}${size}`;
  });
  const count = (kind: Change["kind"]) => changes.filter((change) => change.kind === kind).length;
  const sum = `${count("added")} added, ${count("changed")} changed, ${count("deleted")} deleted`;
  return [...lines.length > 0 ? ["/", ...lines] : [], bold(sum)];
}

/** Each change where its path says, below lines for the directories on the way. */
function treeOf(changes: readonly Change[]): TreeNode<Change | string>[] {
  const root: TreeNode<Change | string> = { value: "", children: [] };
  const nodes = new Map([["", root]]);
  const nodeOf = (path: string): TreeNode<Change | string> => {
    const known = nodes.get(path);
    if (known !== undefined) return known;
    const slash = path.lastIndexOf("/");
    const node = { value: path.slice(slash + 1), children: [] };
    nodeOf(path.slice(0, slash)).children.push(node);
    nodes.set(path, node);
    return node;
  };
  for (const change of changes) nodeOf(change.path).value = change;
  return root.children;
}
