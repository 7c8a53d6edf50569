/**
 * Making the mounts of a list, one after the other: all of them or none.
 *
 * Mostly there is nothing to wait for. So these functions make a mount at once where they can, and give a promise only
 * where a disk, a server or another thread has to be waited for: each `await` takes as long as a system call.
 *
 * @module
 */

import { OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { explainIdMap } from "../idmap/attributes.ts";
import { bind } from "../filesystem/bind.ts";
import { AT_EMPTY_PATH, AT_RECURSIVE, MS_REC } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mountFilesystem } from "../filesystem/by_type.ts";
import { mountFuse } from "../filesystem/fuse.ts";
import { MountError } from "../spec/error.ts";
import type { AttachedMount } from "./handle.ts";
import { mountInNamespace } from "./in_namespace.ts";
import type { PropagationStep } from "../spec/options.ts";
import { mountOverlay } from "../filesystem/overlay.ts";
import { join } from "../path/path.ts";
import type { Plan } from "./plan.ts";
import { ensureResolvable, openCached } from "../path/cached_lookup.ts";
import { remount } from "../filesystem/remount.ts";
import { mount, mountSetattr } from "../syscalls/mod.ts";
import {
  type MountTarget,
  openTarget,
  openTargetCached,
  openTopMount,
  procFdPath,
  resolveTarget,
} from "../path/mount_target.ts";
import { detachTopMount, detachTree } from "../unmount/tree.ts";
import { UserNamespaces } from "../namespace/user.ts";

/** What all mounts of a list have in common. */
interface MountTransaction {
  /** The directory that they go under. */
  target: string;
  /** That of its mount namespace, where it is another. */
  thread: NamespaceThread | undefined;
  /** Those of the id-mapped ones, from the first one on. */
  namespaces: UserNamespaces | undefined;
  /** What was mounted until now. */
  made: AttachedMount[];
}

/**
 * Makes the mounts of a list.
 *
 * @param plans what to make, in this order.
 * @param target the directory that they go under.
 * @param thread makes the calls that are about the target, where that is in another mount namespace.
 * @returns what was mounted.
 * @throws {MountError} for the one that failed. What was mounted before it is off again.
 */
export function executePlans(
  plans: readonly Plan[],
  target: string,
  thread?: NamespaceThread,
): AttachedMount[] | Promise<AttachedMount[]> {
  const work: MountTransaction = { target, thread, namespaces: undefined, made: [] };
  for (let index = 0; index < plans.length; index++) {
    const plan = plans[index] as Plan;
    const making = executePlan(plan, work);
    if (making || work.namespaces) return carryOn(making, plans.slice(index + 1), work);
  }
  return work.made;
}

async function carryOn(
  making: Promise<void> | undefined,
  rest: Plan[],
  work: MountTransaction,
): Promise<AttachedMount[]> {
  try {
    try {
      await making;
      for (const plan of rest) await executePlan(plan, work);
    } finally {
      work.namespaces?.[Symbol.dispose](); // in here, for it can fail as well
    }
    return work.made;
  } catch (error) {
    // Detached and not unmounted: nobody was told of these mounts yet, and none may be kept by being busy.
    const takeOff = () => work.made.reverse().forEach(({ mountpoint }) => detachTree(mountpoint));
    if (work.thread === undefined) takeOff();
    else work.thread.run(takeOff);
    throw error;
  }
}

// No function on the way of a mount that needs no waiting makes a closure: each would be a piece of memory for every
// mount, and what is allocated costs as much as a system call in the end.

function executePlan(plan: Plan, work: MountTransaction): Promise<void> | undefined {
  const fds = new OwnedFds(); // all that is opened for this mount, closed together
  try {
    const making = start(plan, work, fds);
    if (making) return orFail(making, plan, work, fds);
    fds[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return fail(error, plan, work, fds);
  }
}

function start(plan: Plan, work: MountTransaction, fds: OwnedFds): Promise<void> | undefined {
  const { action, idMaps } = plan;
  if (idMaps) (work.namespaces ??= new UserNamespaces()).of(idMaps);
  if (work.thread !== undefined) return makeLater(plan, work, fds);
  const source = action.kind === "bind" ? openCached(action.plan.source) : "absent";
  if (source instanceof OwnedFd) fds.add(source);
  const place = source === "unknown" ? undefined : openTargetCached(work.target, plan.subpath);
  if (place === undefined) return makeLater(plan, work, fds);
  fds.add(place);
  return makeAt(place, plan, work, fds, source instanceof OwnedFd ? source : undefined);
}

async function orFail(
  making: Promise<void>,
  plan: Plan,
  work: MountTransaction,
  fds: OwnedFds,
): Promise<void> {
  try {
    await making;
    fds[Symbol.dispose]();
  } catch (error) {
    await fail(error, plan, work, fds);
  }
}

async function fail(error: unknown, plan: Plan, work: MountTransaction, fds: OwnedFds): Promise<never> {
  const { action, subpath: below, mount } = plan;
  let cause = error;
  try {
    fds[Symbol.dispose](); // first, for to explain it may take descriptors, which may be what is wanting
    const userns = usernsOf(plan, work);
    if (userns !== undefined && action.kind === "bind") {
      cause = await explainIdMap(error, action.plan.source, userns, action.plan.options.recursive);
    }
  } catch (failure) {
    cause = failure;
  }
  throw new MountError(mount, below === "/" ? work.target : join(work.target, below), cause);
}

/** Where somebody has to be asked for the way to the source or the target, or a thread for the target. */
async function makeLater(plan: Plan, work: MountTransaction, fds: OwnedFds): Promise<void> {
  const { action, subpath: below } = plan;
  const { target, thread } = work;
  if (action.kind === "bind") await ensureResolvable(action.plan.source);
  const place = thread === undefined
    ? await resolveTarget(target, below)
    : thread.run(() => openTarget(target, below));
  await makeAt(fds.add(place), plan, work, fds);
}

function makeAt(
  place: MountTarget,
  plan: Plan,
  work: MountTransaction,
  fds: OwnedFds,
  source?: OwnedFd,
): Promise<void> | undefined {
  const one = madeBy(plan, place); // asked before it is made: no failure to tell its path may leave it there
  const userns = usernsOf(plan, work);
  const making = work.thread === undefined
    ? make(plan, place, fds, userns, source)
    : mountInNamespace(plan, place, work.thread, fds, userns, make);
  if (making) return finishLater(making, one, place, plan, work, fds);
  finish(one, place, plan, work, fds);
  return undefined;
}

function usernsOf({ idMaps }: Plan, { namespaces }: MountTransaction): OwnedFd | undefined {
  return idMaps && namespaces?.known(idMaps);
}

async function finishLater(
  making: Promise<void>,
  one: AttachedMount | undefined,
  place: MountTarget,
  plan: Plan,
  work: MountTransaction,
  fds: OwnedFds,
): Promise<void> {
  await making;
  finish(one, place, plan, work, fds);
}

function finish(
  one: AttachedMount | undefined,
  place: MountTarget,
  plan: Plan,
  { made }: MountTransaction,
  fds: OwnedFds,
): void {
  if (plan.propagation.length > 0) {
    fds.closeAllBut(place); // what was just made comes off again where a step fails, and that takes descriptors
    propagate(plan.propagation, place, one !== undefined);
  }
  if (one) made.push(one);
}

function madeBy({ action }: Plan, place: MountTarget): AttachedMount | undefined {
  if (action.kind === "remount" || action.kind === "propagation") return undefined;
  return { mountpoint: place.path, isTree: action.kind === "bind" && action.plan.options.recursive };
}

function make(
  { action }: Plan,
  place: MountTarget,
  fds: OwnedFds,
  userns: OwnedFd | undefined,
  source?: OwnedFd,
): Promise<void> | undefined {
  switch (action.kind) {
    case "bind":
      bind(action.plan, place, fds, userns, source);
      return undefined;
    case "overlay":
      return mountOverlay(action.plan, place, fds, userns);
    case "fuse":
      return mountFuse(action.plan, place);
    case "filesystem":
      return mountFilesystem(action.plan, place, fds, userns);
    case "remount":
      return remount(action.options, place);
    case "propagation":
      return undefined;
  }
}

/** A step of its own: attaching under a shared mount would undo it, and mount(2) takes it with nothing else. */
function propagate(steps: readonly PropagationStep[], place: MountTarget, isNew: boolean): void {
  place.run(() => {
    try {
      for (const { type, recursive } of steps) {
        using mounted = openTopMount(place);
        if (hasFeature("mountSetattr")) {
          mountSetattr(mounted.fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), { propagation: type });
        } else mount(null, procFdPath(mounted), null, type | (recursive ? MS_REC : 0), null);
      }
    } catch (error) {
      if (isNew) detachTopMount(place);
      throw error;
    }
  });
}
