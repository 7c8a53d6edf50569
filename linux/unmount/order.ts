/**
 * The order in which a tree of mounts can be unmounted, and the mounts of it that have peers elsewhere.
 *
 * @module
 */

import type { TreeInfo } from "../mountinfo/subtree.ts";
import { directoriesAbove } from "../path/path.ts";

/** A mount of a tree. */
export interface TreeMount {
  /** The mount. */
  readonly info: TreeInfo;
  /** The mounts on its root, which cover it and everything below it. */
  readonly covering: readonly TreeMount[];
  /** The other mounts below it. One with a shorter path hides one with a longer path, so it comes first. */
  readonly below: readonly TreeMount[];
}

/**
 * The trees of the mounts that are chosen, by their parents.
 *
 * @param table the mount table.
 * @param chosen whether a mount belongs to a tree.
 * @returns a tree for each chosen mount whose parent is not chosen, in the order to unmount. One that a mount outside of
 * the trees hides is left out: its path leads to another mount.
 */
export function mountTrees(table: readonly TreeInfo[], chosen: (info: TreeInfo) => boolean): TreeMount[] {
  const within = table.filter(chosen);
  const ids = new Set(within.map(({ id }) => id));
  const children = Map.groupBy(within, ({ parent }) => parent);
  const tops = within.filter(({ id, parent }) => !ids.has(parent) || parent === id);
  const hidersOf = within.length < table.length ? hidersIn(table) : () => [];
  const isReachable = (info: TreeInfo) => hidersOf(info).every(chosen);
  return tops.filter(isReachable).sort(byLength).map((info) => treeOf(info, children));
}

function treeOf(root: TreeInfo, children: Map<number, TreeInfo[]>): TreeMount {
  // With a stack of its own: a chain of ten thousand mounts on one path is a tree of that depth.
  const make = (info: TreeInfo) => ({ info, covering: [] as TreeMount[], below: [] as TreeMount[] });
  const tree = make(root);
  const open = [tree];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const { id, mountpoint } = at.info;
    for (const info of (children.get(id) ?? []).filter((child) => child.id !== id).sort(byLength)) {
      const child = make(info);
      (info.mountpoint === mountpoint ? at.covering : at.below).push(child);
      open.push(child);
    }
  }
  return tree;
}

/**
 * The mounts because of which no path leads to a mount: those on its root, and on a directory above it.
 *
 * @param table the mount table.
 * @returns a function that returns those of a mount; what is stacked on them is left out.
 */
export function hidersIn<Info extends TreeInfo>(table: readonly Info[]): (info: Info) => Info[] {
  const byId = new Map(table.map((mount) => [mount.id, mount]));
  const byPlace = new Map(table.map((mount) => [`${mount.parent} ${mount.mountpoint}`, mount]));
  return (info) => {
    const places = [`${info.id} ${info.mountpoint}`];
    const seen = new Set<Info>(); // the root mount of a namespace may be its own parent
    for (let at: Info | undefined = info; at && !seen.has(at); at = byId.get(at.parent)) {
      seen.add(at);
      const { parent, mountpoint } = at;
      places.push(...directoriesAbove(mountpoint).map((path) => `${parent} ${path}`));
    }
    return places.flatMap((place) => byPlace.get(place) ?? []).filter((hider) => hider !== info);
  };
}

const byLength = (a: TreeInfo, b: TreeInfo) => a.mountpoint.length - b.mountpoint.length;

/** One step of unmounting a tree. */
export interface UnmountStep {
  /** The mount. */
  readonly info: TreeInfo;
  /** Whether it leaves its peer group before the mounts below it are unmounted, or is unmounted. */
  readonly kind: "leave" | "unmount";
}

/**
 * The steps that unmount a tree: what covers a mount before it, and what is below it too. A mount with a peer outside of
 * the tree leaves its peer group before the mounts below it are unmounted: else those below the peer would be unmounted as
 * well.
 *
 * @param tree the tree.
 * @param hasPeer whether a mount has a peer outside.
 * @returns the steps, in their order.
 */
export function unmountSteps(tree: TreeMount, hasPeer: (info: TreeInfo) => boolean): UnmountStep[] {
  const steps: UnmountStep[] = [];
  const todo: (TreeMount | UnmountStep)[] = [tree];
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    if ("kind" in next) {
      steps.push(next);
      continue;
    }
    const { info, covering, below } = next;
    const leaves = below.length > 0 && hasPeer(info);
    todo.push({ info, kind: "unmount" }, ...below.toReversed());
    if (leaves) todo.push({ info, kind: "leave" });
    todo.push(...covering.toReversed());
  }
  return steps;
}

/**
 * Tells whether a mount of some trees has a peer that is not in them.
 *
 * @param table the mount table.
 * @param chosen whether a mount belongs to one of the trees.
 * @returns a function that tells it of a mount.
 */
export function peersOutside(
  table: readonly TreeInfo[],
  chosen: (info: TreeInfo) => boolean,
): (info: TreeInfo) => boolean {
  const outside = new Set(table.flatMap((info) => chosen(info) ? [] : groupOf(info)));
  return (info) => groupOf(info).some((group) => outside.has(group));
}

/** The peer group: "shared:N" among the optional fields. */
function groupOf({ optional }: TreeInfo): string[] {
  return /(?:^| )(shared:\d+)/.exec(optional)?.slice(1) ?? [];
}

/**
 * The peer groups of the mounts that have another mount of the tree below them.
 *
 * @param tree the mounts of some trees.
 * @returns the ids of the groups.
 */
export function groupsOfParents(tree: readonly TreeInfo[]): Set<number> {
  const parents = new Set(tree.map(({ parent }) => parent));
  return new Set(tree.filter(({ id }) => parents.has(id)).flatMap(groupIdOf));
}

/**
 * Tells whether a mount is of one of some peer groups.
 *
 * @param groups the ids of the groups.
 * @returns a function that tells it of a mount.
 */
export function isOfGroup(groups: ReadonlySet<number>): (info: TreeInfo) => boolean {
  return (info) => groupIdOf(info).some((group) => groups.has(group));
}

function groupIdOf(info: TreeInfo): number[] {
  return groupOf(info).map((group) => Number(group.slice("shared:".length)));
}
