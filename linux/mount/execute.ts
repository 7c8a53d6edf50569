/**
 * Executing the plans of a list, one after the other: all of them or none. Each is resolved, created and attached before
 * the next one, because a later one may name a path that an earlier one makes; what is inside of another new mount and
 * names no such path is attached together with it (assemble.ts).
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
import { ensureServerAnswers } from "../mountinfo/served.ts";
import { UserNamespaces } from "../namespace/user.ts";
import { attachMount, fdPath, type MountTarget } from "../path/mount_target.ts";
import { delay } from "../path/delay.ts";
import type { WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import { makesMount, mountpointOf, type NewMountPlan, type Plan } from "../spec/plan.ts";
import { AT_SYMLINK_NOFOLLOW, UMOUNT_NOFOLLOW } from "../syscalls/constants.ts";
import { usesMountSetattr, whatSetattrNeeds } from "../syscalls/features.ts";
import { type AttachedMount, detachOrWarn, warnOfServer } from "../unmount/own.ts";
import { detachTree } from "../unmount/tree.ts";
import { AssemblingMounts, beginsAssembly } from "./assemble.ts";
import { attachedMount } from "./attached_mount.ts";
import { LeavesTree } from "./detached_tree.ts";
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
  /** The new mounts, where they replace what is mounted. */
  readonly replacing: ReplacingMounts | undefined;
  /** Those that are not attached yet, where they don't. */
  readonly assembling: AssemblingMounts;
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
  const replacing = replace ? new ReplacingMounts(target, thread) : undefined;
  const assembling = new AssemblingMounts(thread !== undefined);
  const transaction: MountTransaction = {
    target,
    thread,
    wait,
    namespaces: new UserNamespaces(),
    userns,
    detached: replacing ?? assembling,
    replacing,
    assembling,
    attached: [],
    undo: [],
  };
  try {
    try {
      await executeAll(plans, transaction);
      if (replacing) await revealReplacing(replacing, transaction);
      else await reveal(transaction);
    } finally {
      transaction.namespaces[Symbol.dispose](); // inside of the outer block, for it can fail too
    }
    // Without the rest: the handle keeps it for as long as it is mounted.
    return { attached: transaction.attached.slice(), undo: transaction.undo.slice() };
  } catch (error) {
    await rollBack(transaction);
    throw error;
  } finally {
    replacing?.[Symbol.dispose]();
    assembling[Symbol.dispose]();
  }
}

/** What was made for the mounts that replace others is attached. From here on an abort comes too late. */
async function revealReplacing(
  replacing: ReplacingMounts,
  { attached, undo, wait }: MountTransaction,
): Promise<void> {
  await replacing.reveal(wait.timeout);
  attached.push(...replacing.attached);
  undo.push(...replacing.attached);
}

/** What was assembled is attached. */
async function reveal(transaction: MountTransaction): Promise<void> {
  const { assembling, attached, undo } = transaction;
  const { first } = assembling;
  if (first === undefined) return;
  try {
    const made = assembling.reveal();
    undo.push(...made);
    attached.push(...made.filter((step) => "mountpoint" in step));
  } catch (error) {
    throw await failure(error, first, transaction);
  }
}

const TURN = 20; // ms

/** With a signal, it yields to the event loop now and then: a list whose mounts wait for nothing would never see it. */
async function executeAll(plans: readonly Plan[], transaction: MountTransaction): Promise<void> {
  const { signal } = transaction.wait;
  let turn = performance.now();
  for (const [index, plan] of plans.entries()) {
    if (signal && performance.now() - turn > TURN) {
      await delay(0);
      turn = performance.now();
    }
    signal?.throwIfAborted();
    await executePlan(plan, plans[index + 1], transaction);
  }
  signal?.throwIfAborted();
}

/** Detaches and doesn't unmount: the caller has not seen these mounts yet, and a busy one must not stay. */
async function rollBack({ undo, thread, wait, replacing, assembling }: MountTransaction): Promise<void> {
  await replacing?.rollBack(wait.timeout);
  assembling.rollBack();
  const undoAll = async () => {
    const failures: unknown[] = [];
    for (const step of undo.reverse()) {
      await undoStep(step, wait.timeout).catch((failure) => failures.push(failure));
    }
    if (failures.length > 0) throw failures[0];
  };
  await (thread === undefined ? undoAll() : thread.run(undoAll));
}

/** What can't be undone is said, and the rest is undone: the caller gets the error of the list. */
async function undoStep(step: AttachedMount | MadeDirectory, timeout: number | undefined): Promise<void> {
  if (!("directory" in step)) return await detachOrWarn(step, timeout);
  const { directory } = step;
  await warnOfServer(`${directory} stays`, async () => {
    await ensureServerAnswers(directory, { timeout });
    removeDirectory(directory);
  });
}

async function executePlan(
  plan: Plan,
  next: Plan | undefined,
  transaction: MountTransaction,
): Promise<void> {
  const { replacing, assembling, wait } = transaction;
  const fds = new OwnedFds();
  let resolved: ResolvedPlan | undefined;
  try {
    try {
      if (assembling.first && !await assembling.admits(plan, wait)) await reveal(transaction);
      resolved = await resolveOrReveal(plan, transaction, fds);
      if (!makesMount(plan)) await changeMount(plan, resolved.target, transaction);
      else if (replacing) await replacing.add(plan, resolved);
      else if (assembling.first) await assembling.add(plan, resolved);
      else if (beginsAssembly(plan, next)) await assembling.begin(plan, resolved);
      else await makeMount(plan, resolved, transaction);
    } finally {
      fds[Symbol.dispose](); // before what is held, which open descriptors keep busy
      if (resolved?.held) await resolved.held[Symbol.asyncDispose]();
    }
  } catch (error) {
    throw error instanceof MountError ? error : await failure(error, plan, transaction);
  }
}

/** A mountpoint that a symbolic link leads to outside of what is assembled is looked up once that is attached. */
async function resolveOrReveal(
  plan: Plan,
  transaction: MountTransaction,
  fds: OwnedFds,
): Promise<ResolvedPlan> {
  const made = { push: (directory: MadeDirectory) => transaction.undo.push(directory) };
  try {
    return await resolvePlan(plan, transaction, fds, made);
  } catch (error) {
    if (!(error instanceof LeavesTree) || transaction.replacing) throw error;
    await reveal(transaction);
    return await resolvePlan(plan, transaction, fds, made);
  }
}

/** The error of the list for that of a plan. */
async function failure(error: unknown, plan: Plan, transaction: MountTransaction): Promise<unknown> {
  const { target, wait: { signal } } = transaction;
  if (signal?.aborted) return signal.reason;
  return new MountError(plan.mount, mountpointOf(plan, target), await explain(error, plan, transaction));
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
