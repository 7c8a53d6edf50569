/**
 * One mount, or a list, onto a target.
 *
 * @module
 */

import { executePlans } from "./execute.ts";
import { MountError } from "../spec/error.ts";
import type { Mount } from "../spec/mount.ts";
import { AttachedMounts, type MountHandle } from "./handle.ts";
import { enterNamespace, explainNamespace, type MountNamespace, openNamespace } from "../namespace/mount.ts";
import { type Plan, planAll } from "./plan.ts";

export type { MountHandle };

/** Where to mount. */
export interface MountOptions {
  /**
   * The mount namespace that the target is in; this process's own if left out. The sources are looked up here all the
   * same: so a container gets a directory or an image that it can't see. The target is a path from the namespace's root
   * directory. The handle keeps a descriptor of the namespace open until everything is off again.
   */
  namespace?: MountNamespace;
}

/**
 * Mounts one mount under a target.
 *
 * @param m the mount; it is not changed.
 * @param target an existing directory, or a file to bind a file on. `m.target` is joined inside it: no symbolic link
 * and no `..` in it leads out.
 * @param options where.
 * @returns the handle that takes it off again.
 * @throws {MountError} with the kernel's own sentence where it has one. Nothing is left then.
 *
 * Needs the permission `ffi`, and `run` for FUSE; CAP_SYS_ADMIN; Linux 5.10.
 *
 * @example
 * ```ts
 * import { mount } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   await using _usr = await mount({ type: "bind", source: "/usr", options: ["rbind", "ro"] }, target);
 * }
 * await Deno.remove(target);
 * ```
 */
export function mount(m: Mount, target: string, options: MountOptions = {}): Promise<MountHandle> {
  return mountAll([m], target, options);
}

/**
 * Mounts a list under a target: in its order, but parents before children; all of it or nothing.
 *
 * @param mounts the mounts, as containerd's snapshotters print them; they are not changed.
 * @param target the directory that they go under.
 * @param options where.
 * @returns the handle that takes all of it off again.
 * @throws {MountError} for the one that failed. What was mounted before it is off again.
 *
 * Needs the permission `ffi`, and `run` for FUSE; CAP_SYS_ADMIN; Linux 5.10.
 *
 * @example
 * ```ts
 * import { mountAll } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   await using root = await mountAll([
 *     { type: "overlay", source: "overlay", options: ["lowerdir=/usr:/etc"] },
 *     { type: "tmpfs", source: "tmpfs", target: "/share", options: ["size=1m", "nosuid"] },
 *   ], target);
 *   console.log(root.mountpoints);
 * }
 * await Deno.remove(target);
 * ```
 */
export async function mountAll(
  mounts: readonly Mount[],
  target: string,
  options: MountOptions = {},
): Promise<MountHandle> {
  const plans = planAll(mounts, target);
  const { namespace } = options;
  if (namespace !== undefined && plans.length > 0) return await mountThere(plans, target, namespace);
  const made = executePlans(plans, target);
  return new AttachedMounts(target, made instanceof Promise ? await made : made);
}

async function mountThere(plans: Plan[], target: string, where: MountNamespace): Promise<MountHandle> {
  using opened = new DisposableStack();
  try {
    refuseRelative(target);
    const namespace = opened.use(openNamespace(where));
    await using thread = await enterNamespace(namespace);
    const stack = new AttachedMounts(target, await executePlans(plans, target, thread), namespace);
    opened.move();
    return stack;
  } catch (error) {
    const [first] = plans;
    if (error instanceof MountError || first === undefined) throw error;
    throw new MountError(first.mount, target, explainNamespace(error, where));
  }
}

/** A thread that has joined a mount namespace stands at its root directory. */
function refuseRelative(target: string): void {
  if (!target.startsWith("/")) {
    throw new TypeError("in another mount namespace, the target is an absolute path");
  }
}
