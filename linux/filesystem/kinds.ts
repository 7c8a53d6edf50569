/**
 * The kinds of mounts, and which mechanism this kernel has for each: the kernel makes it detached, or mount(2) or a helper
 * program puts it onto a mountpoint.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { MountTarget } from "../path/mount_target.ts";
import { type Call, call, quoted } from "../spec/call.ts";
import { newMountFlags } from "../spec/mount_flags.ts";
import type { NewMountPlan } from "../spec/plan.ts";
import { hasChanges, topAttributes } from "../spec/setattr.ts";
import { MOUNT_ATTR_NOSYMFOLLOW } from "../syscalls/constants.ts";
import { hasFeature, usesMountSetattr } from "../syscalls/features.ts";
import { bindOnto, bornPropagation, createBind, describeBind, describeBindOnto } from "./bind.ts";
import {
  createFilesystem,
  describeFilesystem,
  describeFilesystemOnto,
  mountFilesystemOnto,
  usesFsopen,
} from "./by_type.ts";
import { describeFuse, mountFuseOnto } from "./fuse.ts";
import { describeMappedLayers } from "./mapped_overlay.ts";
import { createOverlay, describeOverlay, usesLowerdirPlus } from "./overlay.ts";
import { describeOverlayOnto, mountOverlayOnto } from "./overlay_one_page.ts";
import type { DescribeOptions, Resolved } from "./resolved.ts";

/**
 * Whether the kernel makes a mount detached, so that it is complete before it is attached.
 *
 * @param plan the mount.
 * @returns false if mount(2) or a helper program makes it.
 */
export function isCreatedDetached(plan: NewMountPlan): boolean {
  const { attributes, recursiveAttributes } = plan;
  const isSymfollowChanged = (attributes.set | recursiveAttributes.set) & MOUNT_ATTR_NOSYMFOLLOW;
  if (isSymfollowChanged && !hasFeature("nosymfollow")) return false;
  switch (plan.kind) {
    case "bind":
      return usesMountSetattr();
    case "overlay":
      return usesLowerdirPlus();
    case "filesystem":
      return usesFsopen(plan);
    case "fuse":
      return false;
  }
}

/**
 * Makes a mount detached.
 *
 * @param plan the mount.
 * @param resolved its descriptors.
 * @returns the detached mount; a promise if a disk has to be read.
 */
export function createDetached(
  plan: Exclude<NewMountPlan, { kind: "fuse" }>,
  resolved: Resolved,
): OwnedFd | Promise<OwnedFd> {
  switch (plan.kind) {
    case "bind":
      return createBind(plan, resolved);
    case "overlay":
      return createOverlay(plan, resolved);
    case "filesystem":
      return createFilesystem(plan, resolved);
  }
}

/**
 * Mounts onto a mountpoint, with mount(2) or a helper program.
 *
 * @param plan the mount.
 * @param target the mountpoint: the plan's own, or a temporary one.
 * @param resolved its other descriptors.
 * @returns a promise if a disk, a thread or a helper is waited for.
 */
export function mountOnto(
  plan: NewMountPlan,
  target: MountTarget,
  resolved: Resolved,
): Promise<void> | undefined {
  refuseIdMap(plan);
  switch (plan.kind) {
    case "bind":
      bindOnto(plan, target, resolved);
      return undefined;
    case "overlay":
      return mountOverlayOnto(plan, target, resolved);
    case "filesystem":
      return mountFilesystemOnto(plan, target, resolved);
    case "fuse":
      return mountFuseOnto(plan, target, resolved.wait);
  }
}

/**
 * Whether a mount has to be staged: mounted at a temporary mountpoint first, and moved when it is what its plan says.
 *
 * @param plan the mount.
 * @returns true for a directory of a new file system, and for what mount(2) can't complete in one call.
 */
export function isStaged(plan: NewMountPlan): boolean {
  if (plan.subdir !== undefined && plan.kind !== "bind") return true;
  if (plan.kind === "fuse" || isCreatedDetached(plan)) return false;
  if (plan.root !== undefined) return true;
  const attributes = topAttributes(plan);
  return plan.kind === "bind"
    ? hasChanges(attributes) || bornPropagation(plan) !== 0
    : newMountFlags(plan.superFlags, attributes).remount !== undefined;
}

/**
 * Whether a mount is complete as soon as it is made detached: only its root may have to be changed.
 *
 * @param plan the mount.
 * @returns false if mount(2) or a helper program makes it, or if it has to be staged.
 */
export function isCompleteDetached(plan: NewMountPlan): plan is Exclude<NewMountPlan, { kind: "fuse" }> {
  return !isStaged(plan) && isCreatedDetached(plan);
}

/**
 * Describes how a new mount is made.
 *
 * @param plan the mount.
 * @param options the mountpoint, and whether it gets an id map.
 * @returns the calls up to the one that attaches it.
 */
export function describeDetached(
  plan: Exclude<NewMountPlan, { kind: "fuse" }>,
  options: DescribeOptions,
): Call[] {
  switch (plan.kind) {
    case "bind":
      return describeBind(plan, options);
    case "overlay":
      return describeOverlay(plan, options);
    case "filesystem":
      return [...describeLoop(plan.loop && plan.source), ...describeFilesystem(plan, options)];
  }
}

/** mount(2) maps no ids; an overlay's layers are mapped before it. A kernel that maps ids may lack nosymfollow. */
function refuseIdMap({ kind, idMaps }: NewMountPlan): void {
  if (idMaps === undefined || kind === "overlay") return;
  throw new TypeError("an id-mapped mount with nosymfollow needs Linux 5.14");
}

/**
 * Describes {@linkcode mountOnto}.
 *
 * @param plan the mount.
 * @param options the mountpoint, and whether it gets an id map.
 * @returns the calls.
 */
export function describeOnto(plan: NewMountPlan, options: DescribeOptions): Call[] {
  refuseIdMap(plan);
  switch (plan.kind) {
    case "bind":
      return describeBindOnto(plan, options);
    case "overlay":
      return describeOverlayOnto(plan, options);
    case "filesystem":
      return [...describeLoop(plan.loop && plan.source), ...describeFilesystemOnto(plan, options)];
    case "fuse":
      return describeFuse(plan, options);
  }
}

/**
 * Describes what is done after a mount is attached.
 *
 * @param plan the mount.
 * @param options whether it gets an id map.
 * @returns the calls.
 */
export function describeRelease(plan: NewMountPlan, { isMapped }: DescribeOptions): Call[] {
  return plan.kind === "overlay" && isMapped ? describeMappedLayers(plan).after : [];
}

function describeLoop(image: string | undefined): Call[] {
  if (image === undefined) return [];
  return [
    call(
      "ioctl",
      [quoted("/dev/loopN"), "LOOP_GET_STATUS64"],
      "for each loop device: share one that has the image; if it overlaps otherwise and is writable, fail",
    ),
    call("ioctl", [quoted("/dev/loop-control"), "LOOP_CTL_GET_FREE"], "else find a free loop device"),
    call(
      "ioctl",
      [quoted("/dev/loopN"), "LOOP_CONFIGURE", quoted(image)],
      "attach the image; the kernel frees the device with the mount",
    ),
  ];
}

/**
 * Whether the last unmount of a mount has nothing to write and little to free, whatever happens to it until then.
 *
 * @param plan the mount.
 * @returns true for an overlay without an upper layer, which stays read-only; false if it is not known.
 */
export function isUnmountedAtOnce(plan: NewMountPlan): boolean {
  return plan.kind === "overlay" && plan.layers.upper === undefined;
}
