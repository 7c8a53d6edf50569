/**
 * The order in which a tree of mounts can be unmounted, and the mounts of it that have peers elsewhere.
 *
 * @module
 */

import type { TreeInfo } from "../mountinfo/subtree.ts";
import { directoriesAbove } from "../path/path.ts";
import { each } from "../path/steps.ts";

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
 * The trees of the mounts that are chosen, by their parents, in steps.
 *
 * @param table the mount table.
 * @param chosen whether a mount belongs to a tree.
 * @returns a tree for each chosen mount whose parent is not chosen, in the order to unmount. One that a mount outside of
 * the trees hides is left out: its path leads to another mount.
 */
export function* mountTrees(
  table: readonly TreeInfo[],
  chosen: (info: TreeInfo) => boolean,
): Generator<void, TreeMount[]> {
  const mounts = new Map<number, GrowingTree>(); // shorter paths first, and so in each list of a tree
  yield* each(yield* byLength(table, chosen), (info) => {
    mounts.set(info.id, { info, covering: [], below: [] });
  });
  const tops: TreeMount[] = [];
  yield* each(mounts.values(), (mount) => {
    const parent = mounts.get(mount.info.parent);
    if (parent === undefined || parent === mount) tops.push(mount);
    else if (parent.info.mountpoint === mount.info.mountpoint) parent.covering.push(mount);
    else parent.below.push(mount);
  });
  if (mounts.size === table.length) return tops; // nothing else is there that could hide one
  const hidersOf = hidersIn(table);
  return tops.filter(({ info }) => hidersOf(info).every(chosen));
}

interface GrowingTree extends TreeMount {
  readonly covering: TreeMount[];
  readonly below: TreeMount[];
}

/** The chosen mounts by the length of their paths. Sorting them could not be done in steps. */
function* byLength(
  table: readonly TreeInfo[],
  chosen: (info: TreeInfo) => boolean,
): Generator<void, TreeInfo[]> {
  const lengths: TreeInfo[][] = [];
  yield* each(table, (info) => {
    if (chosen(info)) (lengths[info.mountpoint.length] ??= []).push(info);
  });
  return lengths.flat();
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
 * @yields each step, in their order.
 */
export function* unmountSteps(
  tree: TreeMount,
  hasPeer: (info: TreeInfo) => boolean,
): Generator<UnmountStep, void> {
  // With a stack of its own: a chain of ten thousand mounts on one path is a tree of that depth.
  const open = [partsOf(tree, hasPeer)];
  for (let parts = open.at(-1); parts !== undefined; parts = open.at(-1)) {
    const { value, done } = parts.next();
    if (done) open.pop();
    else if ("kind" in value) yield value;
    else open.push(partsOf(value, hasPeer));
  }
}

function* partsOf(
  { info, covering, below }: TreeMount,
  hasPeer: (info: TreeInfo) => boolean,
): Generator<TreeMount | UnmountStep, void> {
  yield* covering;
  if (below.length > 0 && hasPeer(info)) yield { info, kind: "leave" };
  yield* below;
  yield { info, kind: "unmount" };
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
 * The peer groups of the mounts that have another mount of the tree below them, in steps.
 *
 * @param tree the mounts of some trees.
 * @returns the ids of the groups.
 */
export function* groupsOfParents(tree: readonly TreeInfo[]): Generator<void, Set<number>> {
  const [parents, groups] = [new Set<number>(), new Set<number>()];
  yield* each(tree, ({ parent }) => parents.add(parent));
  yield* each(tree, (info) => {
    if (parents.has(info.id)) groupIdOf(info).forEach((group) => groups.add(group));
  });
  return groups;
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
