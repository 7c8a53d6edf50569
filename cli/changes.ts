/**
 * The changes of an overlay, as a tree, as JSON and as differences of text files.
 *
 * @module
 */

import { type Change, type OverlayLayer, readContents, type Sandbox } from "../linux/sandbox/mod.ts";
import {
  cyan,
  dim,
  green,
  loadDiff,
  loadStringWidth,
  red,
  type StructuredPatchHunk,
  yellow,
} from "./deps.ts";
import { escapeControl, sizeText } from "./print.ts";
import { isAscii, printable } from "./table.ts";

/** The changes of one overlay. */
export interface OverlayChanges {
  /** The overlay. */
  readonly overlay: OverlayLayer;
  /** What has changed. */
  readonly changes: readonly (Change & { overlay?: string })[];
}

/**
 * Reads the changes of a box.
 *
 * @param box the box.
 * @returns those of each overlay, without the directories that the box itself has made.
 */
export async function changesOf(box: Sandbox): Promise<OverlayChanges[]> {
  const changes = await Array.fromAsync(box.changes());
  return box.overlays.map((overlay) => ({
    overlay,
    changes: changes.filter((change) => change.overlay === overlay.path),
  }));
}

function layersOf({ lower, usesUserXattr }: OverlayLayer) {
  return { lower, userxattr: usesUserXattr };
}

/**
 * The changes as JSON.
 *
 * @param all the changes.
 * @returns a list with an object for each overlay.
 */
export function toJson(all: readonly OverlayChanges[]): string {
  const list = all.map(({ overlay, changes }) => ({
    path: overlay.path,
    changes: changes.map(({ raw: _raw, overlay: _overlay, ...change }) => change),
  }));
  return JSON.stringify(list, null, 2);
}

const MARKS = { added: "+", modified: "~", removed: "-", replaced: "!" } as const;
const COLORS = { added: green, modified: yellow, removed: red, replaced: cyan } as const;
const FEW = 12; // files of an added directory that are printed

/** A name of the tree. */
interface Node {
  readonly name: string;
  readonly children: Map<string, Node>;
  change?: Change;
}

/**
 * The changes as a tree that fits the terminal. An added directory with many files is one line.
 *
 * @param all the changes.
 * @param options whether each file is printed, and the width in columns; that of the terminal if left out.
 * @returns the lines.
 */
export async function treeOf(
  all: readonly OverlayChanges[],
  options: { all: boolean; width?: number },
): Promise<string[]> {
  const widthOf = await loadStringWidth();
  const print = new TreePrinter(widthOf, options.width ?? terminalWidth(), options.all);
  return all.flatMap(({ overlay, changes }) => print.tree(overlay.path, changes));
}

class TreePrinter {
  readonly #widthOf: (text: string) => number;
  readonly #width: number;
  readonly #all: boolean;
  readonly #signs = isAscii()
    ? { branch: "|- ", last: "`- ", line: "|  ", mark: "..." }
    : { branch: "├─ ", last: "└─ ", line: "│  ", mark: "…" };

  constructor(widthOf: (text: string) => number, width: number, all: boolean) {
    this.#widthOf = widthOf;
    this.#width = width;
    this.#all = all;
  }

  tree(path: string, changes: readonly Change[]): string[] {
    if (changes.length === 0) return [`${this.#cut(printable(path), this.#width)}: no changes`];
    const root: Node = { name: path, children: new Map() };
    for (const change of changes) nodeAt(root, change.path).change = change;
    return [
      this.#cut(printable(path), this.#width),
      ...this.#below(root, ""),
      dim(this.#cut(summary(changes), this.#width)),
    ];
  }

  #below({ children }: Node, prefix: string): string[] {
    const nodes = [...children.values()];
    return nodes.flatMap((node, index) => {
      const isLast = index === nodes.length - 1;
      const branch = prefix + (isLast ? this.#signs.last : this.#signs.branch);
      const inside = prefix + (isLast ? "   " : this.#signs.line);
      const hidden = this.#all || node.change?.kind !== "added" ? [] : filesBelow(node);
      if (hidden.length > FEW) return [this.#line(node, branch, totalText(hidden))];
      return [this.#line(node, branch, detailOf(node.change)), ...this.#below(node, inside)];
    });
  }

  #line({ name, change, children }: Node, branch: string, detail: string): string {
    const isDirectory = children.size > 0 || change?.type === "directory";
    const mark = change ? `${MARKS[change.kind]} ` : "  ";
    const end = detail === "" ? "" : `  ${detail}`;
    const room = this.#width - this.#widthOf(branch + mark);
    const label = printable(name) + (isDirectory ? "/" : "");
    const fits = this.#widthOf(label + end) <= room;
    const shown = this.#cut(label, fits ? room - end.length : room);
    const color = change ? COLORS[change.kind] : (text: string) => text;
    return `${dim(branch)}${color(mark + shown)}${fits ? dim(end) : ""}`;
  }

  #cut(text: string, room: number): string {
    if (this.#widthOf(text) <= room) return text;
    let kept = "";
    let width = this.#signs.mark.length;
    for (const { segment } of new Intl.Segmenter().segment(text)) {
      width += this.#widthOf(segment);
      if (width > room) break;
      kept += segment;
    }
    return kept + this.#signs.mark;
  }
}

function nodeAt(root: Node, path: string): Node {
  let node = root;
  for (const name of path.split("/")) {
    const child = node.children.get(name) ?? { name, children: new Map() };
    node.children.set(name, child);
    node = child;
  }
  return node;
}

function filesBelow({ children }: Node): Change[] {
  return [...children.values()].flatMap((
    child,
  ) => [...child.change ? [child.change] : [], ...filesBelow(child)]);
}

function totalText(changes: readonly Change[]): string {
  const bytes = changes.reduce((sum, change) => sum + (change.kind === "removed" ? 0 : change.size), 0);
  return `${changes.length} entries, ${sizeText(bytes)}`;
}

function detailOf(change: Change | undefined): string {
  if (change === undefined || change.kind === "removed") return "";
  if (change.type === "file") return sizeText(change.size);
  if (change.type === "symlink") return `-> ${printable(change.target ?? "")}`;
  return change.type === "directory" ? "" : change.type;
}

function summary(changes: readonly Change[]): string {
  const kinds = Object.keys(MARKS).map((
    kind,
  ) => [kind, changes.filter((change) => change.kind === kind).length]);
  return kinds.filter(([, count]) => count !== 0).map(([kind, count]) => `${count} ${kind}`).join(", ");
}

/** The columns of the terminal; Infinity if standard output is none. */
function terminalWidth(): number {
  if (!Deno.stdout.isTerminal()) return Infinity;
  try {
    return Deno.consoleSize().columns || Infinity;
  } catch {
    return Infinity;
  }
}

/**
 * The changes as differences of text files, in the unified format.
 *
 * @param all the changes.
 * @returns the lines; one line for what has no text.
 */
export async function diffLines(all: readonly OverlayChanges[]): Promise<string[]> {
  const { structuredPatch } = await loadDiff();
  const lines: string[] = [];
  for (const { overlay, changes } of all) {
    for (const change of changes) {
      const texts = await textsOf(overlay, change);
      if (texts === undefined) {
        lines.push(`${MARKS[change.kind]} ${printable(change.path)}: ${wordOf(change)}`);
      } else lines.push(...patchLines(change, structuredPatch("", "", texts.before, texts.after).hunks));
    }
  }
  return lines;
}

function patchLines({ kind, path }: Change, hunks: readonly StructuredPatchHunk[]): string[] {
  if (hunks.length === 0) return []; // the content is the same
  const name = printable(path);
  return [
    red(`--- ${kind === "added" ? "/dev/null" : `a/${name}`}`),
    green(`+++ ${kind === "removed" ? "/dev/null" : `b/${name}`}`),
    ...hunks.flatMap(({ oldStart, oldLines, newStart, newLines, lines }) => [
      cyan(`@@ -${range(oldStart, oldLines)} +${range(newStart, newLines)} @@`),
      ...lines.map(diffLine),
    ]),
  ];
}

/** An empty range is named by the line before it. */
function range(start: number, lines: number): string {
  return `${lines === 0 ? start - 1 : start},${lines}`;
}

function diffLine(line: string): string {
  const text = line.split("\t").map(escapeControl).join("\t");
  if (line.startsWith("+")) return green(text);
  return line.startsWith("-") ? red(text) : text;
}

function wordOf(change: Change): string {
  if (change.kind === "removed") return change.type === undefined ? "removed" : `${change.type} removed`;
  if (change.type === "file") {
    return `${change.kind}, no text or too long to compare, ${sizeText(change.size)}`;
  }
  return `${change.type} ${change.kind}${
    change.target === undefined ? "" : ` -> ${printable(change.target)}`
  }`;
}

/** Both contents of a text file; undefined for what is none, or longer than a megabyte. */
async function textsOf(
  overlay: OverlayLayer,
  change: Change,
): Promise<{ before: string; after: string } | undefined> {
  if (change.type !== "file") return undefined;
  const { before, after, isWhole } = await readContents(overlay.upper, change, layersOf(overlay));
  if (!isWhole || (before === undefined && after === undefined)) return undefined;
  const [one, other] = [before, after].map(decode);
  return one === undefined || other === undefined ? undefined : { before: one, after: other };
}

function decode(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return "";
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
