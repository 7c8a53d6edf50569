/**
 * Changes of an existing mount: its attributes, and its file system's parameters. `reconfigure` uses mount_setattr(2) and
 * fspick(2); `reconfigureByMount` and `remountBind` are the fallbacks by mount(2).
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { setAttributes } from "../idmap/attributes.ts";
import { procFdPath } from "../path/mount_target.ts";
import { type Call, call, fsconfigCalls, mountCall, quoted, setattrCall } from "../spec/call.ts";
import { attributesToFlags, statfsToFlags, superFlagsToFlags } from "../spec/mount_flags.ts";
import type { BindPlan, RemountPlan } from "../spec/plan.ts";
import { hasChanges, setattrSteps } from "../spec/setattr.ts";
import { FSPICK_EMPTY_PATH, MS_BIND, MS_REMOUNT } from "../syscalls/constants.ts";
import { usesMountSetattr } from "../syscalls/features.ts";
import { fspick, mount, mountOffThread, statfs } from "../syscalls/mod.ts";
import { createSuperblockAsync, setParameters, withKernelLog } from "./fs_context.ts";
import type { DescribeOptions } from "./resolved.ts";

/**
 * Changes a mount. What the plan does not name stays as it is.
 *
 * @param plan the change.
 * @param mounted the root of the mount.
 */
export async function remount(plan: RemountPlan, mounted: OwnedFd): Promise<void> {
  if (usesMountSetattr()) await reconfigure(plan, mounted);
  else if (plan.bind) remountBind(plan, mounted);
  else await reconfigureByMount(plan, mounted);
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
  const attributes = attributesToFlags(plan.attributes);
  return plan.bind
    ? [mountCall({ target, flags: attributes | MS_REMOUNT | MS_BIND }, "set attributes, and keep the others")]
    : [
      mountCall({
        target,
        flags: superFlagsToFlags(plan.superFlags, attributes) | MS_REMOUNT,
        data: plan.data.join(","),
      }, "change it"),
    ];
}

async function reconfigure(plan: RemountPlan, mounted: OwnedFd): Promise<void> {
  if (parameters(plan).length > 0) {
    const prepare = () => pickContext(plan, mounted);
    using _context = await createSuperblockAsync(prepare, "reconfigure"); // to read-only, it waits for the disk
  }
  setAttributes(mounted, setattrSteps(plan, true, false));
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

/** What changes the superblock: nothing of it, with `bind`. */
function parameters({ bind, superFlags, data }: RemountPlan): readonly string[] {
  return bind ? [] : [...superFlags, ...data];
}

function describeReconfigure(plan: RemountPlan, target: string): Call[] {
  const picked = parameters(plan);
  const context = [
    call("fspick", [quoted(target)], "open a context of its file system"),
    ...fsconfigCalls(picked),
    call("fsconfig", ["context", "FSCONFIG_CMD_RECONFIGURE"], "change the superblock"),
  ];
  const steps = setattrSteps(plan, true, false).map((step) =>
    setattrCall({ mount: quoted(target), change: step, ...step }, "change its attributes")
  );
  return [...picked.length > 0 ? context : [], ...steps];
}

/**
 * Changes a mount's attributes with mount(2). MS_REMOUNT sets all flags at once, so those that stay are passed again:
 * the kernel refuses a remount that leaves out a flag which a user namespace has locked.
 *
 * @param plan the attributes.
 * @param mounted the root of the mount.
 * @throws {TypeError} for recursive attributes.
 */
export function remountBind(plan: BindPlan | RemountPlan, mounted: OwnedFd): void {
  refuseRecursive(plan);
  const path = procFdPath(mounted);
  const flags = attributesToFlags(plan.attributes, statfsToFlags(statfs(path).flags));
  mount(null, path, null, MS_REMOUNT | MS_BIND | flags, null);
}

/**
 * Refuses recursive attributes where mount(2) has to set the attributes.
 *
 * @param plan the attributes.
 * @throws {TypeError} if there are any.
 */
export function refuseRecursive({ recursiveAttributes }: BindPlan | RemountPlan): void {
  if (hasChanges(recursiveAttributes)) {
    throw new TypeError("recursive attributes such as rro need mount_setattr(2), which came with Linux 5.12");
  }
}

async function reconfigureByMount(plan: RemountPlan, mounted: OwnedFd): Promise<void> {
  const path = procFdPath(mounted);
  const before = statfsToFlags(statfs(path).flags);
  const flags = superFlagsToFlags(plan.superFlags, attributesToFlags(plan.attributes, before));
  await mountOffThread(null, path, null, MS_REMOUNT | flags, plan.data.join(","));
}
