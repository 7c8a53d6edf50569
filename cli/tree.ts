/**
 * Trees as lines of text.
 *
 * @module
 */

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
 * @param prefix the branches of the levels above.
 * @returns the branches and the value of each line.
 */
export function treeLines<T>(nodes: readonly TreeNode<T>[], prefix = ""): { branches: string; value: T }[] {
  return nodes.flatMap(({ value, children }, index) => {
    const isLast = index === nodes.length - 1;
    return [
      { branches: `${prefix}${isLast ? "└─ " : "├─ "}`, value },
      ...treeLines(children, `${prefix}${isLast ? "   " : "│  "}`),
    ];
  });
}
