/**
 * Compares trees, and the changes of an overlay with the tree that it shows.
 *
 * @module
 */

import type { Change } from "../../linux/sandbox/changes/mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { describeTree } from "../manager/digest_tree.ts";

/** A file of a tree. */
export interface Described {
  /** Its type, permissions, owner and numbers of a device. */
  readonly what: string;
  /** Its type alone. */
  readonly type: string;
  /** When it was modified: seconds and nanoseconds. */
  readonly time: string;
  /** Its content or target, and its attributes. */
  readonly content: string;
  /** The first name of the same file, if another name of it is in the tree. */
  readonly link: string;
}

/** How a tree is read. */
export interface TreeOptions {
  /** Whether sockets are left out. */
  withoutSockets?: boolean;
  /** The attributes that are left out. */
  without?: RegExp;
  /**
   * The files whose hard links are left out. Where overlay can't note from where a file was copied (a symbolic link with
   * `userxattr`, any file in a user namespace), it may show one name with the lower inode and another with the upper one.
   */
  withoutLinksOf?: "symlink" | "all";
}

/** Reads a tree. Names begin with a slash and have everything but printable ASCII escaped. */
export async function readTree(root: string, options: TreeOptions = {}): Promise<Map<string, Described>> {
  const tree = new Map<string, Described>();
  const links = new Map<string, number>();
  for (const line of await describeTree(root)) {
    const [plain = "", first = ""] = line.split(" same file as ");
    const words = plain.split(" ");
    const type = words[0] ?? "";
    const at = type === "char" || type === "block" ? 5 : 4;
    if (type === "socket" && options.withoutSockets) continue;
    const link = [type, "all"].includes(options.withoutLinksOf ?? "none") ? "" : first;
    links.set(link, (links.get(link) ?? 0) + 1);
    const content = words.slice(at + 1).filter((word) => !options.without?.test(word)).join(" ");
    const what = words.slice(0, at - 1).join(" ");
    tree.set(words[at] ?? "", { what, type, time: words[at - 1] ?? "", content, link });
  }
  for (const [name, file] of tree) {
    if (links.get(file.link) === 1) tree.set(name, { ...file, link: "" });
  }
  return tree;
}

/** A tree as text, for a comparison. */
export function lines(tree: ReadonlyMap<string, Described>): string[] {
  return [...tree].map(([name, { what, time, content, link }]) =>
    `${name} ${what} ${time} ${content} ${link}`
  )
    .sort();
}

/** The name of a path as {@linkcode readTree} has it. */
export function nameOf(raw: Uint8Array): string {
  const text = [...raw].map((byte) =>
    byte > 0x20 && byte < 0x7f && byte !== 0x5c
      ? String.fromCharCode(byte)
      : `\\x${byte.toString(16).padStart(2, "0")}`
  ).join("");
  return text === "." ? "/" : `/${text}`;
}

/** Checks that the lower tree with the changes is the tree that the overlay shows, and that each is a change. */
export function assertChanges(
  lower: ReadonlyMap<string, Described>,
  merged: ReadonlyMap<string, Described>,
  changes: readonly Change[],
): void {
  const left = new Map(lower);
  const forget = (name: string) => {
    for (const other of [...left.keys()]) if (other.startsWith(`${name}/`)) left.delete(other);
  };
  const changed = new Set<string>();
  for (const change of changes) {
    const name = nameOf(change.raw);
    assert(!changed.has(name), `${name} is listed twice`);
    changed.add(name);
    const before = left.get(name);
    const after = merged.get(name);
    if (change.kind === "removed") {
      assert(after === undefined, `${name} is not removed`);
      assertEquals(change.type, before?.type, `the type of ${name}, which is removed`);
      forget(name);
      left.delete(name);
      continue;
    }
    assert(after !== undefined, `${name} is ${change.kind} and not there`);
    assertEquals(`${change.kind} ${before?.type ?? "none"}`, `${expectedKind(change, before)}`, name);
    assertDescribed(change, after, name);
    if (change.kind === "replaced") forget(name);
    if (change.kind === "modified" && change.type === "directory") {
      assert(before && withoutTime(before) !== withoutTime(after), `${name} is not modified`);
    }
    left.set(name, after);
  }
  const compared = (tree: ReadonlyMap<string, Described>) =>
    [...tree].map(([name, file]) => `${name} ${withoutTime(file)} ${file.type === "directory" || file.time}`)
      .sort();
  assertEquals(compared(left), compared(merged));
}

const withoutTime = ({ what, content }: Described) => `${what} ${content}`;

function expectedKind(change: Change, before: Described | undefined): string {
  if (before === undefined) return "added none";
  if (before.type !== change.type) return `replaced ${before.type}`;
  const kind = change.type === "directory" && change.kind === "replaced" ? "replaced" : "modified"; // opaque
  return `${kind} ${before.type}`;
}

function assertDescribed(change: Change, after: Described, name: string): void {
  if (change.kind === "removed") return;
  const [mode, device] = [change.mode.toString(8).padStart(4, "0"), change.device?.join(":")];
  const type = device === undefined ? change.type : `${change.type} ${device}`;
  assertEquals(`${type} ${mode} ${change.uid}:${change.gid}`, after.what, name);
  const [seconds = "", nanoseconds = ""] = after.time.split(".");
  assertEquals(
    change.mtime.getTime(),
    Number(seconds) * 1000 + Math.floor(Number(nanoseconds) / 1e6),
    `the time of ${name}`,
  );
  if (change.type === "file") assert(after.content.startsWith(`${change.size} bytes`), `the size of ${name}`);
  if (change.type === "symlink") {
    const target = nameOf(new TextEncoder().encode(change.target ?? "")).slice(1);
    if (change.target?.isWellFormed() && change.target !== ".") {
      assert(after.content.startsWith(`-> ${target}`), name);
    }
  }
}
