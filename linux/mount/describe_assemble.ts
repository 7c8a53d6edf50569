/**
 * The system calls of a list whose parts are assembled while they are attached nowhere, for `explain()`.
 *
 * @module
 */

import { openTargetCached } from "../path/mount_target.ts";
import { atOnce } from "../path/steps.ts";
import { type Call, call, quoted } from "../spec/call.ts";
import { mountpointOf, type Plan } from "../spec/plan.ts";
import { beginsAssembly, joinsAssembly } from "./assemble.ts";
import { CoveredPaths } from "./covered_paths.ts";

/** How a mount is attached: by itself; as the first of an assembly, at the end of that; or inside of the first. */
export type Attachment = "alone" | "first" | "inside";

/**
 * Describes what {@linkcode AssemblingMounts} does. Which mountpoints symbolic links lead out of the first mount is not
 * known before that is made.
 *
 * @param plans the plans of the list.
 * @param under the directory that the list goes under.
 * @param named names the mount that calls belong to.
 * @param describePlan describes one plan by how its mount is attached.
 * @returns the calls.
 */
export function describeAssembling<T>(
  plans: readonly Plan[],
  under: string,
  named: (plan: Plan, describe: () => Call[]) => T[],
  describePlan: (plan: Plan, attachment: Attachment) => Call[],
): T[] {
  const steps: T[] = [];
  let first: Plan | undefined; // of what is not attached yet
  const attach = () => {
    const plan = first;
    if (plan) steps.push(...named(plan, () => [describeAttach(mountpointOf(plan, under))]));
    first = undefined;
  };
  for (const [index, plan] of plans.entries()) {
    if (first && !isAdmitted(plan, first, under)) attach();
    const attachment = first ? "inside" : beginsAssembly(plan, plans[index + 1]) ? "first" : "alone";
    if (attachment === "first") first = plan;
    steps.push(...named(plan, () => describePlan(plan, attachment)));
  }
  attach();
  return steps;
}

function describeAttach(target: string): Call {
  return call(
    "move_mount",
    ["mount", quoted(target)],
    "attach it with what is inside of it: from here on all of it is visible",
  );
}

/** As the look-up in the dentry cache shows it now. */
function isAdmitted(plan: Plan, first: Plan, under: string): boolean {
  if (!joinsAssembly(plan, first)) return false;
  if (plan.kind !== "bind") return true;
  using target = openTargetCached(under, first.subpath);
  if (target === undefined) return true;
  return atOnce(new CoveredPaths(target, target.path, false).isUnaffected(plan.source, plan.recursive));
}
