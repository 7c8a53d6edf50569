/**
 * Changes of an existing mount: its attributes, and its file system's parameters. `reconfigure` uses mount_setattr(2) and
 * fspick(2); `reconfigureByMount` and `remountBind` are the fallbacks by mount(2).
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { quote } from "../../ffi/text.ts";
import { setAttributes } from "../idmap/attributes.ts";
import { lookupMount } from "../mountinfo/lookup.ts";
import { statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { type MountTarget, openTopMount, procFdPath } from "../path/mount_target.ts";
import { type Call, call, fsconfigCalls, mountCall, quoted, setattrCall } from "../spec/call.ts";
import { attributesToFlags, statfsToFlags, superFlagsToFlags } from "../spec/mount_flags.ts";
import { ExplainedError } from "../spec/error.ts";
import { keyAndValue } from "../spec/overlay_options.ts";
import { changedOverlayOptions } from "../spec/overlay_remount.ts";
import { type AttributeChange, splitOptions } from "../spec/options.ts";
import { WORDS } from "../spec/option_table.ts";
import type { CommonPlan, RemountPlan } from "../spec/plan.ts";
import { hasChanges, type PlanAttributes, setattrSteps } from "../spec/setattr.ts";
import {
  FSPICK_EMPTY_PATH,
  MOUNT_ATTR_RDONLY,
  MS_BIND,
  MS_RDONLY,
  MS_REMOUNT,
  OVERLAYFS_SUPER_MAGIC,
} from "../syscalls/constants.ts";
import { usesMountSetattr, whatSetattrNeeds } from "../syscalls/features.ts";
import { fspick, mount, mountOffThread, statfs } from "../syscalls/mod.ts";
import { createSuperblockAsync, setParameters, withKernelLog } from "./fs_context.ts";
import { withoutLabels } from "./labels.ts";
import type { DescribeOptions } from "./resolved.ts";

/**
 * Changes a mount. What the plan does not name stays as it is.
 *
 * @param plan the change.
 * @param mounted the root of the mount.
 */
export async function remount(plan: RemountPlan, mounted: OwnedFd): Promise<void> {
  const changed = withoutLabels(await withoutOverlayOptions(plan, mounted));
  try {
    if (usesMountSetattr()) return await reconfigure(changed, mounted);
    refuseRecursive(plan);
    await reconfigureByMount(changed, mounted);
  } catch (error) {
    if (!isErrno(error, "EINVAL") || statxMountUniqueFd(mounted).isRoot) throw error;
    throw new ExplainedError(error, [], "the target is not a mountpoint");
  }
}

/** An overlay's layers can't be changed; a remount that names those that it has is fine. */
async function withoutOverlayOptions(plan: RemountPlan, mounted: OwnedFd): Promise<RemountPlan> {
  if (plan.data.length === 0 || statfs(procFdPath(mounted)).type !== OVERLAYFS_SUPER_MAGIC) return plan;
  const { vfsOptions } = await lookupMount(procFdPath(mounted));
  const [changed] = changedOverlayOptions(plan.data, splitOptions(vfsOptions));
  if (changed === undefined) return { ...plan, data: [] };
  // mount(2) would ignore it, and fsconfig(2) fails without naming it.
  const { key, value } = keyAndValue(changed);
  const word = quote(value === undefined ? key : `${key}=`);
  throw new TypeError(`an overlay keeps its layers and features: a remount can't change ${word}`);
}

/**
 * Describes {@linkcode remount}.
 *
 * @param plan the change.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeRemount(plan: RemountPlan, { target }: DescribeOptions): Call[] {
  if (usesMountSetattr()) return describeReconfigure(plan, target);
  refuseRecursive(plan);
  const flags = attributesToFlags(plan.attributes);
  const own = mountCall(
    { target, flags: flags | MS_REMOUNT | MS_BIND },
    "set attributes, and keep the others",
  );
  if (parameters(plan).length === 0) return [own];
  const superFlags = superFlagsToFlags(plan.superFlags);
  const change = { target, flags: flags & ~MS_RDONLY | superFlags | MS_REMOUNT, data: plan.data.join(",") };
  return [mountCall(change, "change it"), ...(flags ^ superFlags) & MS_RDONLY ? [own] : []];
}

async function reconfigure(plan: RemountPlan, mounted: OwnedFd): Promise<void> {
  if (parameters(plan).length > 0) {
    const prepare = () => pickContext(plan, mounted);
    using _context = await createSuperblockAsync(prepare, "reconfigure"); // to read-only, it waits for the disk
  }
  setAttributes(mounted, setattrSteps(plan, true, "none"));
}

function pickContext(plan: RemountPlan, mounted: OwnedFd): OwnedFd {
  const context = fspick(mounted.fd, "", FSPICK_EMPTY_PATH);
  try {
    setParameters(context, parameters(plan));
    return context;
  } catch (error) {
    throw withKernelLog(context, error);
  }
}

/** What changes the superblock: with `bind`, nothing. */
function parameters({ bind, superFlags, data, labels }: RemountPlan): readonly string[] {
  return bind ? [] : [...superFlags, ...data, ...labels];
}

function describeReconfigure(plan: RemountPlan, target: string): Call[] {
  const picked = parameters(plan);
  const context = [
    call("fspick", [quoted(target)], "open a context of its file system"),
    ...fsconfigCalls(picked),
    call("fsconfig", ["context", "FSCONFIG_CMD_RECONFIGURE"], "change the superblock"),
  ];
  const steps = setattrSteps(plan, true, "none").map((step) =>
    setattrCall({ mount: quoted(target), change: step, ...step }, "change its attributes")
  );
  return [...picked.length > 0 ? context : [], ...steps];
}

/**
 * Changes a mount's attributes with mount(2). MS_REMOUNT sets all flags at once, so those that stay are passed again:
 * the kernel refuses a remount that leaves out a flag which a user namespace has locked.
 *
 * @param change the attributes.
 * @param mounted the root of the mount.
 */
export function remountBind(change: AttributeChange, mounted: OwnedFd): void {
  const path = procFdPath(mounted);
  setFlags(path, attributesToFlags(change, statfsToFlags(statfs(path).flags)));
}

function setFlags(path: string, flags: number): void {
  mount(null, path, null, MS_REMOUNT | MS_BIND | flags, null);
}

/**
 * Changes the attributes of the topmost mount on a mountpoint with mount(2).
 *
 * @param change the attributes.
 * @param target the mountpoint.
 */
export function remountTop(change: AttributeChange, target: MountTarget): void {
  using mounted = openTopMount(target);
  remountBind(change, mounted);
}

/**
 * Describes {@linkcode remountTop}.
 *
 * @param change the attributes.
 * @param target the mountpoint's path.
 * @returns its call; none without a change.
 */
export function describeRemountTop(change: AttributeChange | undefined, target: string): Call[] {
  if (change === undefined || !hasChanges(change)) return [];
  const flags = attributesToFlags(change) | MS_REMOUNT | MS_BIND;
  return [mountCall({ target, flags }, "set its attributes, and keep the others")];
}

/**
 * Refuses recursive attributes where mount(2) has to set the attributes.
 *
 * @param plan the attributes, and the mount whose words say them.
 * @throws {TypeError} that names the first such word.
 */
export function refuseRecursive({ recursiveAttributes, mount }: PlanAttributes & CommonPlan): void {
  if (!hasChanges(recursiveAttributes)) return;
  const word = (mount.options ?? []).flatMap(splitOptions).find(isTreeWord) ?? "rro";
  throw new TypeError(`${quote(word)} changes a tree, which needs ${whatSetattrNeeds()}`);
}

function isTreeWord(word: string): boolean {
  return WORDS.get(word)?.tree === true || /=.*recursive/.test(word);
}

/**
 * MS_REMOUNT has one flag for a read-only superblock and a read-only mount, and takes a superblock's flag back that is not
 * passed again. statfs(2) does not say which of the two is read-only; the mount table does.
 */
async function reconfigureByMount(plan: RemountPlan, mounted: OwnedFd): Promise<void> {
  const path = procFdPath(mounted);
  let before = statfsToFlags(statfs(path).flags);
  const isMountAlone = parameters(plan).length === 0;
  const { set, clear } = plan.attributes;
  if (isMountAlone && (!(before & MS_RDONLY) || (set | clear) & MOUNT_ATTR_RDONLY)) {
    return remountBind(plan.attributes, mounted);
  }
  const { options, vfsOptions } = await lookupMount(path);
  if (!splitOptions(options).includes("ro")) before &= ~MS_RDONLY;
  const flags = attributesToFlags(plan.attributes, before);
  if (isMountAlone) return setFlags(path, flags);
  const superFlags = superFlagsToFlags(plan.superFlags, superFlagsToFlags(splitOptions(vfsOptions)));
  const data = [...plan.data, ...plan.labels].join(",");
  await mountOffThread(null, path, null, MS_REMOUNT | flags & ~MS_RDONLY | superFlags, data);
  if ((flags ^ superFlags) & MS_RDONLY) setFlags(path, flags);
}
