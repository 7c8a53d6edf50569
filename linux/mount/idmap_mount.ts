/**
 * An id-mapped bind with a user namespace that the caller has.
 *
 * @module
 */

import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { refuseBadText } from "../../ffi/memory.ts";
import { createBind, createBindUnmapped } from "../filesystem/bind.ts";
import { explainIdMap } from "../idmap/explain.ts";
import { requireIdMapReplacing } from "../idmap/replace_idmap.ts";
import { attachMount, resolveTarget } from "../path/mount_target.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import { type BindPlan, planMounts } from "../spec/plan.ts";
import { requireIdMapping } from "../syscalls/features.ts";
import { resolveBindSource } from "./resolve.ts";

/** What else an id-mapped mount is to be, and how long to wait for a server on one of its paths. */
export interface IdMapAttributes extends WaitOptions {
  /** Whether the mounts below the source are mounted and mapped too; true if left out. */
  recursive?: boolean;
  /** Not writable. */
  readonly?: boolean;
  /** Set-user-id bits have no effect. */
  nosuid?: boolean;
  /** Device files can't be opened. */
  nodev?: boolean;
  /** Programs can't be executed. */
  noexec?: boolean;
  /** Symbolic links are not followed. */
  nosymfollow?: boolean;
}

/**
 * Mounts a directory or file at another path with the mounts below it, their owners seen through the maps of a user
 * namespace. The attributes apply to every mount of it. A source that is id-mapped gets the new map in place of its own, or
 * with `null` none.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.12 (6.15 for an id-mapped source, and for `null`); which file systems can be mapped depends on the kernel.
 *
 * @param source the directory or file.
 * @param target the mountpoint.
 * @param userns the user namespace; it need not stay open. null shows the owners as they are in the file system.
 * @param attributes what else the mount is to be, the timeout and the signal.
 * @throws {MountError} if a file system can't be id-mapped, or is already and the kernel can't change that; its `code` is "ETIMEDOUT" if a server on one
 * of the paths does not answer. Nothing is mounted then.
 * @throws the signal's reason, if it is aborted.
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
  userns: OwnedFd | null,
  attributes: IdMapAttributes = {},
): Promise<void> {
  const { recursive = true, timeout, signal } = attributes;
  const wait = { timeout, signal };
  const mount = { type: "bind", source, options: optionWords(attributes) };
  checkWait(wait);
  try {
    for (const text of [source, target]) refuseBadText(text);
    if (userns === null) requireIdMapReplacing();
    else requireIdMapping();
    const [plan] = planMounts([mount], target);
    using fds = new OwnedFds();
    const resolved = {
      target: fds.add(await resolveTarget(target, "", wait)),
      fds,
      userns: userns ?? undefined,
      source: (await resolveBindSource({ source, subdir: undefined }, wait, fds)).fd,
      device: undefined,
      mappedLayers: undefined,
      wait,
    };
    const create = userns === null ? createBindUnmapped : createBind;
    attachMount(create(plan as BindPlan, resolved), resolved.target);
  } catch (error) {
    signal?.throwIfAborted();
    throw new MountError(mount, target, await explainIdMap(error, source, userns, recursive));
  }
}

function optionWords({ recursive = true, readonly, ...attributes }: IdMapAttributes): string[] {
  const { timeout: _timeout, signal: _signal, ...others } = attributes;
  const words = Object.entries({ ro: readonly, ...others }).flatMap(([word, on]) => on ? [word] : []);
  return [recursive ? "rbind" : "bind", ...words.map((word) => recursive ? `r${word}` : word)];
}
