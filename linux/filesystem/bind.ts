/**
 * Bind mounts. `createBind` clones the source and sets the clone's attributes while it is detached, so that a read-only
 * bind is never briefly writable: with open_tree_attr(2) in one call, before Linux 6.15 with two. `bindOnto` is its fallback by mount(2).
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { setAttributes } from "../idmap/attributes.ts";
import { cloneFlags, cloneWithAttributes } from "../idmap/replace_idmap.ts";
import { isDirectory, type MountTarget, openTopMount, procFdPath } from "../path/mount_target.ts";
import { attributesText, type Call, call, mountCall, quoted, setattrCall } from "../spec/call.ts";
import { flagsToAttributes, statfsToFlags } from "../spec/mount_flags.ts";
import { RESTRICTIONS } from "../spec/option_table.ts";
import type { BindPlan, NewMountPlan } from "../spec/plan.ts";
import {
  hasChanges,
  type Mapping,
  type PlanAttributes,
  type SetattrStep,
  setattrSteps,
  topAttributes,
} from "../spec/setattr.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  MS_BIND,
  MS_REC,
  MS_SHARED,
  MS_SLAVE,
  O_PATH,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mount, open, openTree, statfs } from "../syscalls/mod.ts";
import { describeRemountTop, refuseRecursive, remountTop } from "./remount.ts";
import type { DescribeOptions, Resolved } from "./resolved.ts";

/**
 * Clones a bind's source.
 *
 * @param plan the bind.
 * @param resolved its source, and the user namespace whose maps it gets.
 * @returns the detached mount.
 */
export function createBind(plan: BindPlan, { source, userns, fds }: Resolved): OwnedFd {
  const mapping = mappingOf(plan, userns !== undefined);
  const tree = tryCloneWithAttributes(plan, source, mapping, userns);
  return fds.add(tree ?? cloneThenSet(plan, source, mapping, userns));
}

/** With two calls, the clone and its attributes: before Linux 6.15, and to say which of the two fails. */
function cloneThenSet(
  plan: BindPlan,
  source: OwnedFd | undefined,
  mapping: Mapping,
  userns: OwnedFd | undefined,
): OwnedFd {
  using stack = new DisposableStack();
  const tree = stack.use(cloneSource(plan, source));
  const attributes = withoutGrants(plan, tree);
  const steps = setattrSteps(attributes, plan.recursive, mapping, bornPropagation(plan));
  try {
    setAttributes(tree, steps, userns);
    stack.move();
    return tree;
  } catch (error) {
    const [first, ...others] = steps;
    if (!isErrno(error, "EPERM") || !first?.isMapped || userns === undefined) throw error;
    if (!hasFeature("openTreeAttr")) throw error;
    const replaced = stack.use(cloneWithAttributes(plan.source, source, first, userns)); // the source is id-mapped
    setAttributes(replaced, others, userns);
    stack.move();
    tree.close();
    return replaced;
  }
}

/**
 * Clones a bind's source without its id map.
 *
 * @param plan the bind, which has none.
 * @param resolved its source.
 * @returns the detached mount.
 */
export function createBindUnmapped(plan: BindPlan, { source, fds }: Resolved): OwnedFd {
  const steps = setattrSteps(plan, plan.recursive, plan.recursive ? "tree" : "top", bornPropagation(plan));
  const [first, ...others] = steps;
  if (first === undefined) throw new Error("a bind without an id map has no step that clears it");
  const tree = fds.add(cloneWithAttributes(plan.source, source, first, null));
  setAttributes(tree, others);
  return tree;
}

/**
 * Whether the clone gets its first attributes in the call that makes it, from Linux 6.15. Not where the flags of the clone
 * are looked at in between.
 */
function isClonedWithAttributes(plan: BindPlan, first: SetattrStep | undefined): boolean {
  return first?.recursive === plan.recursive && !takesRestrictionsBack(plan) && hasFeature("openTreeAttr");
}

/** Undefined if it fails: nothing has changed then, and {@linkcode cloneThenSet} says what it is that fails. */
function tryCloneWithAttributes(
  plan: BindPlan,
  source: OwnedFd | undefined,
  mapping: Mapping,
  userns: OwnedFd | undefined,
): OwnedFd | undefined {
  const [first, ...others] = setattrSteps(plan, plan.recursive, mapping, bornPropagation(plan));
  if (first === undefined || !isClonedWithAttributes(plan, first)) return undefined;
  let tree: OwnedFd | undefined;
  try {
    tree = cloneWithAttributes(plan.source, source, first, userns);
    setAttributes(tree, others, userns);
    return tree;
  } catch (error) {
    tree?.close();
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/**
 * A bind is born a slave of its source: what is mounted in it later never shows in the source, and unmounting it takes
 * nothing off the source. Attached under a shared mount, it becomes shared with a peer group of its own. Only a list that
 * says `shared` or `rshared` makes a peer of the source.
 *
 * @param plan the bind.
 * @returns MS_SLAVE, or 0 to leave it in its source's peer group.
 */
export function bornPropagation({ propagation }: BindPlan): number {
  return propagation.some(({ type }) => type === MS_SHARED) ? 0 : MS_SLAVE;
}

/**
 * Whether a mount has the mounts below its source too.
 *
 * @param plan the mount.
 * @returns true for a recursive bind.
 */
export function isTree(plan: NewMountPlan): boolean {
  return plan.kind === "bind" && plan.recursive;
}

/**
 * Whether a mount is a recursive bind that may be a peer of its source. To unmount its submounts would unmount those of
 * the source too, so it leaves the peer group before.
 *
 * @param plan the mount.
 * @returns false for a slave of its source, and for any other mount.
 */
export function isPeerTree(plan: NewMountPlan): boolean {
  return plan.kind === "bind" && isTree(plan) && bornPropagation(plan) === 0;
}

/** `rro,rw` takes `ro` back from the top mount, but only if its source is not read-only. */
function withoutGrants(plan: BindPlan, tree: OwnedFd): PlanAttributes {
  const { set, clear } = plan.attributes;
  if (!takesRestrictionsBack(plan)) return plan;
  const kept = flagsToAttributes(statfsToFlags(statfs(procFdPath(tree)).flags));
  return { ...plan, attributes: { set, clear: clear & ~(kept & RESTRICTIONS) } };
}

function takesRestrictionsBack({ attributes }: BindPlan): boolean {
  return (attributes.clear & RESTRICTIONS) !== 0;
}

/** A recursive bind is mapped as a whole, unless OCI's word `idmap` asks for its top mount alone. */
function mappingOf({ idMaps }: BindPlan, isMapped: boolean): Mapping {
  return !isMapped ? "none" : idMaps?.topOnly ? "top" : "tree";
}

function cloneSource({ source, recursive }: BindPlan, opened: OwnedFd | undefined): OwnedFd {
  const flags = cloneFlags(recursive);
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
  const mapping = mappingOf(plan, isMapped);
  const steps = setattrSteps(plan, recursive, mapping, bornPropagation(plan));
  const flags = recursive ? "OPEN_TREE_CLONE|AT_RECURSIVE" : "OPEN_TREE_CLONE";
  const what = recursive ? "the source's mount and the mounts below it" : "the source's mount";
  const [first] = steps;
  const isWith = isClonedWithAttributes(plan, first);
  const clone = isWith && first
    ? call(
      "open_tree_attr",
      ["AT_FDCWD", quoted(source), flags, attributesText({ change: first, ...first })],
      `clone ${what}, detached, as a slave of its source and with its attributes`,
    )
    : call("open_tree", ["AT_FDCWD", quoted(source), flags], `clone ${what}, detached`);
  const later = (isWith ? steps.slice(1) : steps).map((step) =>
    setattrCall(
      { mount: "tree", change: step, ...step },
      isWith
        ? "set its attributes, while it is detached"
        : "make it a slave of its source, and set its attributes, while it is detached",
    )
  );
  return [clone, ...later];
}

/**
 * Binds with mount(2), and gives the bind its attributes by a remount: before Linux 5.12.
 *
 * @param plan the bind.
 * @param target the mountpoint.
 * @param resolved its source.
 * @throws {TypeError} for attributes of a tree, which only mount_setattr(2) can set.
 */
export function bindOnto(plan: BindPlan, target: MountTarget, { source }: Resolved): void {
  if (plan.recursive) refuseRecursive(plan);
  mountSource(plan, source, target);
  makeSlave(plan, target);
  const change = topAttributes(plan);
  if (hasChanges(change)) remountTop(change, target);
}

function mountSource(
  { source, recursive, subdir }: BindPlan,
  opened: OwnedFd | undefined,
  to: MountTarget,
): void {
  const path = opened && subdir !== undefined ? procFdPath(opened) : source;
  const tree = recursive ? MS_REC : 0;
  try {
    mount(path, procFdPath(to), null, MS_BIND | tree, null);
  } catch (error) {
    throw isErrno(error, "ENOTDIR", "EINVAL") ? withoutPathOfKind(error, path, to) : error;
  }
}

function makeSlave(plan: BindPlan, target: MountTarget): void {
  const propagation = bornPropagation(plan);
  if (propagation === 0) return;
  using bound = openTopMount(target);
  mount(null, procFdPath(bound), null, propagation | (plan.recursive ? MS_REC : 0), null);
}

/** mount(2) fails with ENOTDIR if one of the two is a directory and the other is not: no single path is at fault. */
function withoutPathOfKind(error: SyscallError, source: string, target: MountTarget): SyscallError {
  using opened = open(source, O_PATH);
  if (isDirectory(opened) === isDirectory(target)) return error;
  return new SyscallError({ syscall: error.syscall, errno: errnoNumber("ENOTDIR") });
}

/**
 * Describes {@linkcode bindOnto}.
 *
 * @param plan the bind.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeBindOnto(plan: BindPlan, { target }: DescribeOptions): Call[] {
  if (plan.recursive) refuseRecursive(plan);
  const flags = MS_BIND | (plan.recursive ? MS_REC : 0);
  const slave = bornPropagation(plan) | (plan.recursive ? MS_REC : 0);
  return [
    mountCall({ source: plan.source, target, flags }, "bind the source"),
    ...bornPropagation(plan) ? [mountCall({ target, flags: slave }, "make it a slave of its source")] : [],
    ...describeRemountTop(topAttributes(plan), target),
  ];
}
