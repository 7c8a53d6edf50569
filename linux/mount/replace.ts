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
import { directoriesAbove, join } from "../path/path.ts";
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
  const before = new Set<string>();
  for (const plan of plans) {
    const reason = whyNot(plan, before);
    if (reason !== undefined) {
      throw new MountError(plan.mount, mountpointOf(plan, target), new TypeError(reason));
    }
    before.add(plan.subpath);
  }
}

function whyNot(plan: Plan, before: ReadonlySet<string>): string | undefined {
  if (!makesMount(plan)) {
    return '"replace" is for new mounts: change one that is mounted in a call of its own';
  }
  const isInner = directoriesAbove(plan.subpath).some((path) => before.has(path));
  const isPossible = hasFeature("mountBeneath") && usesMountSetattr() && hasFeature("openat2");
  if (isPossible && (!isInner || hasFeature("detachedTargets"))) return undefined;
  if (!mayMount()) return undefined; // the probes say nothing, and the call that makes it does
  if (!isPossible) {
    return "replacing a mount needs MOVE_MOUNT_BENEATH of move_mount(2), which came with Linux 6.5, and the calls " +
      "openat2(2) and mount_setattr(2), which a seccomp filter may forbid";
  }
  return "replacing a mount by one with another mount inside needs move_mount(2) onto a detached mount, which came with " +
    "Linux 6.15";
}

/** The new mounts of a list that replaces what is mounted on its mountpoints. */
export class ReplacingMounts implements Disposable {
  readonly #trees: NewTree[] = [];
  readonly #treeAt = new Map<string, NewTree>(); // the last one, by its path below the target of the list
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
    return firstOf(directoriesAbove(subpath), (path) => this.#treeAt.get(path));
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
    const tree: NewTree = { plan, root: fd, target, mount, old, directories: [], state: "detached" };
    this.#trees.push(tree);
    this.#treeAt.set(plan.subpath, tree);
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
    const byMountpoint = new Map(this.#trees.map((tree) => [tree.mount.mountpoint, tree]));
    for (const { mount: { mountpoint } } of this.#trees) {
      const covering = firstOf(directoriesAbove(mountpoint), (path) => byMountpoint.get(path));
      if (covering === undefined) continue;
      const reason = `"replace" takes no list with ${mountpoint} beside this mount, which covers it: ` +
        "name it after this one, and by a path without symbolic links";
      throw new MountError(covering.plan.mount, covering.mount.mountpoint, new TypeError(reason));
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

function firstOf<T>(paths: readonly string[], find: (path: string) => T | undefined): T | undefined {
  for (const path of paths) {
    const found = find(path);
    if (found !== undefined) return found;
  }
  return undefined;
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
