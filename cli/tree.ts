/**
 * Trees as lines of text.
 *
 * @module
 */

import { isAscii } from "./table.ts";

/** A node and its children. */
export interface TreeNode<T> {
  /** The value of the node. */
  value: T;
  /** The nodes below it. */
  children: TreeNode<T>[];
}

/**
 * Returns the lines of a tree, each with the branches that lead to it.
 *
 * @param nodes the top-level nodes.
 * @returns the branches and the value of each line.
 */
export function treeLines<T>(nodes: readonly TreeNode<T>[]): { branches: string; value: T }[] {
  const marks = isAscii() ? { branch: "|- ", last: "`- ", through: "|  " } : UNICODE;
  const lines: { branches: string; value: T }[] = [];
  // Not recursive: a mount may have thousands of others stacked on it.
  const left = [{ nodes, index: 0, prefix: "" }];
  for (let level = left.at(-1); level !== undefined; level = left.at(-1)) {
    const node = level.nodes[level.index++];
    if (node === undefined) {
      left.pop();
      continue;
    }
    const isLast = level.index === level.nodes.length;
    lines.push({ branches: level.prefix + (isLast ? marks.last : marks.branch), value: node.value });
    left.push({ nodes: node.children, index: 0, prefix: level.prefix + (isLast ? "   " : marks.through) });
  }
  return lines;
}

const UNICODE = { branch: "├─ ", last: "└─ ", through: "│  " };
