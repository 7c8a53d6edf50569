/**
 * The system calls of a list that replaces what is mounted, for `explain()`.
 *
 * @module
 */

import { describeRelease } from "../filesystem/kinds.ts";
import { describePropagation } from "../filesystem/propagation.ts";
import { describeComplete, describeStage, STAGE } from "../filesystem/staged.ts";
import { statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { describeUserNamespace } from "../namespace/describe_user.ts";
import { openTargetCached } from "../path/mount_target.ts";
import { directoriesAbove } from "../path/path.ts";
import { type Call, call, quoted } from "../spec/call.ts";
import { hasFeature } from "../syscalls/features.ts";
import { makesMount, mountpointOf, type Plan } from "../spec/plan.ts";

/** An entry of the list. */
interface Place {
  readonly plan: Plan;
  readonly target: string;
  /** The new mount that it is inside of. */
  readonly outer: Place | undefined;
  /** The id of what is mounted there. */
  readonly old: number | undefined;
  /** Whether others are inside of it. */
  hasInner: boolean;
  /** Whether the new mount that it is inside of is mounted at a temporary place for it. */
  readonly isStaged: boolean;
}

/**
 * Describes what {@linkcode ReplacingMounts} does: the mounts are made in the order of the list, then attached, then what
 * they replace is unmounted.
 *
 * @param plans the plans of the list.
 * @param under the directory that the list goes under.
 * @param mapped the maps of this list that have a namespace already.
 * @param named names the mount that calls belong to.
 * @returns the calls.
 */
export function describeReplacing<T>(
  plans: readonly Plan[],
  under: string,
  mapped: Set<string>,
  named: (plan: Plan, describe: () => Call[]) => T[],
): T[] {
  const places: Place[] = [];
  const treeAt = new Map<string, Place>();
  for (const plan of plans) {
    const target = mountpointOf(plan, under);
    const outer = directoriesAbove(plan.subpath).map((path) => treeAt.get(path)).find((tree) => tree);
    const old = outer ? undefined : mountIdOn(under, plan);
    const isStaged = outer !== undefined && !outer.hasInner && !hasFeature("detachedTargets");
    const place = { plan, target, outer, old, hasInner: false, isStaged };
    if (outer) outer.hasInner = true;
    else treeAt.set(plan.subpath, place);
    places.push(place);
  }
  const stage = describeStage(false);
  const make = places.flatMap(({ plan, target, outer, isStaged }) => {
    if (!makesMount(plan)) return []; // refused
    const options = { target, isMapped: plan.idMaps !== undefined };
    return named(plan, () => [
      ...plan.idMaps ? describeUserNamespace(plan.idMaps, mapped) : [],
      ...describeComplete(plan, options),
      ...isStaged
        ? [
          ...stage.before,
          call("move_mount", ["mount", quoted(STAGE)], "attach it at the temporary mountpoint"),
        ]
        : [],
      ...outer
        ? [
          call("move_mount", ["mount", quoted(target)], "attach it inside of the new mount, not yet visible"),
        ]
        : [],
      ...describeRelease(plan, options),
    ]);
  });
  const attach = places.filter(({ outer }) => !outer).flatMap(({ plan, target, old, hasInner }) =>
    named(plan, () => [
      old === undefined
        ? call("move_mount", ["mount", quoted(target)], "attach it: from here on it is visible")
        : call("move_mount", ["mount", quoted(target), "MOVE_MOUNT_BENEATH"], "attach it, not yet visible"),
      ...hasInner && !hasFeature("detachedTargets") ? [stage.remove] : [],
    ])
  );
  const purpose = "unmount what it replaces; with MNT_DETACH if that is in use";
  const replaced = new Map(places.flatMap((place) => place.old === undefined ? [] : [[place.old, place]]));
  return [
    ...make,
    ...attach,
    ...[...replaced.values()].flatMap(({ plan, target }) =>
      named(plan, () => [call("umount2", [quoted(target), "UMOUNT_NOFOLLOW"], purpose)])
    ),
    ...places.flatMap(({ plan, target }) => named(plan, () => describePropagation(plan.propagation, target))),
  ];
}

/** What is mounted on a mountpoint now; undefined if nothing is, or its path is not cached. */
function mountIdOn(under: string, { subpath }: Plan): number | undefined {
  using found = openTargetCached(under, subpath);
  const mount = found && statxMountUniqueFd(found);
  return mount?.isRoot ? mount.mountId : undefined;
}
