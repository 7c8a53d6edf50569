/**
 * The resolve phase: it opens the source of a bind and the target of every plan, and waits within a timeout for a server
 * that such a path leads through. The kernel looks up an overlay's layers and a device in the create phase.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd, OwnedFds, withDisposable } from "../../ffi/fd.ts";
import { cString } from "../../ffi/memory.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { onPrivateThread, type ThreadCall } from "../../ffi/private_thread.ts";
import { shown } from "../../ffi/text.ts";
import { mappedLayersOf, usesDetachedLayers } from "../filesystem/mapped_overlay.ts";
import type { MappedLayers, Resolved } from "../filesystem/resolved.ts";
import { AttachedLayers, type CommonDirectory, openMappedLayers } from "../idmap/mapped_layers.ts";
import { type LoopDevice, setupLoop } from "../loop/loop.ts";
import { PSEUDO_FILESYSTEMS } from "../mountinfo/filesystem_types.ts";
import { mayWaitForServer } from "../mountinfo/served.ts";
import { statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import type { UserNamespaces } from "../namespace/user.ts";
import {
  ensureAnswers,
  ensureResolvable,
  isCached,
  openCached,
  openMayWait,
  tryOpenCached,
} from "../path/cached_lookup.ts";
import {
  type MountTarget,
  openTarget,
  openTargetCached,
  procFdPath,
  resolveTarget,
  tryResolveTarget,
} from "../path/mount_target.ts";
import { commonDirectory, join } from "../path/path.ts";
import { readTextFile } from "../path/text_file.ts";
import { callOffThread, type WaitOptions } from "../path/wait.ts";
import { ExplainedError } from "../spec/error.ts";
import type { IdMaps } from "../spec/options.ts";
import {
  type BindPlan,
  type FilesystemPlan,
  makesMount,
  mountpointOf,
  type OverlayPlan,
  type Plan,
} from "../spec/plan.ts";
import {
  AT_FDCWD,
  CLONE_NEWNS,
  MOUNT_ATTR__ATIME,
  O_CLOEXEC,
  O_PATH,
  O_RDONLY,
  RESOLVE_NO_XDEV,
} from "../syscalls/constants.ts";
import { requireIdMapping } from "../syscalls/features.ts";
import { open } from "../syscalls/mod.ts";
import { type DetachedTrees, openInside } from "./detached_tree.ts";
import { type MadeDirectories, makeTarget } from "./make_target.ts";

/** What the plans of a list are resolved against. */
export interface ResolveContext {
  /** The directory that the list goes under. */
  readonly target: string;
  /** The thread in the target's mount namespace, if that is another one. */
  readonly thread: NamespaceThread | undefined;
  /** The user namespaces of the id-mapped plans. */
  readonly namespaces: UserNamespaces;
  /** The user namespace of the call, for the plans that have no maps of their own. */
  readonly userns: OwnedFd | undefined;
  /** The new mounts that are not attached yet. */
  readonly detached: DetachedTrees | undefined;
  /** The timeout and the signal of each wait. */
  readonly wait: WaitOptions;
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
  const { wait } = context;
  const userns = idMaps &&
    (idMaps.file === undefined ? usernsOf(idMaps, context) : await openNamespaceFile(idMaps.file, wait, fds));
  const source = plan.kind === "bind"
    ? (asksServer(plan) ? undefined : openCachedSource(plan, fds)) ?? await waitForSource(plan, wait, fds)
    : NO_SOURCE;
  const target = fds.add(cachedTarget(plan, context) ?? await waitForTarget(plan, context, made));
  let device: string | undefined;
  let mappedLayers: MappedLayers | undefined;
  let held: AsyncDisposable | undefined;
  if (plan.kind === "filesystem" && plan.loop) {
    const loop = await attachImage(plan, wait);
    device = loop.path;
    // The mount holds the device from here on, and autoclear frees it with the mount; without a mount, at once.
    held = { [Symbol.asyncDispose]: () => Promise.resolve(loop.close()) };
  }
  if (plan.kind === "filesystem" && !plan.loop && isPath(plan)) await ensureDevice(plan.source, wait);
  if (plan.kind === "overlay") {
    const common = await ensureLayers(plan, wait, fds);
    if (userns && usesDetachedLayers()) {
      mappedLayers = { directories: await mapDetached(plan, userns, fds, common) };
    } else if (userns) {
      mappedLayers = held = await AttachedLayers.attach([...new Set(mappedLayersOf(plan))], userns);
    }
  }
  return { target, fds, source: source.fd, userns, device, mappedLayers, held, wait };
}

/**
 * The user namespace that a plan is mapped with, if it is not that of a file.
 *
 * @param maps the plan's maps.
 * @param context the namespaces of the list, and that of the call.
 * @returns its descriptor, which belongs to the context.
 */
function usernsOf(maps: IdMaps, { namespaces, userns }: ResolveContext): OwnedFd | undefined {
  return maps.ofCall === undefined ? namespaces.of(maps) : userns;
}

/** A bind's source. */
interface Source {
  /** Undefined if the kernel has to look it up itself, to mount an automount or to say why it can't. */
  readonly fd: OwnedFd | undefined;
}

type BindSource = Pick<BindPlan, "source" | "subdir">;

const NO_SOURCE: Source = { fd: undefined };

/** `rro,rw` takes `ro` back from the top mount: the attributes of the source are read with statfs(2). */
function asksServer({ attributes }: BindPlan): boolean {
  return (attributes.clear & ~MOUNT_ATTR__ATIME) !== 0;
}

/** Undefined if the source has to be waited for. */
function openCachedSource({ source, subdir }: BindSource, fds: OwnedFds): Source | undefined {
  if (subdir !== undefined) return undefined;
  const found = openCached(source);
  if (found === "uncached") return undefined;
  return found === "enoent" ? NO_SOURCE : { fd: fds.add(found) };
}

/**
 * Opens the source of a bind.
 *
 * @param plan its source.
 * @param wait the timeout and the signal.
 * @param fds closes what is opened.
 * @returns the source.
 * @throws {SyscallError} ETIMEDOUT if a server on the path does not answer.
 */
export async function resolveBindSource(plan: BindSource, wait: WaitOptions, fds: OwnedFds): Promise<Source> {
  return openCachedSource(plan, fds) ?? await waitForSource(plan, wait, fds);
}

async function waitForSource(
  { source, subdir }: BindSource,
  wait: WaitOptions,
  fds: OwnedFds,
): Promise<Source> {
  await ensureAnswers(source, wait); // mounts an automount too
  if (subdir !== undefined) return { fd: fds.add(await openSubdirectory(source, subdir, wait)) };
  const found = openCached(source);
  if (found instanceof OwnedFd) return { fd: fds.add(found) };
  if (found === "enoent") return NO_SOURCE; // the kernel's error names the source
  return { fd: fds.add(await openMayWait(source, O_PATH, wait)) };
}

async function openSubdirectory(source: string, subdir: string, wait: WaitOptions): Promise<OwnedFd> {
  try {
    return await resolveTarget(source, join("/", subdir), wait);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    throw new ExplainedError(error, [], `the source ${shown(join(source, subdir))} does not exist`);
  }
}

async function openNamespaceFile(path: string, wait: WaitOptions, fds: OwnedFds): Promise<OwnedFd> {
  requireIdMapping();
  return fds.add(await openMayWait(path, O_RDONLY, wait));
}

/** Whether the kernel looks up the source of a file system as a path. */
function isPath({ source, type }: FilesystemPlan): boolean {
  return source !== "" && type !== "tmpfs" && !PSEUDO_FILESYSTEMS.has(type);
}

/** The file that a loop device is attached to; undefined for any other device. */
function backingFile(device: string): string | undefined {
  const name = /^\/dev\/(loop\d+)$/.exec(device)?.[1];
  if (name === undefined) return undefined;
  try {
    return readTextFile(`/sys/block/${name}/loop/backing_file`).trimEnd();
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // not attached, or no /sys
    throw error;
  }
}

/** The kernel looks up a device, and reads the file behind a loop device, when the file system is created. */
async function ensureDevice(source: string, wait: WaitOptions): Promise<void> {
  await ensureResolvable(source, wait);
  const file = backingFile(source);
  if (file !== undefined) await ensureAnswers(file, wait);
}

/**
 * The kernel looks up the layers when the overlay is created, and calls statfs(2) on each, which asks a server. A layer
 * that is cached costs an openat2(2) if it is on the mount of the directory that they have in common; else a statx(2) and a
 * close(2) too, and each file system of the layers without a block device one statmount(2).
 *
 * @returns the directory that all layers have in common, on whose mount they are; undefined if that is not known.
 */
async function ensureLayers(
  { layers }: OverlayPlan,
  wait: WaitOptions,
  fds: OwnedFds,
): Promise<CommonDirectory | undefined> {
  const all = [...layers.lower, ...layers.dataOnly, layers.upper, layers.work]
    .filter((path): path is string => path !== undefined && path !== "");
  const devices = new Set<number>();
  const { left, common } = await withoutCached(all, devices, fds);
  for (const path of left) {
    const found = openCached(path);
    if (found === "uncached") await ensureAnswers(path, wait);
    if (!(found instanceof OwnedFd)) continue; // the kernel names a layer that is missing
    const mount = withDisposable(found, statxMountUniqueFd);
    if (devices.has(mount.device)) continue;
    devices.add(mount.device);
    if (await mayWaitForServer(mount)) await ensureAnswers(path, wait);
  }
  return left.length === 0 ? common : undefined;
}

const FEW = 3; // layers, from which on their common directory is worth its own calls
const OPEN = 64; // descriptors of layers that are open at once

/**
 * The layers that are not cached on the mount of the directory that they have in common; all of them, if that may wait for
 * a server. Adds the device of the others.
 */
async function withoutCached(
  layers: string[],
  devices: Set<number>,
  fds: OwnedFds,
): Promise<{ left: string[]; common?: CommonDirectory }> {
  if (layers.length < FEW || !layers.every((path) => path.startsWith("/"))) return { left: layers };
  const path = commonDirectory(layers);
  const found = openCached(path);
  if (!(found instanceof OwnedFd)) return { left: layers };
  const directory = fds.add(found);
  const mount = statxMountUniqueFd(directory);
  if (await mayWaitForServer(mount)) return { left: layers };
  devices.add(mount.device);
  using opened = new OwnedFds();
  const left = layers.filter((layer, index) => {
    if (index % OPEN === OPEN - 1) opened[Symbol.dispose]();
    const inside = layer.slice(path.length).replace(/^\/+/, "") || ".";
    const fd = tryOpenCached(directory.fd, inside, O_PATH, RESOLVE_NO_XDEV);
    if (fd >= 0) opened.add(new OwnedFd(fd));
    return fd < 0;
  });
  return { left, common: { path, directory } };
}

/** A directory for each lower layer, in their order; undefined for one that is not mapped. */
async function mapDetached(
  plan: OverlayPlan,
  userns: OwnedFd,
  fds: OwnedFds,
  common: CommonDirectory | undefined,
): Promise<(OwnedFd | undefined)[]> {
  const { lower, dataOnly } = plan.layers;
  const mapped = await openMappedLayers(mappedLayersOf(plan), userns, fds, common);
  let next = 0;
  return [...lower, ...dataOnly].map((path) => plan.unmapped.includes(path) ? undefined : mapped[next++]);
}

function cachedTarget(
  { subpath }: Plan,
  { target, thread, detached }: ResolveContext,
): MountTarget | undefined {
  if (thread !== undefined || detached?.find(subpath) !== undefined) return undefined;
  return openTargetCached(target, subpath);
}

async function waitForTarget(
  plan: Plan,
  context: ResolveContext,
  made: MadeDirectories,
): Promise<MountTarget> {
  try {
    return await findTarget(plan, context, made);
  } catch (error) {
    throw withMountpoint(error, plan, mountpointOf(plan, context.target));
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

async function findTarget(
  { subpath, mkdir }: Plan,
  { target, thread, wait, detached }: ResolveContext,
  made: MadeDirectories,
): Promise<MountTarget> {
  const place = detached?.find(subpath);
  if (place !== undefined) {
    const { tree, inside } = place;
    return await openInside(place, mkdir !== undefined, wait) ??
      makeTarget(procFdPath(tree.fd), inside, mkdir ?? 0, place.made);
  }
  if (thread !== undefined) {
    await ensureTargetInNamespace(join(target, subpath), thread, wait);
    return thread.run(() =>
      mkdir === undefined ? openTarget(target, subpath) : makeTarget(target, subpath, mkdir, made)
    );
  }
  if (mkdir === undefined) return await resolveTarget(target, subpath, wait);
  // The path is cached afterwards, as far as it exists.
  return await tryResolveTarget(target, subpath, wait) ?? makeTarget(target, subpath, mkdir, made);
}

/**
 * Waits for the server of a target in another mount namespace. A thread of its own looks up the path: `thread` has to
 * undo what is mounted already if the server does not answer.
 */
async function ensureTargetInNamespace(
  path: string,
  thread: NamespaceThread,
  wait: WaitOptions,
): Promise<void> {
  if (thread.run(() => isCached(path, wait))) return;
  using namespace = open(`/proc/self/task/${thread.id}/ns/mnt`, O_RDONLY);
  const calls: ThreadCall[] = [
    { name: "setns", args: [namespace.fd, CLONE_NEWNS] },
    { name: "openat", args: [AT_FDCWD, cString(path), O_PATH | O_CLOEXEC, 0] },
  ];
  const close = ([, fd = -1]: number[]) => new OwnedFd(fd).close();
  try {
    close(await callOffThread(() => onPrivateThread(calls), wait, "open", path, close));
  } catch (error) {
    if (!(error instanceof SyscallError) || error.code === "ETIMEDOUT") throw error; // else `thread` gets the error too
  }
}

async function attachImage(
  { source, loop, superFlags }: FilesystemPlan,
  wait: WaitOptions,
): Promise<LoopDevice> {
  const { direct, ...rest } = loop ?? { direct: false };
  const readonly = superFlags.findLast((name) => name === "ro" || name === "rw") === "ro";
  try {
    return await setupLoop(source, { ...rest, ...wait, direct, readonly, autoclear: true });
  } catch (error) {
    const isUnwritable = !readonly && isErrno(error, "EROFS", "EACCES", "EPERM") && error.path === source;
    if (!isUnwritable) throw error;
    throw new ExplainedError(error, [], `${source} can't be opened for writing; add the option "ro"`);
  }
}
