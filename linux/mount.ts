/**
 * One mount, or a list, onto a target.
 *
 * @module
 */

import type { OwnedFd } from "../ffi/fd.ts";
import type { NamespaceThread } from "../ffi/namespace_thread.ts";
import { bind } from "./bind.ts";
import { AT_EMPTY_PATH, AT_RECURSIVE, MS_REC } from "./constants.ts";
import { hasFeature } from "./features.ts";
import { mountFilesystem } from "./filesystem.ts";
import { mountFuse } from "./fuse.ts";
import { MountError } from "./mount_error.ts";
import { makeThere } from "./mount_there.ts";
import type { Mount } from "./mount_list.ts";
import type { PropagationStep } from "./options.ts";
import { mountOverlay } from "./overlay.ts";
import {
  enterNamespace,
  explainNamespace,
  inNamespace,
  type MountNamespace,
  openNamespace,
} from "./namespace.ts";
import { join } from "./path.ts";
import { type Plan, planAll } from "./plan.ts";
import { reach } from "./reach.ts";
import { remount } from "./remount.ts";
import { mount as mountSyscall, mountSetattr } from "./syscalls.ts";
import { openOnTop, openTarget, type Place, reachTarget, throughProc } from "./target.ts";
import type { UnmountOptions } from "./effort.ts";
import { unmount } from "./unmount.ts";
import { detachOnTop, detachTree, unmountTree } from "./unmount_tree.ts";
import { UserNamespaces } from "./userns.ts";

/**
 * Mounts that stand together, and come off together.
 *
 * @example
 * ```ts
 * import { type MountStack, mountAll } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   await using root: MountStack = await mountAll([{ type: "tmpfs", source: "tmpfs" }], target);
 *   console.log(root.mountpoints);
 * }
 * await Deno.remove(target);
 * ```
 */
export interface MountStack extends AsyncDisposable {
  /** The target as it was given. */
  readonly target: string;
  /** What was mounted on, resolved, in the order mounted. */
  readonly mountpoints: readonly string[];
  /**
   * Takes everything off, in reverse order. A second call does nothing; after a failure, another call goes on where it
   * stopped.
   *
   * @param options how.
   * @throws {SyscallError} as {@linkcode unmount} does.
   */
  unmount(options?: Omit<UnmountOptions, "namespace">): Promise<void>;
}

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
export function mount(m: Mount, target: string, options: MountOptions = {}): Promise<MountStack> {
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
): Promise<MountStack> {
  const plans = planAll(mounts, target);
  const [first] = plans;
  if (options.namespace === undefined || first === undefined) {
    return new Stack(target, await carryOutAll(plans, target));
  }
  using opened = new DisposableStack();
  try {
    refuseRelative(target);
    const namespace = opened.use(openNamespace(options.namespace));
    await using thread = await enterNamespace(namespace);
    const stack = new Stack(target, await carryOutAll(plans, target, thread), namespace);
    opened.move();
    return stack;
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw new MountError(first.mount, target, explainNamespace(error, options.namespace));
  }
}

async function carryOutAll(
  plans: readonly Plan[],
  target: string,
  thread?: NamespaceThread,
): Promise<Made[]> {
  const made: Made[] = [];
  try {
    using namespaces = new UserNamespaces(); // in here, for its end can fail as well
    for (const plan of plans) made.push(...await carryOut(plan, target, namespaces, thread));
    return made;
  } catch (error) {
    // Detached and not unmounted: nobody was told of these mounts yet, and none may be kept by being busy.
    for (const { mountpoint } of made.reverse()) inside(thread, () => detachTree(mountpoint));
    throw error;
  }
}

function inside<T>(thread: NamespaceThread | undefined, calls: () => T): T {
  return thread === undefined ? calls() : thread.run(calls);
}

/** What was mounted. */
interface Made {
  mountpoint: string;
  isTree: boolean; // a recursive bind, which brings mounts of its own
}

/** Makes one mount; returns it, or nothing for what only changes one. */
async function carryOut(
  plan: Plan,
  target: string,
  namespaces: UserNamespaces,
  thread: NamespaceThread | undefined,
): Promise<Made[]> {
  try {
    if (plan.action.kind === "bind") await reach(plan.action.plan.source);
    const userns = plan.idMaps && namespaces.of(plan.idMaps);
    using place = thread === undefined
      ? await reachTarget(target, plan.inside)
      : thread.run(() => openTarget(target, plan.inside));
    const reopen = () => inside(thread, () => openOnTop(place));
    const made = madeBy(plan, place); // asked before it is made: no failure to tell its path may leave it there
    if (thread === undefined) await make(plan, place, reopen, userns);
    else await makeThere(plan, place, reopen, thread, (...at) => make(plan, ...at, userns));
    try {
      inside(thread, () => changePropagation(plan.propagation, reopen));
    } catch (error) {
      if (made.length > 0) inside(thread, () => detachOnTop(place));
      throw error;
    }
    return made;
  } catch (error) {
    throw new MountError(plan.mount, plan.inside === "/" ? target : join(target, plan.inside), error);
  }
}

function madeBy({ action }: Plan, place: Place): Made[] {
  if (action.kind === "remount" || action.kind === "propagation") return [];
  return [{ mountpoint: place.path, isTree: action.kind === "bind" && action.plan.options.recursive }];
}

async function make(
  { action }: Plan,
  place: OwnedFd,
  reopen: () => OwnedFd,
  userns: OwnedFd | undefined,
): Promise<void> {
  switch (action.kind) {
    case "bind":
      return await bind(action.plan, place, reopen, userns);
    case "overlay":
      return await mountOverlay(action.plan, place, userns);
    case "fuse":
      return await mountFuse(action.plan, place);
    case "filesystem":
      return await mountFilesystem(action.plan, place, userns);
    case "remount":
      return await remount(action.options, place);
    case "propagation":
      return;
  }
}

/** A step of its own: attaching under a shared mount would undo it, and mount(2) takes it with nothing else. */
function changePropagation(steps: readonly PropagationStep[], reopen: () => OwnedFd): void {
  for (const { type, recursive } of steps) {
    using mounted = reopen();
    if (hasFeature("mountSetattr")) {
      mountSetattr(mounted.fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), { propagation: type });
    } else mountSyscall(null, throughProc(mounted), null, type | (recursive ? MS_REC : 0), null);
  }
}

/** A handle that nobody has any more, its mounts left to stay or taken off in another way, gives its namespace up. */
const forgotten = new FinalizationRegistry<OwnedFd>((namespace) => namespace.close());

class Stack implements MountStack {
  readonly mountpoints: readonly string[];
  readonly #left: Made[];
  readonly #namespace: OwnedFd | undefined;
  #unmounting = Promise.resolve();

  constructor(readonly target: string, made: readonly Made[], namespace?: OwnedFd) {
    this.mountpoints = Object.freeze(made.map(({ mountpoint }) => mountpoint));
    this.#left = [...made];
    this.#namespace = namespace;
    if (namespace) forgotten.register(this, namespace);
  }

  async unmount(options: Omit<UnmountOptions, "namespace"> = {}): Promise<void> {
    const before = this.#unmounting;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#unmounting = promise;
    await before; // two calls at a time would both take the topmost off, and then what is below it
    try {
      if (this.#namespace === undefined) await this.#takeOff(options);
      else await this.#takeOffThere(this.#namespace, options);
    } finally {
      resolve();
    }
  }

  async #takeOffThere(namespace: OwnedFd, options: UnmountOptions): Promise<void> {
    if (this.#left.length > 0) await inNamespace(namespace, () => this.#takeOff(options));
    namespace.close();
  }

  async #takeOff(options: UnmountOptions): Promise<void> {
    for (let top = this.#left.at(-1); top !== undefined; top = this.#left.at(-1)) {
      await (top.isTree ? unmountTree(top.mountpoint, options) : unmount(top.mountpoint, options));
      this.#left.pop();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}

/** A thread that has joined a mount namespace stands at its root directory. */
function refuseRelative(target: string): void {
  if (!target.startsWith("/")) {
    throw new TypeError("in another mount namespace, the target is an absolute path");
  }
}
