/**
 * File systems that a helper program mounts: FUSE by those of libfuse, NFS by mount.nfs, and so on. The helper mounts on
 * the target itself, because it tells the server the mountpoint's path.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import { setAttributes } from "../idmap/attributes.ts";
import { delay } from "../path/delay.ts";
import { fdPath, type MountTarget, openTopMount } from "../path/mount_target.ts";
import type { WaitOptions } from "../path/wait.ts";
import { findProgram, type HelperResult, runHelper } from "../path/program.ts";
import { findMountById } from "../mountinfo/list_mounts.ts";
import type { MountInfo } from "../mountinfo/parse_mountinfo.ts";
import { mountIdAt } from "../mountinfo/statx_mount.ts";
import { type Call, call, quoted, setattrCall } from "../spec/call.ts";
import type { FusePlan } from "../spec/plan.ts";
import { setattrSteps, topAttributes } from "../spec/setattr.ts";
import { AT_FDCWD, MNT_DETACH } from "../syscalls/constants.ts";
import { usesMountSetattr } from "../syscalls/features.ts";
import { umount2 } from "../syscalls/mod.ts";
import { withoutLabels } from "./labels.ts";
import { describeRemountTop, remountBind } from "./remount.ts";
import type { DescribeOptions } from "./resolved.ts";

/** The Debian packages of the helpers. */
const packages: Readonly<Record<string, string>> = {
  "mount.fuse": "fuse3 or fuse",
  "mount.fuse3": "fuse3",
  "mount.nfs": "nfs-common",
  "mount.nfs4": "nfs-common",
  "mount.cifs": "cifs-utils",
  "mount.smb3": "cifs-utils",
  "mount.ntfs-3g": "ntfs-3g",
  "mount.lowntfs-3g": "ntfs-3g",
  "mount.glusterfs": "glusterfs-client",
  "mount.davfs": "davfs2",
};
const HELPER_TIMEOUT = 30_000; // ms: the helper starts a server, which may connect to another machine first
const APPEARS = 2000; // ms within which the mount of a helper that has exited successfully must appear

/**
 * Has the helper mount a file system. Whether it worked is read from the mount table and not from the exit status
 * alone: in a process that ignores SIGCHLD, or reaps every child, the exit status is lost.
 *
 * @param plan the file system.
 * @param target the mountpoint.
 * @param wait the timeout of the helper and the signal.
 * @throws {SyscallError} ETIMEDOUT after the timeout, when the helper is killed.
 */
export async function mountFuseOnto(
  plan: FusePlan,
  target: MountTarget,
  { timeout = HELPER_TIMEOUT, signal }: WaitOptions,
): Promise<void> {
  const { helper } = plan;
  refuseLabels(plan);
  const program = requireHelper(helper);
  const path = fdPath(target);
  if (!path.isWellFormed()) throw new Error(`${helper} takes no mountpoint whose name is no UTF-8`);
  const before = mountIdAt(AT_FDCWD, path);
  try {
    const result = await runHelper(program, helperArguments(plan, path), { timeout, signal });
    if (!await appears(path, before, result, signal) || (result.code ?? 0) !== 0) {
      throw new Error(failure(helper, result));
    }
    const { fsType, source } = await topMountInfo(path);
    if (!isOf(plan, fsType)) throw new Error(covered(helper, `${fsType} ${source}`));
    complete(plan, target);
  } catch (error) {
    await detachFailed(plan, path, before);
    throw error;
  }
}

/**
 * Detaches what the helper has mounted, if it, or a check after it, failed afterwards. Another process may have mounted on
 * the same path meanwhile: only a mount of the plan's type, on the mount that was on top before, is the helper's.
 */
async function detachFailed(plan: FusePlan, path: string, before: number): Promise<void> {
  if (mountIdAt(AT_FDCWD, path) === before) return;
  const { parent, fsType, source } = await topMountInfo(path);
  if (parent === before && isOf(plan, fsType, plan.type)) umount2(path, MNT_DETACH);
  else console.warn(`${path} stays mounted: ${covered(plan.helper, `${fsType} ${source}`)}`);
}

/** Reads the mount table: statmount(2) may be refused, and then a mount that failed would stay. */
async function topMountInfo(path: string): Promise<MountInfo> {
  const info = await findMountById(mountIdAt(AT_FDCWD, path));
  if (info === undefined) throw new Error(`${path} was unmounted by another process`);
  return info;
}

const FUSE = /^fuse(blk)?$/;

/** The types that the mount table shows for what a helper has mounted; all of them for a helper that is not listed. */
const shownTypes: Readonly<Record<string, RegExp>> = {
  "mount.fuse": FUSE,
  "mount.fuse3": FUSE,
  "mount.nfs": /^nfs4?$/,
  "mount.nfs4": /^nfs4?$/,
  "mount.cifs": /^(cifs|smb3)$/,
  "mount.smb3": /^(cifs|smb3)$/,
  "mount.ntfs-3g": FUSE,
  "mount.lowntfs-3g": FUSE,
  "mount.glusterfs": FUSE,
  "mount.davfs": FUSE,
};

/** Whether a mount can be the helper's. Not every server sets its subtype. */
function isOf({ helper }: FusePlan, fsType: string, subtype?: string): boolean {
  const [type = "", ...rest] = fsType.split(".");
  if (!(shownTypes[helper]?.test(type) ?? true)) return false;
  return subtype === undefined || rest.length === 0 || rest.join(".") === subtype;
}

function covered(helper: string, top: string): string {
  return `another process has mounted ${top} on the mountpoint while ${helper} ran`;
}

/** libfuse passes a context on, but splits it at its commas. Without SELinux it says nothing. */
function refuseLabels(plan: FusePlan): void {
  const [label] = withoutLabels(plan).labels;
  if (label !== undefined && label !== "seclabel") {
    throw new TypeError(
      `${quote(label)}: ${plan.type === undefined ? plan.helper : "a FUSE helper"} takes no security context`,
    );
  }
}

function whereFrom(helper: string): string {
  const name = packages[helper];
  return name === undefined ? `the package that has it` : `the package ${name}`;
}

function requireHelper(helper: string): string {
  const program = findProgram(helper);
  if (program !== undefined) return program;
  throw new Error(`${helper} is not installed: install ${whereFrom(helper)}`);
}

/** What the helper does not know, such as `rro` and `nosymfollow`. */
function complete(plan: FusePlan, target: MountTarget): void {
  const steps = setattrSteps(plan, false, "none");
  if (steps.length === 0) return;
  using mounted = openTopMount(target);
  if (usesMountSetattr()) setAttributes(mounted, steps);
  else remountBind(topAttributes(plan), mounted);
}

/** The helpers of libfuse collect their options; of another helper's, the last -o counts. */
function helperArguments({ type, source, options }: FusePlan, target: string): string[] {
  if (type !== undefined) return [source, target, ...options.flatMap((option) => ["-o", option]), "-t", type];
  return [source, target, ...options.length > 0 ? ["-o", options.join(",")] : []];
}

/**
 * Describes {@linkcode mountFuseOnto}.
 *
 * @param plan the file system.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeFuse(plan: FusePlan, { target }: DescribeOptions): Call[] {
  refuseLabels(plan);
  const args = [requireHelper(plan.helper), ...helperArguments(plan, target)];
  const steps = usesMountSetattr()
    ? setattrSteps(plan, false, "none").map((step) =>
      setattrCall({ mount: quoted(target), change: step, ...step }, "set what the helper does not know")
    )
    : describeRemountTop(topAttributes(plan), target);
  return [call("exec", args.map(quoted), "the helper mounts it and starts its server"), ...steps];
}

async function appears(
  target: string,
  before: number,
  { code }: HelperResult,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (code === 0 || code === undefined) {
    const deadline = Date.now() + (code === 0 ? APPEARS : APPEARS / 4);
    while (mountIdAt(AT_FDCWD, target) === before && Date.now() < deadline) await delay(10, signal);
  }
  return mountIdAt(AT_FDCWD, target) !== before;
}

function failure(helper: string, { code, said }: HelperResult): string {
  const ended = code === undefined
    ? "exited, another part of the process reaped it, and nothing is mounted"
    : code === 0
    ? "exited without an error, but nothing is mounted"
    : `failed with exit status ${code}`;
  return `${helper} ${ended}${said && `: ${said.replace(/\s*\n\s*/g, "; ")}`}`;
}
