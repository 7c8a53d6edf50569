/**
 * The system calls that mounting a list makes, without making them.
 *
 * @module
 */

import {
  describeDetached,
  describeOnto,
  describeRelease,
  isCompleteDetached,
  isStaged,
} from "../filesystem/kinds.ts";
import { describePropagation } from "../filesystem/propagation.ts";
import { describeRemount } from "../filesystem/remount.ts";
import { describeRootChange } from "../filesystem/root_change.ts";
import type { DescribeOptions } from "../filesystem/resolved.ts";
import { describeStaged } from "../filesystem/staged.ts";
import { describeOpenedNamespace, describeUserNamespace } from "../namespace/describe_user.ts";
import { type Call, call, quoted } from "../spec/call.ts";
import { MountError } from "../spec/error.ts";
import type { Mount } from "../spec/mount.ts";
import { makesMount, mountpointOf, type NewMountPlan, type Plan, planMounts } from "../spec/plan.ts";
import { type Attachment, describeAssembling } from "./describe_assemble.ts";
import { describeReplacing } from "./describe_replace.ts";
import type { MountOptions } from "./mount.ts";
import { refuseReplacing } from "./replace.ts";

/** A system call that {@linkcode mountAll} would make. */
export interface Step {
  /** The mount that it belongs to. */
  mount: Mount;
  /** The call's name as in its man page, or "exec" for a helper program. */
  call: string;
  /** Its arguments as strace(1) prints them, descriptors by what they are. */
  arguments: string;
  /** What it is for. */
  purpose: string;
}

/** The options of {@linkcode mountAll} that change the calls. */
export type ExplainOptions = Pick<MountOptions, "replace" | "userNamespace">;

/**
 * The system calls that {@linkcode mountAll} would make on this kernel for a list, in their order. Calls that only look,
 * such as those that resolve a path, are left out.
 *
 * Needs the permission `ffi`, to probe the kernel. Nothing is mounted.
 *
 * @param mounts the mounts; they are not changed.
 * @param target the directory that they would go under.
 * @param options those of {@linkcode mountAll} that change the calls.
 * @returns the calls; those of the fallback, if the kernel lacks a feature.
 * @throws {MountError} for the first mount that is refused.
 *
 * @example
 * ```ts
 * import { explain } from "@denomount/mount";
 *
 * for (const step of explain([{ type: "bind", source: "/usr", options: ["ro"] }], "/mnt")) {
 *   console.log(`${step.call}(${step.arguments})`, step.purpose);
 * }
 * ```
 */
export function explain(
  mounts: readonly Mount[],
  target: string,
  { replace = false, userNamespace }: ExplainOptions = {},
): Step[] {
  const mapped = new Set<string>();
  const plans = planMounts(mounts, target, userNamespace !== undefined);
  if (replace) refuseReplacing(plans, target, false);
  const named = (plan: Plan, describe: () => Call[]): Step[] => {
    try {
      return describe().map((step) => ({ mount: plan.mount, ...step }));
    } catch (error) {
      throw new MountError(plan.mount, mountpointOf(plan, target), error);
    }
  };
  const [first] = plans;
  return [
    ...first ? named(first, () => describeOpenedNamespace(userNamespace)) : [],
    ...replace ? describeReplacing(plans, target, mapped, named) : describeAssembling(
      plans,
      target,
      named,
      (plan, attachment) => describePlan(plan, target, mapped, attachment),
    ),
  ];
}

function describePlan(plan: Plan, under: string, mapped: Set<string>, attachment: Attachment): Call[] {
  const target = mountpointOf(plan, under);
  const options = { target, isMapped: plan.idMaps !== undefined };
  const steps = describePropagation(plan.propagation, target);
  if (plan.kind === "remount") return [...describeRemount(plan, options), ...steps];
  if (!makesMount(plan)) return steps;
  return [
    ...plan.idMaps ? describeUserNamespace(plan.idMaps, mapped) : [],
    ...describeNewMount(plan, options, attachment),
    ...steps,
    ...describeRelease(plan, options),
  ];
}

function describeNewMount(plan: NewMountPlan, options: DescribeOptions, attachment: Attachment): Call[] {
  if (isStaged(plan)) return describeStaged(plan, options);
  if (!isCompleteDetached(plan)) return describeOnto(plan, options);
  const mount = plan.kind === "bind" ? "tree" : "mount";
  const purpose = attachment === "inside"
    ? "attach it inside of the new mount, not yet visible"
    : "attach it: from here on it is visible";
  return [
    ...describeDetached(plan, options),
    ...describeRootChange(plan.root),
    ...attachment === "first" ? [] : [call("move_mount", [mount, quoted(options.target)], purpose)],
  ];
}
