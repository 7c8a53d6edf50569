/**
 * Bind mounts: cloned and given their attributes while detached, so that none is ever writable for an instant; and
 * beside it the older way.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { refuseBadText } from "../../ffi/memory.ts";
import { changeAttributes, explainIdMap, hasChanges } from "../idmap/attributes.ts";
import { requireIdMapping, usesMountSetattr } from "../syscalls/features.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MS_BIND,
  MS_REC,
  MS_REMOUNT,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import { attributesToFlags, flagsOfMount } from "../spec/mount_flags.ts";
import { MountError } from "../spec/error.ts";
import { type ParsedOptions, parseOptions } from "../spec/options.ts";
import { mount, openTree } from "../syscalls/mod.ts";
import { attachMount, type MountTarget, openTarget, openTopMount, procFdPath } from "../path/mount_target.ts";
import { detachTopMount } from "../unmount/tree.ts";

/** What makes a bind mount. */
export interface BindPlan {
  /** What is bound. */
  source: string;
  /** How. */
  options: ParsedOptions;
}

/**
 * Makes a bind mount.
 *
 * @param plan what to bind, and how.
 * @param place the mountpoint.
 * @param fds closes what is opened for it.
 * @param userns the user namespace whose maps it gets.
 * @param opened the source, where it is open already.
 */
export function bind(
  plan: BindPlan,
  place: MountTarget,
  fds: OwnedFds,
  userns?: OwnedFd,
  opened?: OwnedFd,
): void {
  if (!usesMountSetattr()) return bindThenRemount(plan, place);
  const tree = fds.add(cloneSource(plan, opened));
  changeAttributes(tree, plan.options, userns);
  attachMount(tree, place);
}

function cloneSource({ source, options }: BindPlan, opened: OwnedFd | undefined): OwnedFd {
  const flags = OPEN_TREE_CLONE | (options.recursive ? AT_RECURSIVE : 0);
  if (opened === undefined) return openTree(AT_FDCWD, source, flags);
  try {
    return openTree(opened.fd, "", flags | AT_EMPTY_PATH);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new SyscallError({ syscall: error.syscall, errno: error.errno, path: source });
  }
}

/** Before 5.12: mount(2) binds without attributes, and a remount gives them. */
function bindThenRemount({ source, options }: BindPlan, place: MountTarget): void {
  refuseRecursive(options);
  mount(source, procFdPath(place), null, MS_BIND | (options.recursive ? MS_REC : 0), null);
  if (!hasChanges(options.attributes)) return;
  try {
    using bound = openTopMount(place);
    remountBind(bound, options);
  } catch (error) {
    detachTopMount(place); // what was to be read-only must not stay writable
    throw error;
  }
}

/**
 * Changes a mount's attributes with mount(2), keeping all others: what a user namespace has locked can't be taken
 * off, and a remount that does not say it again fails.
 *
 * @param mounted the mount.
 * @param options what to change.
 */
export function remountBind(mounted: OwnedFd, options: ParsedOptions): void {
  refuseRecursive(options);
  const path = procFdPath(mounted);
  const flags = attributesToFlags(options.attributes, flagsOfMount(path));
  mount(null, path, null, MS_REMOUNT | MS_BIND | flags, null);
}

function refuseRecursive(options: ParsedOptions): void {
  if (hasChanges(options.recursiveAttributes)) {
    throw new TypeError("recursive attributes such as rro need mount_setattr(2), which came with Linux 5.12");
  }
}

/** What else an id-mapped mount is to be. */
export interface IdMapAttributes {
  /** Everything that is mounted below the source, too. */
  recursive?: boolean;
  /** Not writable. */
  readonly?: boolean;
  /** Set-user-id bits have no effect. */
  nosuid?: boolean;
  /** Device files don't open. */
  nodev?: boolean;
  /** Nothing can be run from it. */
  noexec?: boolean;
  /** Symbolic links are not followed. */
  nosymfollow?: boolean;
}

/**
 * Mounts a directory or file at another place, its owners seen through the maps of a user namespace. The attributes
 * hold for everything that is mounted.
 *
 * @param source what is mounted.
 * @param target the mountpoint.
 * @param userns the user namespace, which is only looked at; it need not be kept.
 * @param attributes what else the mount is to be.
 * @throws {MountError} where the file system can't be id-mapped, or is already. Nothing is left then.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.12; what a file system allows differs with the kernel.
 *
 * @example
 * ```ts
 * import { createUserNamespace, idMapMount, unmount } from "@denomount/mount";
 *
 * const [source, target] = [await Deno.makeTempDir(), await Deno.makeTempDir()];
 * using userns = await createUserNamespace("0:100000:65536", "0:100000:65536");
 * await idMapMount(source, target, userns, { readonly: true });
 * console.log((await Deno.stat(target)).uid); // 100000
 * await unmount(target);
 * await Deno.remove(source);
 * await Deno.remove(target);
 * ```
 */
export async function idMapMount(
  source: string,
  target: string,
  userns: OwnedFd,
  attributes: IdMapAttributes = {},
): Promise<void> {
  const options = namesOf(attributes);
  const mounted = { type: "bind", source, options };
  const { recursive = false } = attributes;
  try {
    for (const text of [source, target]) refuseBadText(text);
    requireIdMapping();
    using fds = new OwnedFds();
    bind({ source, options: parseOptions(options) }, fds.add(openTarget(target)), fds, userns);
  } catch (error) {
    throw new MountError(mounted, target, await explainIdMap(error, source, userns, recursive));
  }
}

function namesOf({ recursive = false, ...attributes }: IdMapAttributes): string[] {
  const names: Record<string, boolean> = { ...attributes, readonly: false, ro: attributes.readonly ?? false };
  const chosen = Object.keys(names).filter((name) => names[name]).map((name) =>
    recursive ? `r${name}` : name
  );
  return [recursive ? "rbind" : "bind", ...chosen];
}
