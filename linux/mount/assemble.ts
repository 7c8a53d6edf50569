/**
 * Assembling a part of a list while it is attached nowhere: a mount, and those that the list mounts inside of it. One
 * move_mount(2) then attaches all of them, so that no process sees a part. It needs Linux 6.15; without that, and for what
 * can't be a part of it, every mount is attached by itself (execute.ts).
 *
 * The result is the same: what depends on the mounts before it being attached is not made a part.
 *
 * @module
 */

import { errnoNumber, SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { isCompleteDetached } from "../filesystem/kinds.ts";
import type { Resolved } from "../filesystem/resolved.ts";
import { createComplete } from "../filesystem/staged.ts";
import { PSEUDO_FILESYSTEMS } from "../mountinfo/filesystem_types.ts";
import { statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { ensureResolvable } from "../path/cached_lookup.ts";
import { attachMount, isDirectory } from "../path/mount_target.ts";
import { isAtOrBelow, join } from "../path/path.ts";
import { inSteps } from "../path/steps.ts";
import type { WaitOptions } from "../path/wait.ts";
import { makesMount, type NewMountPlan, type Plan } from "../spec/plan.ts";
import { hasFeature } from "../syscalls/features.ts";
import type { AttachedMount } from "../unmount/own.ts";
import { attachedMount } from "./attached_mount.ts";
import { CoveredPaths } from "./covered_paths.ts";
import {
  type DetachedTree,
  type DetachedTrees,
  type InsideTree,
  type NewMount,
  placeInside,
  removeDirectoriesInside,
} from "./detached_tree.ts";
import type { MadeDirectory } from "./make_target.ts";

/**
 * Whether an assembly begins with an entry of a list.
 *
 * @param plan the entry.
 * @param next the next one; without one inside of this, there is nothing to assemble.
 * @returns false if it is attached by itself.
 */
export function beginsAssembly(plan: Plan, next: Plan | undefined): plan is NewMountPlan {
  return next !== undefined && isInside(next, plan) && isPart(plan) && joinsAssembly(next, plan) &&
    hasFeature("openat2") && hasFeature("detachedTargets");
}

/**
 * Whether an entry can be a part of an assembly, as far as its plan tells.
 *
 * @param plan the entry.
 * @param first the first entry of the assembly.
 * @returns false if the assembly has to be attached before it.
 */
export function joinsAssembly(plan: Plan, first: Plan): plan is NewMountPlan {
  return isInside(plan, first) && isPart(plan) && !namesPaths(plan);
}

function isInside({ subpath }: Pick<Plan, "subpath">, { subpath: above }: Plan): boolean {
  return subpath !== above && isAtOrBelow(subpath, above);
}

/**
 * Made complete and detached, in this process. The kernel makes every mount of a tree shared that is attached under a
 * shared one: propagation which the list asks for has to be set before the next mount is attached.
 */
function isPart(plan: Plan): plan is NewMountPlan {
  return makesMount(plan) && isCompleteDetached(plan) && plan.propagation.length === 0;
}

/** Whether the kernel, or a part of this library, looks up paths that an earlier entry may change. A bind's source is opened. */
function namesPaths({ idMaps, ...plan }: NewMountPlan): boolean {
  if (idMaps?.file !== undefined) return true;
  if (plan.kind === "bind") return plan.subdir !== undefined;
  return plan.kind !== "filesystem" || plan.loop !== undefined ||
    plan.type !== "tmpfs" && !PSEUDO_FILESYSTEMS.has(plan.type);
}

/** The mounts of a list that are being assembled: one tree at a time. */
export class AssemblingMounts implements DetachedTrees, Disposable {
  readonly #fds = new OwnedFds();
  #tree: DetachedTree | undefined;
  #covered: CoveredPaths | undefined;
  #steps: (NewMount | string)[] = []; // with the directories that were made, from the tree's root

  /**
   * None yet.
   *
   * @param isElsewhere whether the target of the list is in another mount namespace.
   */
  constructor(readonly isElsewhere: boolean) {}

  /** The first entry of what is not attached yet; undefined if all is. */
  get first(): NewMountPlan | undefined {
    return this.#tree?.plan;
  }

  /**
   * Finds where an entry goes in the tree.
   *
   * @param subpath the mountpoint's path below the target of the list.
   * @returns undefined if it is not inside.
   */
  find(subpath: string): InsideTree | undefined {
    const tree = this.#tree;
    if (tree === undefined || !isInside({ subpath }, tree.plan)) return undefined;
    const place = placeInside(tree, subpath, this.#fds);
    const push = (made: MadeDirectory, parent?: OwnedFd) => {
      this.#steps.push(made.directory);
      place.made.push(made, parent);
    };
    return { ...place, made: { push } };
  }

  /**
   * Whether an entry is a part of the tree.
   *
   * @param plan the entry.
   * @param wait the timeout and the signal of the wait for a server on the path of a bind's source.
   * @returns false if the tree has to be attached before it.
   */
  async admits(plan: Plan, wait: WaitOptions): Promise<boolean> {
    if (this.#tree === undefined || !joinsAssembly(plan, this.#tree.plan)) return false;
    if (plan.kind !== "bind") return true;
    await ensureResolvable(plan.source, wait);
    const { target, mountpoint } = this.#tree;
    this.#covered ??= new CoveredPaths(target, mountpoint, this.isElsewhere);
    return await inSteps(this.#covered.isUnaffected(plan.source, plan.recursive));
  }

  /**
   * Makes the first mount of a tree.
   *
   * @param plan the mount.
   * @param resolved its descriptors, of which those that are needed later are kept.
   */
  async begin(plan: NewMountPlan, resolved: Resolved): Promise<void> {
    const { target, fds } = resolved;
    const mountpoint = target.path;
    const fd = await createComplete(plan, resolved);
    if (isDirectory(fd) !== isDirectory(target)) { // as attaching it would fail
      throw new SyscallError({ syscall: "move_mount", errno: errnoNumber("ENOTDIR") });
    }
    const id = statxMountUniqueFd(fd);
    for (const kept of [fd, target]) fds.take(kept, this.#fds);
    this.#tree = { plan, fd, id, mountpoint, target, directories: [], stage: undefined };
    this.#steps.push(this.#tree);
  }

  /**
   * Makes a mount inside of the tree.
   *
   * @param plan the mount.
   * @param resolved its descriptors.
   */
  async add(plan: NewMountPlan, resolved: Resolved): Promise<void> {
    const { target } = resolved;
    const inside = target.path; // from the root of the tree
    const fd = await createComplete(plan, resolved);
    const id = statxMountUniqueFd(fd);
    attachMount(fd, target);
    this.#steps.push({ plan, id, mountpoint: join(this.#tree?.mountpoint ?? "/", inside) });
  }

  /**
   * Attaches the tree.
   *
   * @returns the mounts and the directories that were made for them, in their order.
   * @throws {SyscallError} as move_mount(2) does; then nothing is attached.
   */
  reveal(): (AttachedMount | MadeDirectory)[] {
    const tree = this.#tree;
    if (tree === undefined) return [];
    attachMount(tree.fd, tree.target);
    const steps = this.#steps.map((step) =>
      typeof step === "string"
        ? { directory: join(tree.mountpoint, step) }
        : attachedMount(step.plan, step.mountpoint, step.id)
    );
    this.#forget();
    return steps;
  }

  /** Removes the directories that were made in a tree which is not attached. */
  rollBack(): void {
    if (this.#tree) removeDirectoriesInside(this.#tree);
    this.#forget();
  }

  /** The kernel frees what is not attached. */
  #forget(): void {
    this.#tree = this.#covered = undefined;
    this.#steps = [];
    this.#fds[Symbol.dispose]();
  }

  /** Closes the descriptors. */
  [Symbol.dispose](): void {
    this.#forget();
  }
}
