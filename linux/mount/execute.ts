/**
 * Executing the plans of a list, one after the other: all of them or none. Each is resolved, created and attached before
 * the next one, because a later one may name a path that an earlier one makes.
 *
 * @module
 */

import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { isPeerTree } from "../filesystem/bind.ts";
import { explainFailure } from "../filesystem/failure.ts";
import { createDetached, isCompleteDetached, isStaged, mountOnto } from "../filesystem/kinds.ts";
import { setPropagation } from "../filesystem/propagation.ts";
import { remount } from "../filesystem/remount.ts";
import { changeRoot } from "../filesystem/root_change.ts";
import { mountStaged } from "../filesystem/staged.ts";
import { explainIdMap } from "../idmap/explain.ts";
import { type StatxMount, statxMountUniqueFd, uniqueMountAt } from "../mountinfo/statx_mount.ts";
import { UserNamespaces } from "../namespace/user.ts";
import { attachMount, fdPath, type MountTarget } from "../path/mount_target.ts";
import { delay } from "../path/delay.ts";
import type { WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import { makesMount, mountpointOf, type NewMountPlan, type Plan } from "../spec/plan.ts";
import { AT_SYMLINK_NOFOLLOW, UMOUNT_NOFOLLOW } from "../syscalls/constants.ts";
import { usesMountSetattr, whatSetattrNeeds } from "../syscalls/features.ts";
import { type AttachedMount, detachOwn } from "../unmount/own.ts";
import { detachTree } from "../unmount/tree.ts";
import { attachedMount } from "./attached_mount.ts";
import { type MadeDirectory, removeDirectory } from "./make_target.ts";
import { ReplacingMounts } from "./replace.ts";
import { type ResolveContext, type ResolvedPlan, resolvePlan } from "./resolve.ts";

/** What executing a list has made. */
export interface ExecutedPlans {
  /** What is attached, in its order. */
  readonly attached: readonly AttachedMount[];
  /** The same with the directories that were made for mountpoints, in their order. */
  readonly undo: readonly (AttachedMount | MadeDirectory)[];
}

/** How a list is executed. */
export interface ExecuteOptions {
  /** The thread in the target's mount namespace, if that is another one. */
  readonly thread?: NamespaceThread | undefined;
  /** The user namespace of the call. */
  readonly userns?: OwnedFd | undefined;
  /** Whether the mounts replace what is mounted on their mountpoints; {@linkcode refuseReplacing} has said nothing. */
  readonly replace?: boolean | undefined;
}

/** The mounts of one list. */
interface MountTransaction extends ResolveContext, ExecutedPlans {
  readonly attached: AttachedMount[];
  /** What is undone if a later plan fails. */
  readonly undo: (AttachedMount | MadeDirectory)[];
}

/**
 * Executes the plans of a list.
 *
 * @param plans the plans, in the order to mount.
 * @param target the directory that they go under.
 * @param wait the timeout of each wait, and the signal, whose reason is thrown as it is.
 * @param options the target's mount namespace, the call's user namespace, and whether the list replaces what is mounted.
 * @returns what is attached, and the directories that were made for it.
 * @throws {MountError} for the plan that failed. What was attached before it is detached again.
 */
export async function executePlans(
  plans: readonly Plan[],
  target: string,
  wait: WaitOptions,
  { thread, userns, replace = false }: ExecuteOptions = {},
): Promise<ExecutedPlans> {
  const transaction: MountTransaction = {
    target,
    thread,
    wait,
    namespaces: new UserNamespaces(),
    userns,
    replacing: replace ? new ReplacingMounts(target, thread) : undefined,
    attached: [],
    undo: [],
  };
  try {
    try {
      await executeAll(plans, transaction);
      if (transaction.replacing) await reveal(transaction.replacing, transaction);
    } finally {
      transaction.namespaces[Symbol.dispose](); // inside of the outer block, for it can fail too
    }
    return transaction;
  } catch (error) {
    await rollBack(transaction);
    throw error;
  } finally {
    transaction.replacing?.[Symbol.dispose]();
  }
}

/** What was made for the mounts that replace others is attached. From here on an abort comes too late. */
async function reveal(replacing: ReplacingMounts, { attached, undo, wait }: MountTransaction): Promise<void> {
  await replacing.reveal(wait.timeout);
  attached.push(...replacing.attached);
  undo.push(...replacing.attached);
}

const TURN = 20; // ms

/** With a signal, it yields to the event loop now and then: a list whose mounts wait for nothing would never see it. */
async function executeAll(plans: readonly Plan[], transaction: MountTransaction): Promise<void> {
  const { signal } = transaction.wait;
  let turn = performance.now();
  for (const plan of plans) {
    if (signal && performance.now() - turn > TURN) {
      await delay(0);
      turn = performance.now();
    }
    signal?.throwIfAborted();
    await executePlan(plan, transaction);
  }
  signal?.throwIfAborted();
}

/** Detaches and doesn't unmount: the caller has not seen these mounts yet, and a busy one must not stay. */
async function rollBack({ undo, thread, replacing }: MountTransaction): Promise<void> {
  await replacing?.rollBack();
  const undoAll = async () => {
    for (const step of undo.reverse()) {
      if ("directory" in step) removeDirectory(step.directory);
      else if (!await detachOwn(step)) {
        console.warn(`${step.mountpoint} stays mounted, because another mount was made on top of it`);
      }
    }
  };
  await (thread === undefined ? undoAll() : thread.run(undoAll));
}

async function executePlan(plan: Plan, transaction: MountTransaction): Promise<void> {
  const fds = new OwnedFds();
  let resolved: ResolvedPlan | undefined;
  try {
    try {
      resolved = await resolvePlan(plan, transaction, fds, transaction.undo);
      if (makesMount(plan) && transaction.replacing) await transaction.replacing.add(plan, resolved);
      else if (makesMount(plan)) await makeMount(plan, resolved, transaction);
      else await changeMount(plan, resolved.target, transaction);
    } finally {
      fds[Symbol.dispose](); // before what is held, which open descriptors keep busy
      if (resolved?.held) await resolved.held[Symbol.asyncDispose]();
    }
  } catch (error) {
    if (transaction.wait.signal?.aborted) throw transaction.wait.signal.reason;
    const path = mountpointOf(plan, transaction.target);
    throw new MountError(plan.mount, path, await explain(error, plan, transaction));
  }
}

async function makeMount(
  plan: NewMountPlan,
  resolved: ResolvedPlan,
  { thread, attached, undo }: MountTransaction,
): Promise<void> {
  const { target } = resolved;
  if (plan.propagation.length > 0) requireSetattr(thread);
  // The path is read before the mount is made: if it can't be read, nothing has to be undone.
  const mountpoint = target.path;
  const mount = attachedMount(plan, mountpoint, await attachNew(plan, resolved, thread));
  attached.push(mount);
  undo.push(mount);
  if (plan.propagation.length > 0) target.run(() => setPropagation(plan.propagation, target));
}

/** Returns which mount was attached. */
async function attachNew(
  plan: NewMountPlan,
  resolved: ResolvedPlan,
  thread: NamespaceThread | undefined,
): Promise<StatxMount> {
  const { target } = resolved;
  if (isCompleteDetached(plan)) {
    const created = createDetached(plan, resolved);
    const mounted = created instanceof Promise ? await created : created;
    changeRoot(mounted, plan.root);
    const mount = statxMountUniqueFd(mounted);
    attachMount(mounted, target);
    return mount;
  }
  if (isStaged(plan) || thread !== undefined) await mountStaged(plan, resolved);
  else await mountOnto(plan, target, resolved);
  return target.run(() => identifyOrDetach(target, isPeerTree(plan)));
}

/** What can't be identified can't be unmounted by its handle. */
function identifyOrDetach(target: MountTarget, isPeer: boolean): StatxMount {
  try {
    return identifyTop(target);
  } catch (error) {
    detachTree(fdPath(target), isPeer, UMOUNT_NOFOLLOW);
    throw error;
  }
}

/** The topmost mount of a mountpoint, without a descriptor: after a mount(2) or a helper there may be none left. */
function identifyTop(target: MountTarget): StatxMount {
  for (let tries = 0;; tries++) {
    const path = fdPath(target);
    const top = uniqueMountAt(path, AT_SYMLINK_NOFOLLOW);
    if (top && fdPath(target) === path) return top; // else the mountpoint was renamed meanwhile
    if (tries >= MAX_TRIES) throw new Error(`${path} is no mountpoint any more, or is renamed repeatedly`);
  }
}

const MAX_TRIES = 1000;

async function changeMount(plan: Plan, target: MountTarget, { thread }: MountTransaction): Promise<void> {
  requireSetattr(thread);
  if (plan.kind === "remount") await target.run(() => remount(plan, target));
  if (plan.propagation.length > 0) target.run(() => setPropagation(plan.propagation, target));
}

/** In another mount namespace, this process's /proc does not lead to the mount, so mount(2) can't change it. */
function requireSetattr(thread: NamespaceThread | undefined): void {
  if (thread === undefined || usesMountSetattr()) return;
  throw new TypeError(`a change of a mount in another mount namespace needs ${whatSetattrNeeds()}`);
}

/** Runs after the plan's descriptors are closed: it opens some, and they may be what had run out. */
async function explain(
  error: unknown,
  plan: Plan,
  { namespaces, ...call }: MountTransaction,
): Promise<unknown> {
  const userns = plan.idMaps && (plan.idMaps.ofCall ? call.userns : namespaces.known(plan.idMaps));
  try {
    if (userns === undefined || plan.kind !== "bind") return explainFailure(error, plan);
    return await explainIdMap(error, plan.source, userns, plan.recursive);
  } catch (failure) {
    return failure;
  }
}
