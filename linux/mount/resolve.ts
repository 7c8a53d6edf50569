/**
 * The resolve phase: it opens the source of a bind and the target of every plan, and waits within a timeout for a server
 * that such a path leads through. The kernel looks up an overlay's layers and a device in the create phase.
 *
 * @module
 */

import type { OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { usesDetachedLayers } from "../filesystem/mapped_overlay.ts";
import type { MappedLayers, Resolved } from "../filesystem/resolved.ts";
import { AttachedLayers, openMappedLayers } from "../idmap/mapped_layers.ts";
import { type LoopDevice, setupLoop } from "../loop/loop.ts";
import type { UserNamespaces } from "../namespace/user.ts";
import { ensureResolvable, openCached } from "../path/cached_lookup.ts";
import { type MountTarget, openTarget, openTargetCached, resolveTarget } from "../path/mount_target.ts";
import type { FilesystemPlan, Plan } from "../spec/plan.ts";

/** What the plans of a list are resolved against. */
export interface ResolveContext {
  /** The directory that the list goes under. */
  readonly target: string;
  /** The thread in the target's mount namespace, if that is another one. */
  readonly thread: NamespaceThread | undefined;
  /** The user namespaces of the id-mapped plans. */
  readonly namespaces: UserNamespaces;
}

/** The descriptors of a plan, and what is released after them. */
export interface ResolvedPlan extends Resolved {
  /** Releases the loop device, or the temporarily attached layers. */
  readonly held: AsyncDisposable | undefined;
}

/**
 * Resolves one plan.
 *
 * @param plan the plan.
 * @param context what it is resolved against.
 * @param fds closes what is opened.
 * @returns the descriptors.
 * @throws {SyscallError} ETIMEDOUT if a server on the way does not answer.
 */
export async function resolvePlan(
  plan: Plan,
  context: ResolveContext,
  fds: OwnedFds,
): Promise<ResolvedPlan> {
  const userns = plan.idMaps && context.namespaces.of(plan.idMaps);
  let source: OwnedFd | undefined;
  if (plan.kind === "bind") {
    const found = openCached(plan.source);
    if (found === "uncached") await ensureResolvable(plan.source);
    else if (found !== "enoent") source = fds.add(found);
  }
  const target = fds.add(cachedTarget(plan, context) ?? await waitForTarget(plan, context));
  let device: string | undefined;
  let mappedLayers: MappedLayers | undefined;
  let held: AsyncDisposable | undefined;
  if (plan.kind === "filesystem" && plan.loop) {
    const loop = await attachImage(plan);
    device = loop.path;
    // The mount holds the device from here on, and autoclear frees it with the mount; without a mount, at once.
    held = { [Symbol.asyncDispose]: () => Promise.resolve(loop.close()) };
  }
  if (plan.kind === "overlay" && userns) {
    const lower = [...plan.layers.lower, ...plan.layers.dataOnly];
    if (usesDetachedLayers()) mappedLayers = { directories: await openMappedLayers(lower, userns, fds) };
    else mappedLayers = held = await AttachedLayers.attach([...new Set(lower)], userns);
  }
  return { target, fds, source, userns, device, mappedLayers, held };
}

function cachedTarget({ subpath }: Plan, { target, thread }: ResolveContext): MountTarget | undefined {
  return thread === undefined ? openTargetCached(target, subpath) : undefined;
}

async function waitForTarget({ subpath }: Plan, { target, thread }: ResolveContext): Promise<MountTarget> {
  return thread === undefined
    ? await resolveTarget(target, subpath)
    : thread.run(() => openTarget(target, subpath));
}

function attachImage({ source, loop, superFlags }: FilesystemPlan): Promise<LoopDevice> {
  const { direct, ...rest } = loop ?? { direct: false };
  const readonly = superFlags.findLast((name) => name === "ro" || name === "rw") === "ro";
  return setupLoop(source, { ...rest, direct, readonly, autoclear: true });
}
