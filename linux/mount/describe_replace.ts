/**
 * The system calls of a list that replaces what is mounted, for `explain()`.
 *
 * @module
 */

import { describeRelease } from "../filesystem/kinds.ts";
import { describePropagation } from "../filesystem/propagation.ts";
import { describeComplete } from "../filesystem/staged.ts";
import { statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { describeUserNamespace } from "../namespace/describe_user.ts";
import { openTargetCached } from "../path/mount_target.ts";
import { directoriesAbove } from "../path/path.ts";
import { type Call, call, quoted } from "../spec/call.ts";
import { makesMount, mountpointOf, type Plan } from "../spec/plan.ts";

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
  const before = new Set<string>();
  const places = plans.map((plan) => {
    const target = mountpointOf(plan, under);
    const isWithin = directoriesAbove(plan.subpath).some((path) => before.has(path));
    before.add(plan.subpath);
    const old = isWithin ? undefined : mountIdOn(under, plan);
    return { plan, target, isWithin, old };
  });
  const make = places.flatMap(({ plan, target, isWithin }) => {
    if (!makesMount(plan)) return []; // refused
    const options = { target, isMapped: plan.idMaps !== undefined };
    return named(plan, () => [
      ...plan.idMaps ? describeUserNamespace(plan.idMaps, mapped) : [],
      ...describeComplete(plan, options),
      ...isWithin
        ? [call("move_mount", ["mount", quoted(target)], "attach it inside of the new mount, detached")]
        : [],
      ...describeRelease(plan, options),
    ]);
  });
  const attach = places.filter(({ isWithin }) => !isWithin).flatMap(({ plan, target, old }) =>
    named(plan, () => [
      old === undefined
        ? call("move_mount", ["mount", quoted(target)], "attach it: from here on it is visible")
        : call("move_mount", ["mount", quoted(target), "MOVE_MOUNT_BENEATH"], "attach it, not yet visible"),
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
