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
import { requirePermission } from "../../ffi/permission.ts";
import type { NamespaceThread } from "../../ffi/namespace_thread.ts";
import { isPeerTree } from "../filesystem/bind.ts";
import type { Resolved } from "../filesystem/resolved.ts";
import { setPropagationFd } from "../filesystem/propagation.ts";
import { createComplete, Stage } from "../filesystem/staged.ts";
import { type StatxMount, statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { attachMount, fdPath, openTarget } from "../path/mount_target.ts";
import { directoriesAbove, join } from "../path/path.ts";
import { ExplainedError, MountError } from "../spec/error.ts";
import { makesMount, mountpointOf, type NewMountPlan, type Plan } from "../spec/plan.ts";
import { MOVE_MOUNT_BENEATH } from "../syscalls/constants.ts";
import { hasFeature, mayMount, usesMountSetattr } from "../syscalls/features.ts";
import { type AttachedMount, detachOrWarn, warnOfServer } from "../unmount/own.ts";
import { isMounted } from "../unmount/umount_once.ts";
import { restoreBeneath, unmountOrDetach } from "../unmount/replaced.ts";
import { attachedMount } from "./attached_mount.ts";
import {
  type DetachedTree,
  type DetachedTrees,
  type InsideTree,
  type NewMount,
  pathInside,
  placeInside,
  removeDirectoriesInside,
} from "./detached_tree.ts";

/** A new mount that is inside of another one, with its root as long as propagation has to be set. */
interface InnerMount extends NewMount {
  readonly fd: OwnedFd;
  readonly outer: NewTree;
  /** Its mountpoint, from the root of the outer one. */
  readonly inside: string;
}

/** A new mount, with what it replaces. */
interface NewTree extends DetachedTree {
  /** What is mounted on its mountpoint; undefined if nothing is. */
  old: StatxMount | undefined;
  /** "beneath" as long as the old mount is on top of it. */
  state: "detached" | "beneath" | "attached";
}

/**
 * Refuses a list that can't replace what is mounted, before anything is done.
 *
 * @param plans the plans of the list.
 * @param target the directory that they go under.
 * @param isElsewhere whether the target is in another mount namespace.
 * @throws {MountError} for the first mount that can't.
 */
export function refuseReplacing(plans: readonly Plan[], target: string, isElsewhere: boolean): void {
  const before = new Set<string>();
  for (const plan of plans) {
    const reason = whyNot(plan, before, isElsewhere);
    if (reason !== undefined) {
      throw new MountError(plan.mount, mountpointOf(plan, target), new TypeError(reason));
    }
    before.add(plan.subpath);
  }
}

function whyNot(plan: Plan, before: ReadonlySet<string>, isElsewhere: boolean): string | undefined {
  if (!makesMount(plan)) {
    return '"replace" is for new mounts: change one that is mounted in a call of its own';
  }
  const isInner = isElsewhere && directoriesAbove(plan.subpath).some((path) => before.has(path));
  const isPossible = hasFeature("mountBeneath") && usesMountSetattr() && hasFeature("openat2");
  if (isPossible && (!isInner || hasFeature("detachedTargets"))) return undefined;
  requirePermission({ name: "ffi" }); // without it no probe works either
  if (!mayMount()) return undefined; // the probes say nothing, and the call that makes it does
  if (!isPossible) {
    return "replacing a mount needs MOVE_MOUNT_BENEATH of move_mount(2), which came with Linux 6.5, and the calls " +
      "openat2(2) and mount_setattr(2), which a seccomp filter may forbid";
  }
  return "in another mount namespace, replacing a mount by one with another mount inside needs move_mount(2) onto a " +
    "detached mount, which came with Linux 6.15";
}

/** The new mounts of a list that replaces what is mounted on its mountpoints. */
export class ReplacingMounts implements DetachedTrees, Disposable {
  readonly #trees: NewTree[] = [];
  readonly #treeAt = new Map<string, NewTree>(); // the last one, by its path below the target of the list
  readonly #mounts: (NewTree | InnerMount)[] = [];
  readonly #fds = new OwnedFds();
  readonly #targets = new OwnedFds();

  /**
   * The mounts of a list, none yet.
   *
   * @param under the directory that the list goes under.
   * @param thread the thread in the target's mount namespace, if that is another one.
   */
  constructor(readonly under: string, readonly thread: NamespaceThread | undefined) {}

  /** The new mounts, in the order of the list, once they are visible. */
  get attached(): AttachedMount[] {
    return this.#mounts.map(({ plan, mountpoint, id }) => attachedMount(plan, mountpoint, id));
  }

  /**
   * Finds the new mount that a mountpoint is inside of.
   *
   * @param subpath the mountpoint's path below the target of the list.
   * @returns undefined if it is inside of none: then it is a mountpoint of its own.
   */
  find(subpath: string): InsideTree | undefined {
    const tree = this.#treeAbove(subpath);
    return tree && placeInside(tree, subpath, this.#fds);
  }

  #treeAbove(subpath: string): NewTree | undefined {
    return directoriesAbove(subpath).map((path) => this.#treeAt.get(path)).find((tree) => tree);
  }

  /**
   * Makes a mount, detached or inside of a detached one.
   *
   * @param plan the mount.
   * @param resolved its descriptors, of which those that are needed later are kept.
   */
  async add(plan: NewMountPlan, { target, ...resolved }: Resolved): Promise<void> {
    const fd = resolved.fds.take(await createComplete(plan, { target, ...resolved }), this.#fds);
    const mountpoint = mountpointOf(plan, this.under);
    const mount = { plan, fd, id: statxMountUniqueFd(fd), mountpoint };
    const outer = this.#treeAbove(plan.subpath);
    if (outer) {
      this.#mounts.push({ ...mount, outer, inside: pathInside(outer, fdPath(target)) });
      if (!hasFeature("detachedTargets")) outer.stage ??= stageOf(outer);
      return attachMount(fd, target);
    }
    resolved.fds.take(target, this.#targets);
    const tree: NewTree = {
      ...mount,
      target,
      old: undefined,
      directories: [],
      stage: undefined,
      state: "detached",
    };
    await this.#look(tree);
    refuseRoot(tree);
    this.#mounts.push(tree);
    this.#trees.push(tree);
    this.#treeAt.set(plan.subpath, tree);
  }

  /** Reads what is mounted on a mountpoint, and its path: that of a mount which is gone by then would be "/". */
  async #look(tree: NewTree): Promise<void> {
    for (let tries = 0;; tries++) {
      const top = statxMountUniqueFd(tree.target);
      tree.old = top.isRoot ? top : undefined;
      tree.mountpoint = tree.target.path;
      if (!top.isRoot || tries >= MAX_TRIES || await this.#run(() => isMounted(top))) return;
      tree.target = this.#targets.add(this.#run(() => openTarget(this.under, tree.plan.subpath)));
    }
  }

  /**
   * Attaches every mount, and unmounts what was mounted.
   *
   * @param timeout the timeout of the wait for the server of each old mount.
   * @throws {MountError} for the mount that can't be attached, or whose predecessor can't be unmounted.
   */
  async reveal(timeout: number | undefined): Promise<void> {
    this.#refuseCovering();
    for (const tree of this.#trees) await this.#named(tree, () => this.#attach(tree));
    this.#targets[Symbol.dispose](); // an open descriptor would keep the old mounts busy
    for (const mount of this.#mounts) {
      if ("outer" in mount) mount.mountpoint = join(mount.outer.mountpoint, mount.inside);
    }
    for (const tree of this.#trees) {
      if (tree.state === "beneath") await this.#named(tree, () => this.#unmountOld(tree, timeout));
    }
    for (const mount of this.#mounts) {
      const { plan: { propagation }, fd } = mount;
      if (propagation.length === 0) continue;
      await this.#named(mount, () => this.#run(() => setPropagationFd(propagation, fd)));
    }
  }

  /**
   * Takes off what {@linkcode reveal} has attached, and puts back what is still mounted on it. Of several mounts the old
   * ones are put back as clones, because the kernel moves no mount from beneath another one.
   *
   * @param timeout how long to wait for the servers on the way to each, in milliseconds; 2500 if left out.
   */
  async rollBack(timeout: number | undefined): Promise<void> {
    this.#targets[Symbol.dispose]();
    for (const tree of this.#trees.toReversed()) {
      const stays = `${tree.mountpoint} stays mounted`;
      await this.#run(() => warnOfServer(stays, () => this.#takeOff(tree, timeout)));
      unstage(tree);
      removeDirectoriesInside(tree);
    }
  }

  /** Closes the descriptors: what is still detached is freed. */
  [Symbol.dispose](): void {
    this.#targets[Symbol.dispose]();
    this.#fds[Symbol.dispose]();
  }

  /** A mount on a directory that another one of the list covers would vanish with the old mount that it is in. */
  #refuseCovering(): void {
    const byMountpoint = new Map(this.#trees.map((tree) => [tree.mountpoint, tree]));
    for (const { mountpoint } of this.#trees) {
      const covering = directoriesAbove(mountpoint).map((path) => byMountpoint.get(path)).find((tree) =>
        tree
      );
      if (covering === undefined) continue;
      const reason = `"replace" takes no list with ${mountpoint} beside this mount, which covers it: ` +
        "name it after this one, and by a path without symbolic links";
      throw new MountError(covering.plan.mount, covering.mountpoint, new TypeError(reason));
    }
  }

  async #attach(tree: NewTree): Promise<void> {
    for (let tries = 0;; tries++) {
      try {
        attachTree(tree);
        return unstage(tree);
      } catch (error) {
        const { old } = tree;
        if (!old || tries >= MAX_TRIES || await this.#run(() => isMounted(old))) throw error;
      }
      // Another process has unmounted the old mount, or replaced it too.
      tree.target = this.#targets.add(this.#run(() => openTarget(this.under, tree.plan.subpath)));
      await this.#look(tree);
    }
  }

  async #unmountOld(tree: NewTree, timeout: number | undefined): Promise<void> {
    const { old, mountpoint } = tree;
    if (old === undefined) return;
    // Another call that replaces the same mount may have unmounted it; then its own mount is on top of this one.
    if (
      !await this.#run(() => unmountOrDetach(mountpoint, old, timeout)) &&
      await this.#run(() => isMounted(old))
    ) {
      throw new Error(`another process has mounted something on ${mountpoint} meanwhile`);
    }
    for (const other of this.#trees) if (other.old?.mountId === old.mountId) other.state = "attached";
  }

  async #takeOff(tree: NewTree, timeout: number | undefined): Promise<void> {
    const { state, old, mountpoint } = tree;
    if (state === "detached") return;
    tree.state = "detached";
    const restored = state === "beneath" && old ? await restoreBeneath(mountpoint, old, timeout) : undefined;
    if (restored !== undefined) {
      for (const other of this.#trees) if (other.old?.mountId === old?.mountId) other.old = restored;
      return;
    }
    await detachOrWarn(attachedMount(tree.plan, tree.mountpoint, tree.id), timeout);
  }

  #run<T>(code: () => T): T {
    return this.thread === undefined ? code() : this.thread.run(code);
  }

  async #named({ plan, mountpoint }: NewMount, code: () => void | Promise<void>): Promise<void> {
    try {
      await code();
    } catch (error) {
      throw new MountError(plan.mount, mountpoint, error);
    }
  }
}

/**
 * Mounts a tree at a temporary place, so that others can be mounted inside of it: the fallback before Linux 6.15. From
 * there move_mount(2) moves it as a whole.
 */
function stageOf({ plan, fd }: NewTree): Stage {
  const stage = new Stage(isPeerTree(plan), false);
  try {
    using mountpoint = openTarget(stage.mountpoint);
    attachMount(fd, mountpoint);
  } catch (error) {
    stage[Symbol.dispose]();
    throw error;
  }
  return stage;
}

/** Removes the temporary place, with what is still mounted there. */
function unstage(tree: NewTree): void {
  tree.stage?.[Symbol.dispose]();
  tree.stage = undefined;
}

const MAX_TRIES = 1000;

/** Linux 7 mounts beneath the root directory too; to unmount that would take every path away from its processes. */
function refuseRoot({ old, mountpoint }: NewTree): void {
  if (old !== undefined && mountpoint === "/") {
    throw new TypeError("the root directory can't be replaced: pivot_root(2) is for that");
  }
}

function attachTree(tree: NewTree): void {
  const { fd, target, old, mountpoint } = tree;
  try {
    attachMount(fd, target, old === undefined ? 0 : MOVE_MOUNT_BENEATH);
    tree.state = old === undefined ? "attached" : "beneath";
  } catch (error) {
    if (old === undefined || !isErrno(error, "EINVAL")) throw error;
    throw new ExplainedError(
      error,
      [],
      `the kernel mounts nothing beneath the mount on ${mountpoint}: it is locked by a user namespace, or gets what is ` +
        "mounted on its parent by propagation",
    );
  }
}
