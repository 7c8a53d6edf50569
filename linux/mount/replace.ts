/**
 * Replacing what is mounted on the mountpoints of a list, so that no path lookup finds them empty or half done.
 *
 * Every mount of the list is made detached first, with what the list mounts inside of it. Then each is attached beneath the
 * mount that is on its mountpoint (MOVE_MOUNT_BENEATH): nothing of it is visible yet. Unmounting what is on top makes it
 * visible in one step.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { isPeerTree, isTree } from "../filesystem/bind.ts";
import type { Resolved } from "../filesystem/resolved.ts";
import { setPropagationFd } from "../filesystem/propagation.ts";
import { createComplete } from "../filesystem/staged.ts";
import { type StatxMount, statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { attachMount, fdPath, type MountTarget, procFdPath } from "../path/mount_target.ts";
import { join } from "../path/path.ts";
import { ExplainedError, MountError } from "../spec/error.ts";
import { makesMount, mountpointOf, type NewMountPlan, type Plan } from "../spec/plan.ts";
import { MOVE_MOUNT_BENEATH } from "../syscalls/constants.ts";
import { hasFeature, mayMount, usesMountSetattr } from "../syscalls/features.ts";
import { type AttachedMount, detachOwn } from "../unmount/own.ts";
import { restoreBeneath, unmountOrDetach } from "../unmount/replaced.ts";
import { type MadeDirectories, removeDirectory } from "./make_target.ts";

/** Where an entry goes that is inside of another new mount of its list. */
export interface InsideTree {
  /** The root of that mount, detached. */
  readonly root: OwnedFd;
  /** The normalized path from there. */
  readonly inside: string;
  /** Gets each directory that was made for the mountpoint, as a path from the root. */
  readonly made: MadeDirectories;
}

/** A new mount that is not inside of another one of its list. */
interface NewTree {
  readonly plan: NewMountPlan;
  /** Its root, with what the list mounts inside of it. */
  readonly root: OwnedFd;
  /** The mountpoint; the root of what is mounted there. */
  readonly target: MountTarget;
  readonly mount: AttachedMount;
  /** What is mounted there; undefined if nothing is. */
  old: StatxMount | undefined;
  /** The directories that were made in it for mountpoints, from its root. */
  readonly directories: string[];
  /** "beneath" as long as the old mount is on top of it. */
  state: "detached" | "beneath" | "attached";
}

/** A new mount. */
interface NewMount {
  readonly plan: NewMountPlan;
  /** Its root. */
  readonly fd: OwnedFd;
  readonly mount: AttachedMount;
}

/**
 * Refuses a list that can't replace what is mounted, before anything is done.
 *
 * @param plans the plans of the list.
 * @param target the directory that they go under.
 * @throws {MountError} for the first mount that can't.
 */
export function refuseReplacing(plans: readonly Plan[], target: string): void {
  for (const [index, plan] of plans.entries()) {
    const reason = whyNot(plan, plans.slice(0, index));
    if (reason !== undefined) {
      throw new MountError(plan.mount, mountpointOf(plan, target), new TypeError(reason));
    }
  }
}

function whyNot(plan: Plan, before: readonly Plan[]): string | undefined {
  if (!makesMount(plan)) {
    return '"replace" is for new mounts: change one that is mounted in a call of its own';
  }
  if (!mayMount()) return undefined; // the call that makes it says so
  if (!hasFeature("mountBeneath") || !usesMountSetattr() || !hasFeature("openat2")) {
    return "replacing a mount needs MOVE_MOUNT_BENEATH of move_mount(2), which came with Linux 6.5, and the calls " +
      "openat2(2) and mount_setattr(2), which a seccomp filter may forbid";
  }
  if (!before.some(({ subpath }) => isInside(plan.subpath, subpath)) || hasFeature("detachedTargets")) {
    return undefined;
  }
  return "replacing a mount by one with another mount inside needs move_mount(2) onto a detached mount, which came with " +
    "Linux 6.15";
}

/**
 * Whether a path is below another one.
 *
 * @param path a normalized path.
 * @param above the other one.
 * @returns false for the same path.
 */
export function isInside(path: string, above: string): boolean {
  return above === "/" ? path !== "/" : path.startsWith(`${above}/`);
}

/** The new mounts of a list that replaces what is mounted on its mountpoints. */
export class ReplacingMounts implements Disposable {
  readonly #trees: NewTree[] = [];
  readonly #mounts: NewMount[] = [];
  readonly #fds = new OwnedFds();
  readonly #targets = new OwnedFds();

  /**
   * The mounts of a list, none yet.
   *
   * @param thread the thread in the target's mount namespace, if that is another one.
   */
  constructor(readonly thread: NamespaceThread | undefined) {}

  /** The new mounts, in the order of the list, once they are visible. */
  get attached(): AttachedMount[] {
    return this.#mounts.map(({ mount }) => mount);
  }

  /**
   * Finds the new mount that a mountpoint is inside of.
   *
   * @param subpath the mountpoint's path below the target of the list.
   * @returns undefined if it is inside of none: then it is a mountpoint of its own.
   */
  find(subpath: string): InsideTree | undefined {
    const tree = this.#treeAbove(subpath);
    if (tree === undefined) return undefined;
    const { root, plan, directories } = tree;
    return {
      root,
      inside: plan.subpath === "/" ? subpath : subpath.slice(plan.subpath.length),
      made: { push: ({ directory }) => directories.push(directory) },
    };
  }

  #treeAbove(subpath: string): NewTree | undefined {
    return this.#trees.findLast(({ plan }) => isInside(subpath, plan.subpath));
  }

  /**
   * Makes a mount, detached or inside of a detached one.
   *
   * @param plan the mount.
   * @param resolved its descriptors, of which those that are needed later are kept.
   */
  async add(plan: NewMountPlan, { target, ...resolved }: Resolved): Promise<void> {
    const { fds } = resolved;
    const outer = this.#treeAbove(plan.subpath);
    // The path of what is inside of a detached mount begins at the root of that mount.
    const mountpoint = outer ? join(outer.mount.mountpoint, fdPath(target)) : target.path;
    const fd = fds.take(await createComplete(plan, { target, ...resolved }), this.#fds);
    const { mountId: id, isUnique, device } = statxMountUniqueFd(fd);
    const mount = { mountpoint, isTree: isTree(plan), isPeer: isPeerTree(plan), id, isUnique, device };
    this.#mounts.push({ plan, fd, mount });
    if (outer) return attachMount(fd, target);
    const top = statxMountUniqueFd(target);
    const old = top.isRoot ? top : undefined;
    fds.take(target, this.#targets);
    this.#trees.push({ plan, root: fd, target, mount, old, directories: [], state: "detached" });
  }

  /**
   * Attaches every mount, and unmounts what was mounted.
   *
   * @throws {MountError} for the mount that can't be attached, or whose predecessor can't be unmounted.
   */
  async reveal(): Promise<void> {
    this.#refuseCovering();
    for (const tree of this.#trees) this.#named(tree, () => attachTree(tree));
    this.#targets[Symbol.dispose](); // an open descriptor would keep the old mounts busy
    for (const tree of this.#trees) {
      if (tree.state === "beneath") await this.#namedAsync(tree, () => this.#unmountOld(tree));
    }
    for (const { plan, fd, mount } of this.#mounts) {
      this.#named({ plan, mount }, () => this.#run(() => setPropagationFd(plan.propagation, fd)));
    }
  }

  /**
   * Takes off what {@linkcode reveal} has attached, and puts back what is still mounted on it. Of several mounts the old
   * ones are put back as clones, because the kernel moves no mount from beneath another one.
   */
  async rollBack(): Promise<void> {
    this.#targets[Symbol.dispose]();
    for (const tree of this.#trees.toReversed()) {
      await this.#run(() => this.#takeOff(tree));
      for (const directory of tree.directories.toReversed()) {
        removeDirectory(`${procFdPath(tree.root)}${directory}`);
      }
    }
  }

  /** Closes the descriptors: what is still detached is freed. */
  [Symbol.dispose](): void {
    this.#targets[Symbol.dispose]();
    this.#fds[Symbol.dispose]();
  }

  /** A mount on a directory that another one of the list covers would vanish with the old mount that it is in. */
  #refuseCovering(): void {
    for (const [index, { mount, plan }] of this.#trees.entries()) {
      const covered = this.#trees.find((other, at) =>
        at !== index && isInside(other.mount.mountpoint, mount.mountpoint)
      );
      if (covered === undefined) continue;
      const reason =
        `"replace" takes no list with ${covered.mount.mountpoint} beside this mount, which covers it: ` +
        "name it after this one, and by a path without symbolic links";
      throw new MountError(plan.mount, mount.mountpoint, new TypeError(reason));
    }
  }

  async #unmountOld(tree: NewTree): Promise<void> {
    const { old, mount: { mountpoint } } = tree;
    if (old === undefined) return;
    if (!await this.#run(() => unmountOrDetach(mountpoint, old))) {
      throw new Error(`another process has mounted or unmounted something on ${mountpoint} meanwhile`);
    }
    for (const other of this.#trees) if (other.old?.mountId === old.mountId) other.state = "attached";
  }

  async #takeOff(tree: NewTree): Promise<void> {
    const { state, old, mount } = tree;
    if (state === "detached") return;
    if (state === "attached") {
      if (!await detachOwn(mount)) warn(mount);
    } else if (old !== undefined) {
      const restored = restoreBeneath(mount.mountpoint, old);
      if (restored === undefined) return warn(mount);
      for (const other of this.#trees) if (other.old?.mountId === old.mountId) other.old = restored;
    }
    tree.state = "detached";
  }

  #run<T>(code: () => T): T {
    return this.thread === undefined ? code() : this.thread.run(code);
  }

  #named<T>({ plan, mount }: Pick<NewTree, "plan" | "mount">, code: () => T): T {
    try {
      return code();
    } catch (error) {
      throw new MountError(plan.mount, mount.mountpoint, error);
    }
  }

  async #namedAsync({ plan, mount }: NewTree, code: () => Promise<void>): Promise<void> {
    try {
      await code();
    } catch (error) {
      throw new MountError(plan.mount, mount.mountpoint, error);
    }
  }
}

function warn({ mountpoint }: AttachedMount): void {
  console.warn(`${mountpoint} stays mounted, because another mount was made on top of it`);
}

function attachTree(tree: NewTree): void {
  const { root, target, old, mount } = tree;
  try {
    attachMount(root, target, old === undefined ? 0 : MOVE_MOUNT_BENEATH);
    tree.state = old === undefined ? "attached" : "beneath";
  } catch (error) {
    if (old === undefined || !isErrno(error, "EINVAL")) throw error;
    throw new ExplainedError(
      error,
      [],
      `the kernel mounts nothing beneath the mount on ${mount.mountpoint}: it is the root directory of this process, ` +
        "or locked by a user namespace, or gets what is mounted on its parent by propagation",
    );
  }
}
