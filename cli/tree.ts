/**
 * Trees as lines.
 *
 * @module
 */

/** A line and what stands below it. */
export interface TreeNode<T> {
  /** What the line is about. */
  value: T;
  /** What stands below it. */
  children: TreeNode<T>[];
}

/**
 * The lines of a tree, each with the strokes that lead to it.
 *
 * @param nodes the topmost ones.
 * @param prefix the strokes until here.
 * @returns the strokes and the value of each line.
 */
export function treeLines<T>(nodes: readonly TreeNode<T>[], prefix = ""): { strokes: string; value: T }[] {
  return nodes.flatMap(({ value, children }, index) => {
    const isLast = index === nodes.length - 1;
    return [
      { strokes: `${prefix}${isLast ? "└─ " : "├─ "}`, value },
      ...treeLines(children, `${prefix}${isLast ? "   " : "│  "}`),
    ];
  });
}
