/**
 * Mounts of a file system by its type. `createFilesystem` uses fsopen(2), whose errors are sentences and whose mount is
 * detached; `mountFilesystemOnto` is its fallback by mount(2).
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { quote } from "../../ffi/text.ts";
import { setAttributes } from "../idmap/attributes.ts";
import { isServed } from "../mountinfo/filesystem_types.ts";
import { UNRESOLVABLE } from "../path/cached_lookup.ts";
import { isDirectory, type MountTarget, procFdPath } from "../path/mount_target.ts";
import { withTimeout } from "../path/wait.ts";
import { type Call, call, flagNames, fsconfigCalls, mountCall, quoted, setattrCall } from "../spec/call.ts";
import { ExplainedError } from "../spec/error.ts";
import { fitsFsconfig } from "../spec/limits.ts";
import { newMountFlags } from "../spec/mount_flags.ts";
import type { FilesystemPlan } from "../spec/plan.ts";
import { type PlanAttributes, topAttributes } from "../spec/setattr.ts";
import { AT_FDCWD, AT_STATX_DONT_SYNC, S_IFBLK, S_IFMT, S_IFREG, STATX_TYPE } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { fsconfigSetString, fsmount, fsopen, mount, mountOffThread, statx } from "../syscalls/mod.ts";
import {
  createSuperblock,
  createSuperblockAsync,
  createSuperblockOnThread,
  setParameters,
  withKernelLog,
} from "./fs_context.ts";
import { withoutLabels } from "./labels.ts";
import { describeRemountTop, remountTop } from "./remount.ts";
import type { DescribeOptions, Resolved } from "./resolved.ts";

/**
 * Whether fsopen(2) makes a file system.
 *
 * @param plan the file system.
 * @returns false if the kernel lacks the call, or a value is too long for fsconfig(2).
 */
export function usesFsopen(plan: FilesystemPlan): boolean {
  return hasFeature("mountApi") && fitsFsconfig(plan);
}

/**
 * Makes a file system with fsopen(2).
 *
 * @param plan the file system.
 * @param resolved its device, and the user namespace whose maps it gets.
 * @returns the detached mount; a promise if a disk has to be read.
 */
export function createFilesystem(plan: FilesystemPlan, resolved: Resolved): OwnedFd | Promise<OwnedFd> {
  const source = resolved.device ?? plan.source;
  if (isServed(plan.type)) return createOnServer(plan, source, resolved);
  if (readsDisk(source, resolved)) return createOnDisk(plan, source, resolved);
  return mountSuperblock(plan, createSuperblock(openContext(plan, source), "create"), resolved);
}

async function createOnDisk(plan: FilesystemPlan, source: string, resolved: Resolved): Promise<OwnedFd> {
  const { signal } = resolved.wait;
  const created = createSuperblockAsync(() => openContext(plan, source), "create");
  if (signal === undefined) return mountSuperblock(plan, await created, resolved);
  try {
    const context = await withTimeout(created, { timeout: Infinity, signal }, "fsconfig", source);
    return mountSuperblock(plan, context, resolved);
  } catch (error) {
    if (signal.aborted) created.then((context) => context.close(), () => {}); // whenever the disk is read
    throw error;
  }
}

async function createOnServer(plan: FilesystemPlan, source: string, resolved: Resolved): Promise<OwnedFd> {
  const context = await createSuperblockOnThread(openContext(plan, source), source, resolved.wait);
  return mountSuperblock(plan, context, resolved);
}

function openContext(plan: FilesystemPlan, source: string): OwnedFd {
  const { type, superFlags, data, labels } = withoutLabels(plan);
  const context = fsopen(type);
  try {
    if (source !== "") fsconfigSetString(context.fd, "source", source);
    setParameters(context, superFlags);
    setParameters(context, data);
    setParameters(context, labels);
    return context;
  } catch (error) {
    throw withKernelLog(context, error);
  }
}

function mountSuperblock(plan: FilesystemPlan, context: OwnedFd, { fds, userns }: Resolved): OwnedFd {
  fds.add(context);
  const mounted = fds.add(fsmount(context.fd, topAttributes(plan).set));
  if (userns) mapIds(mounted, userns, plan.type);
  return mounted;
}

function mapIds(mounted: OwnedFd, userns: OwnedFd, type: string): void {
  try {
    setAttributes(mounted, MAP, userns);
  } catch (error) {
    throw isErrno(error, "EINVAL") ? new ExplainedError(error, [], `${type} can't be id-mapped`) : error;
  }
}

const MAP = [{ recursive: false, set: 0, clear: 0, isMapped: true, propagation: 0 }];

/**
 * Describes {@linkcode createFilesystem}.
 *
 * @param plan the file system.
 * @param options whether it gets an id map.
 * @returns its calls.
 */
export function describeFilesystem(plan: FilesystemPlan, { isMapped }: DescribeOptions): Call[] {
  const { type, superFlags, data, labels } = withoutLabels(plan);
  const source = plan.loop ? "/dev/loopN" : plan.source;
  const map = setattrCall({ mount: "mount", isMapped }, "map its ids while it is detached");
  return [
    call("fsopen", [quoted(type)], "open a context to configure"),
    ...source === "" ? [] : fsconfigCalls([`source=${source}`]),
    ...fsconfigCalls([...superFlags, ...data, ...labels]),
    ...describeSuperblock(plan),
    ...isMapped ? [map] : [],
  ];
}

/**
 * Describes the two calls that make a mount of a configured context.
 *
 * @param plan its attributes.
 * @returns the calls.
 */
export function describeSuperblock(plan: PlanAttributes): Call[] {
  const { set } = topAttributes(plan);
  return [
    call("fsconfig", ["context", "FSCONFIG_CMD_CREATE"], "make the superblock"),
    call("fsmount", ["context", flagNames("MOUNT_ATTR_", set)], "make a mount of it, detached"),
  ];
}

/**
 * Mounts a file system with mount(2).
 *
 * @param plan the file system.
 * @param target the mountpoint.
 * @param resolved its device.
 * @returns a promise if a disk has to be read.
 */
export function mountFilesystemOnto(
  plan: FilesystemPlan,
  target: MountTarget,
  resolved: Resolved,
): Promise<void> | undefined {
  const source = resolved.device ?? plan.source;
  const { flags, remount } = newMountFlags(plan.superFlags, topAttributes(plan));
  const data = mountData(plan);
  const complete = () => remount && remountTop(remount, target);
  if (readsDisk(source, resolved)) {
    return mountOffThread(source, procFdPath(target), plan.type, flags, data).catch((error) => {
      throw withoutSource(error, target);
    }).then(complete);
  }
  try {
    mount(source, procFdPath(target), plan.type, flags, data);
  } catch (error) {
    throw withoutSource(error, target);
  }
  complete();
  return undefined;
}

/** mount(2) fails with ENOTDIR if the mountpoint is a file, whatever the source is. */
function withoutSource(error: unknown, target: MountTarget): unknown {
  if (!isErrno(error, "ENOTDIR") || isDirectory(target)) return error;
  return new SyscallError({ syscall: error.syscall, errno: error.errno });
}

function mountData(plan: FilesystemPlan): string {
  const comma = plan.data.find((option) => option.includes(",") && !option.includes('"'));
  if (comma !== undefined) {
    throw new TypeError(`${quote(comma)} has a comma, which mount(2) takes for the end of the option`);
  }
  return [...plan.data, ...withoutLabels(plan).labels].join(",");
}

/**
 * Describes {@linkcode mountFilesystemOnto}.
 *
 * @param plan the file system.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeFilesystemOnto(plan: FilesystemPlan, { target }: DescribeOptions): Call[] {
  const source = plan.loop ? "/dev/loopN" : plan.source;
  const { type } = plan;
  const { flags, remount } = newMountFlags(plan.superFlags, topAttributes(plan));
  return [
    mountCall({ source, target, type, flags, data: mountData(plan) }, "mount it"),
    ...describeRemountTop(remount, target),
  ];
}

/** Whether making the file system reads a disk: a loop device or another block device, or the file that an erofs is in. */
function readsDisk(path: string, { device }: Resolved): boolean {
  if (device !== undefined) return true;
  if (!path.startsWith("/")) return false;
  try {
    const type = statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT;
    return type === S_IFBLK || type === S_IFREG;
  } catch (error) {
    // Mounting fails with the same errno.
    if (isErrno(error, ...UNRESOLVABLE)) return false;
    throw error;
  }
}
