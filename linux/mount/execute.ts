/**
 * Executing the plans of a list, one after the other: all of them or none. Each is resolved, created and attached before
 * the next one, because a later one may name a path that an earlier one makes.
 *
 * @module
 */

import { OwnedFds } from "../../ffi/fd.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { createDetached, isCreatedDetached, isStaged, mountOnto } from "../filesystem/kinds.ts";
import { setPropagation } from "../filesystem/propagation.ts";
import { remount } from "../filesystem/remount.ts";
import { changeRoot } from "../filesystem/root_change.ts";
import { mountStaged } from "../filesystem/staged.ts";
import { explainIdMap } from "../idmap/explain.ts";
import { UserNamespaces } from "../namespace/user.ts";
import { attachMount, type MountTarget } from "../path/mount_target.ts";
import { join } from "../path/path.ts";
import { delay } from "../path/delay.ts";
import type { WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import { makesMount, type NewMountPlan, type Plan } from "../spec/plan.ts";
import { usesMountSetattr } from "../syscalls/features.ts";
import { detachTopMount, detachTree } from "../unmount/tree.ts";
import type { AttachedMount } from "./handle.ts";
import { removeDirectory } from "./make_target.ts";
import { type ResolveContext, type ResolvedPlan, resolvePlan } from "./resolve.ts";

/** The mounts of one list. */
interface MountTransaction extends ResolveContext {
  /** What is attached until now, in its order. */
  readonly attached: AttachedMount[];
  /** What is undone if a later plan fails, in its order: attached mounts, and directories that were made. */
  readonly undo: (AttachedMount | { readonly directory: string })[];
}

/**
 * Executes the plans of a list.
 *
 * @param plans the plans, in the order to mount.
 * @param target the directory that they go under.
 * @param wait the timeout of each wait, and the signal, whose reason is thrown as it is.
 * @param thread the thread in the target's mount namespace, if that is another one.
 * @returns what is attached.
 * @throws {MountError} for the plan that failed. What was attached before it is detached again.
 */
export async function executePlans(
  plans: readonly Plan[],
  target: string,
  wait: WaitOptions,
  thread?: NamespaceThread,
): Promise<AttachedMount[]> {
  const transaction = { target, thread, wait, namespaces: new UserNamespaces(), attached: [], undo: [] };
  try {
    try {
      if (wait.signal === undefined) { for (const plan of plans) await executePlan(plan, transaction); }
      else await executeUnlessAborted(plans, transaction, wait.signal);
    } finally {
      transaction.namespaces[Symbol.dispose](); // inside of the outer block, for it can fail too
    }
    return transaction.attached;
  } catch (error) {
    rollBack(transaction);
    throw error;
  }
}

const TURN = 20; // ms

/** Yields to the event loop now and then: a long list of mounts that wait for nothing would never see the signal. */
async function executeUnlessAborted(
  plans: readonly Plan[],
  transaction: MountTransaction,
  signal: AbortSignal,
): Promise<void> {
  let turn = performance.now();
  for (const plan of plans) {
    if (performance.now() - turn > TURN) {
      await delay(0);
      turn = performance.now();
    }
    signal.throwIfAborted();
    await executePlan(plan, transaction);
  }
  signal.throwIfAborted();
}

/** Detaches and doesn't unmount: no caller has seen these mounts yet, and a busy one must not stay. */
function rollBack({ undo, thread }: MountTransaction): void {
  const undoAll = () =>
    undo.reverse().forEach((step) =>
      "directory" in step ? removeDirectory(step.directory) : detachTree(step.mountpoint)
    );
  if (thread === undefined) undoAll();
  else thread.run(undoAll);
}

async function executePlan(plan: Plan, transaction: MountTransaction): Promise<void> {
  const fds = new OwnedFds();
  let resolved: ResolvedPlan | undefined;
  try {
    try {
      resolved = await resolvePlan(plan, transaction, fds, transaction.undo);
      if (makesMount(plan)) await makeMount(plan, resolved, transaction);
      else await changeMount(plan, resolved.target, transaction);
    } finally {
      fds[Symbol.dispose](); // before what is held, which open descriptors keep busy
      if (resolved?.held) await resolved.held[Symbol.asyncDispose]();
    }
  } catch (error) {
    if (transaction.wait.signal?.aborted) throw transaction.wait.signal.reason;
    const path = plan.subpath === "/" ? transaction.target : join(transaction.target, plan.subpath);
    throw new MountError(plan.mount, path, await explain(error, plan, transaction));
  }
}

async function makeMount(
  plan: NewMountPlan,
  resolved: ResolvedPlan,
  { thread, attached, undo }: MountTransaction,
): Promise<void> {
  const { target, fds } = resolved;
  if (plan.propagation.length > 0) requireSetattr(thread);
  // The path is read before the mount is made: if it can't be read, nothing has to be undone.
  const mount = { mountpoint: target.path, isTree: plan.kind === "bind" && plan.recursive };
  if (isStaged(plan)) await mountStaged(plan, resolved);
  else if (plan.kind !== "fuse" && isCreatedDetached(plan)) {
    const created = createDetached(plan, resolved);
    const mounted = created instanceof Promise ? await created : created;
    changeRoot(mounted, plan.root);
    attachMount(mounted, target);
  } else if (thread !== undefined) await mountStaged(plan, resolved);
  else await mountOnto(plan, target, resolved);
  if (plan.propagation.length > 0) {
    fds.closeAllBut(target); // undoing the mount takes descriptors, which may be used up
    setPropagationOrDetach(plan, target);
  }
  attached.push(mount);
  undo.push(mount);
}

function setPropagationOrDetach(plan: Plan, target: MountTarget): void {
  target.run(() => {
    try {
      setPropagation(plan.propagation, target);
    } catch (error) {
      detachTopMount(target);
      throw error;
    }
  });
}

async function changeMount(plan: Plan, target: MountTarget, { thread }: MountTransaction): Promise<void> {
  requireSetattr(thread);
  if (plan.kind === "remount") await target.run(() => remount(plan, target));
  if (plan.propagation.length > 0) target.run(() => setPropagation(plan.propagation, target));
}

/** In another mount namespace, this process's /proc does not lead to the mount, so mount(2) can't change it. */
function requireSetattr(thread: NamespaceThread | undefined): void {
  if (thread === undefined || usesMountSetattr()) return;
  throw new TypeError(
    "to change a mount in another mount namespace takes mount_setattr(2), which came with Linux 5.12",
  );
}

/** Runs after the plan's descriptors are closed: it opens some, and they may be what had run out. */
async function explain(error: unknown, plan: Plan, { namespaces }: MountTransaction): Promise<unknown> {
  const userns = plan.idMaps && namespaces.known(plan.idMaps);
  if (userns === undefined || plan.kind !== "bind") return error;
  try {
    return await explainIdMap(error, plan.source, userns, plan.recursive);
  } catch (failure) {
    return failure;
  }
}
