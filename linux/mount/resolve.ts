/**
 * The resolve phase: it opens the source of a bind and the target of every plan, and waits within a timeout for a server
 * that such a path leads through. The kernel looks up an overlay's layers and a device in the create phase.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { shown } from "../../ffi/text.ts";
import { mappedLayersOf, usesDetachedLayers } from "../filesystem/mapped_overlay.ts";
import type { MappedLayers, Resolved } from "../filesystem/resolved.ts";
import { AttachedLayers, openMappedLayers } from "../idmap/mapped_layers.ts";
import { type LoopDevice, setupLoop } from "../loop/loop.ts";
import type { UserNamespaces } from "../namespace/user.ts";
import { ensureResolvable, openCached } from "../path/cached_lookup.ts";
import { type MountTarget, openTarget, openTargetCached, resolveTarget } from "../path/mount_target.ts";
import { join } from "../path/path.ts";
import { ExplainedError } from "../spec/error.ts";
import { type BindPlan, type FilesystemPlan, makesMount, type OverlayPlan, type Plan } from "../spec/plan.ts";
import { O_RDONLY } from "../syscalls/constants.ts";
import { requireIdMapping } from "../syscalls/features.ts";
import { open } from "../syscalls/mod.ts";
import { type MadeDirectories, makeTarget } from "./make_target.ts";

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
 * @param made gets the path of each directory that was made for the mountpoint.
 * @returns the descriptors.
 * @throws {SyscallError} ETIMEDOUT if a server on the way does not answer.
 */
export async function resolvePlan(
  plan: Plan,
  context: ResolveContext,
  fds: OwnedFds,
  made: MadeDirectories,
): Promise<ResolvedPlan> {
  const { idMaps } = plan;
  const userns = idMaps &&
    (idMaps.file === undefined ? context.namespaces.of(idMaps) : await openNamespaceFile(idMaps.file, fds));
  const source = plan.kind === "bind"
    ? openCachedSource(plan, fds) ?? await resolveSource(plan, fds)
    : NO_SOURCE;
  const target = fds.add(cachedTarget(plan, context) ?? await waitForTarget(plan, context, made));
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
    if (usesDetachedLayers()) mappedLayers = { directories: await mapDetached(plan, userns, fds) };
    else mappedLayers = held = await AttachedLayers.attach([...new Set(mappedLayersOf(plan))], userns);
  }
  return { target, fds, source: source.fd, userns, device, mappedLayers, held };
}

/** A bind's source. */
interface Source {
  /** Undefined if the kernel has to look it up itself, to mount an automount or to say why it can't. */
  readonly fd: OwnedFd | undefined;
}

const NO_SOURCE: Source = { fd: undefined };

/** Undefined if the source has to be waited for. */
function openCachedSource({ source, subdir }: BindPlan, fds: OwnedFds): Source | undefined {
  if (subdir !== undefined) return undefined;
  const found = openCached(source);
  if (found === "uncached") return undefined;
  return found === "enoent" ? NO_SOURCE : { fd: fds.add(found) };
}

async function resolveSource({ source, subdir }: BindPlan, fds: OwnedFds): Promise<Source> {
  await ensureResolvable(source);
  if (subdir === undefined) return NO_SOURCE;
  try {
    return { fd: fds.add(await resolveTarget(source, join("/", subdir))) };
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    throw new ExplainedError(error, [], `the source ${shown(join(source, subdir))} does not exist`);
  }
}

async function openNamespaceFile(path: string, fds: OwnedFds): Promise<OwnedFd> {
  requireIdMapping();
  await ensureResolvable(path);
  return fds.add(open(path, O_RDONLY));
}

/** A directory for each lower layer, in their order; undefined for one that is not mapped. */
async function mapDetached(
  plan: OverlayPlan,
  userns: OwnedFd,
  fds: OwnedFds,
): Promise<(OwnedFd | undefined)[]> {
  const { lower, dataOnly } = plan.layers;
  const mapped = await openMappedLayers(mappedLayersOf(plan), userns, fds);
  let next = 0;
  return [...lower, ...dataOnly].map((path) => plan.unmapped.includes(path) ? undefined : mapped[next++]);
}

function cachedTarget({ subpath }: Plan, { target, thread }: ResolveContext): MountTarget | undefined {
  return thread === undefined ? openTargetCached(target, subpath) : undefined;
}

async function waitForTarget(
  plan: Plan,
  { target, thread }: ResolveContext,
  made: MadeDirectories,
): Promise<MountTarget> {
  const { subpath } = plan;
  const open = plan.mkdir === undefined
    ? () => openTarget(target, subpath)
    : () => makeTarget(target, subpath, plan.mkdir ?? 0, made);
  try {
    if (thread !== undefined) return thread.run(open);
    await ensureResolvable(target);
    return open();
  } catch (error) {
    throw withMountpoint(error, plan, subpath === "/" ? target : join(target, subpath));
  }
}

/** The path of the call may be the part below the target, which reads like the path of a source. */
function withMountpoint(error: unknown, plan: Plan, path: string): unknown {
  if (isErrno(error, "ENOENT")) {
    const hint = makesMount(plan) ? ': create it, or add the option "X-mount.mkdir"' : "";
    return new ExplainedError(error, [], `the mountpoint ${shown(path)} does not exist${hint}`);
  }
  return isErrno(error, "ENOTDIR")
    ? new ExplainedError(error, [], `a part of the mountpoint ${shown(path)} is not a directory`)
    : error;
}

async function attachImage({ source, loop, superFlags }: FilesystemPlan): Promise<LoopDevice> {
  const { direct, ...rest } = loop ?? { direct: false };
  const readonly = superFlags.findLast((name) => name === "ro" || name === "rw") === "ro";
  try {
    return await setupLoop(source, { ...rest, direct, readonly, autoclear: true });
  } catch (error) {
    const isUnwritable = !readonly && isErrno(error, "EROFS", "EACCES", "EPERM") && error.path === source;
    if (!isUnwritable) throw error;
    throw new ExplainedError(error, [], `${source} can't be opened for writing; add the option "ro"`);
  }
}
