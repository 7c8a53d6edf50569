/**
 * Bind mounts. `createBind` clones the source with open_tree(2) and sets the clone's attributes while it is detached, so
 * that a read-only bind is never briefly writable. `bindOnto` is its fallback by mount(2).
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { setAttributes } from "../idmap/attributes.ts";
import { type MountTarget, openTopMount, procFdPath } from "../path/mount_target.ts";
import { type Call, call, mountCall, quoted, setattrCall } from "../spec/call.ts";
import { attributesToFlags } from "../spec/mount_flags.ts";
import type { BindPlan } from "../spec/plan.ts";
import { hasChanges, setattrSteps } from "../spec/setattr.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MS_BIND,
  MS_REC,
  MS_REMOUNT,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import { mount, openTree } from "../syscalls/mod.ts";
import { remountBind } from "./remount.ts";
import type { DescribeOptions, Resolved } from "./resolved.ts";

/**
 * Clones a bind's source.
 *
 * @param plan the bind.
 * @param resolved its source, and the user namespace whose maps it gets.
 * @returns the detached mount.
 */
export function createBind(plan: BindPlan, { source, userns, fds }: Resolved): OwnedFd {
  const tree = fds.add(cloneSource(plan, source));
  setAttributes(tree, setattrSteps(plan, plan.recursive, userns !== undefined), userns);
  return tree;
}

function cloneSource({ source, recursive }: BindPlan, opened: OwnedFd | undefined): OwnedFd {
  const flags = OPEN_TREE_CLONE | (recursive ? AT_RECURSIVE : 0);
  if (opened === undefined) return openTree(AT_FDCWD, source, flags);
  try {
    return openTree(opened.fd, "", flags | AT_EMPTY_PATH);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new SyscallError({ syscall: error.syscall, errno: error.errno, path: source });
  }
}

/**
 * Describes {@linkcode createBind}.
 *
 * @param plan the bind.
 * @param options whether it gets an id map.
 * @returns its calls.
 */
export function describeBind(plan: BindPlan, { isMapped }: DescribeOptions): Call[] {
  const { source, recursive } = plan;
  const clone = call(
    "open_tree",
    ["AT_FDCWD", quoted(source), recursive ? "OPEN_TREE_CLONE|AT_RECURSIVE" : "OPEN_TREE_CLONE"],
    recursive
      ? "clone the source's mount and the mounts below it, detached"
      : "clone the source's mount, detached",
  );
  const steps = setattrSteps(plan, recursive, isMapped).map((step) =>
    setattrCall({ mount: "tree", change: step, ...step }, "set its attributes while it is detached")
  );
  return [clone, ...steps];
}

/**
 * Binds with mount(2), and gives the bind its attributes by a remount: before Linux 5.12.
 *
 * @param plan the bind.
 * @param target the mountpoint.
 * @throws {TypeError} for recursive attributes, which only mount_setattr(2) can set.
 */
export function bindOnto(plan: BindPlan, target: MountTarget): void {
  const { source, recursive } = plan;
  mount(source, procFdPath(target), null, MS_BIND | (recursive ? MS_REC : 0), null);
  if (!hasChanges(plan.attributes)) return;
  using bound = openTopMount(target);
  remountBind(plan, bound);
}

/**
 * Describes {@linkcode bindOnto}.
 *
 * @param plan the bind.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeBindOnto(plan: BindPlan, { target }: DescribeOptions): Call[] {
  const flags = MS_BIND | (plan.recursive ? MS_REC : 0);
  const bind = mountCall({ source: plan.source, target, flags }, "bind the source");
  if (!hasChanges(plan.attributes)) return [bind];
  const remount = attributesToFlags(plan.attributes) | MS_REMOUNT | MS_BIND;
  return [bind, mountCall({ target, flags: remount }, "set its attributes, and keep the others")];
}
