/**
 * Staged mounts: what mount(2) or a helper program can only make on a mountpoint is mounted at a private temporary one,
 * completed there, and moved to its target. So the target never shows a mount that is not yet what its plan says, and
 * another mount namespace gets what can't be made detached.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { mountAt } from "../mountinfo/statx_mount.ts";
import { openCached } from "../path/cached_lookup.ts";
import { attachMount, isDirectory, openTarget, procFdPath } from "../path/mount_target.ts";
import { type Call, call, mountCall, quoted } from "../spec/call.ts";
import type { NewMountPlan } from "../spec/plan.ts";
import {
  AT_EMPTY_PATH,
  AT_RECURSIVE,
  MNT_DETACH,
  MS_BIND,
  MS_PRIVATE,
  MS_REC,
  O_CREAT,
  OPEN_TREE_CLONE,
} from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mount, open, openTree, umount2 } from "../syscalls/mod.ts";
import { TempDirectory } from "../temp/temp_directory.ts";
import { detachTopMount } from "../unmount/tree.ts";
import { isPeerTree, isTree } from "./bind.ts";
import {
  createDetached,
  describeDetached,
  describeOnto,
  isCompleteDetached,
  isCreatedDetached,
  mountOnto,
} from "./kinds.ts";
import type { DescribeOptions, Resolved } from "./resolved.ts";
import { changeRoot, describeRootChange } from "./root_change.ts";

/**
 * Makes a mount at a temporary mountpoint, completes it there, and moves it to its target.
 *
 * @param plan the mount.
 * @param resolved its descriptors.
 */
export async function mountStaged(plan: NewMountPlan, resolved: Resolved): Promise<void> {
  const clone = await cloneStaged(plan, resolved);
  if (clone) attachMount(clone, resolved.target);
}

/**
 * Makes a mount complete and detached, whichever way it is made. It needs open_tree(2).
 *
 * @param plan the mount.
 * @param resolved its descriptors.
 * @returns the detached mount.
 */
export async function createComplete(plan: NewMountPlan, resolved: Resolved): Promise<OwnedFd> {
  if (isCompleteDetached(plan)) {
    const created = createDetached(plan, resolved);
    const mounted = created instanceof Promise ? await created : created;
    changeRoot(mounted, plan.root);
    return mounted;
  }
  const clone = await cloneStaged(plan, resolved);
  if (clone === undefined) {
    throw new TypeError("this kernel makes no detached mount: open_tree(2) is missing");
  }
  return clone;
}

/** A detached clone of what was mounted on the stage; undefined if mount(2) has bound it on the target instead. */
async function cloneStaged(plan: NewMountPlan, resolved: Resolved): Promise<OwnedFd | undefined> {
  const { target, fds } = resolved;
  let clone: OwnedFd | undefined;
  let isMoved = false;
  try {
    using stage = new Stage(isPeerTree(plan), plan.kind === "bind" && !isDirectory(target));
    await mountOnStage(plan, stage, resolved);
    using root = openTarget(stage.mountpoint, plan.kind === "bind" ? undefined : plan.subdir);
    changeRoot(root, plan.root);
    if (hasFeature("mountApi")) clone = fds.add(openTree(root.fd, "", cloneFlags(plan)));
    else mount(procFdPath(root), procFdPath(target), null, isTree(plan) ? MS_BIND | MS_REC : MS_BIND, null);
    isMoved = clone === undefined;
  } catch (error) {
    if (isMoved) detachTopMount(target, isPeerTree(plan)); // the stage could not be removed
    throw error;
  }
  return clone;
}

async function mountOnStage(plan: NewMountPlan, stage: Stage, resolved: Resolved): Promise<void> {
  {
    using mountpoint = openTarget(stage.mountpoint);
    if (plan.kind !== "fuse" && isCreatedDetached(plan)) {
      const created = createDetached(plan, resolved);
      attachMount(created instanceof Promise ? await created : created, mountpoint);
    } else await mountOnto(plan, mountpoint, resolved);
  } // closed: an open descriptor keeps a mount busy
}

function cloneFlags(plan: NewMountPlan): number {
  return isTree(plan) ? OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE : OPEN_TREE_CLONE | AT_EMPTY_PATH;
}

/**
 * A private mount on a temporary directory, so that what is mounted on it stays in this namespace: the directory bound on
 * itself, or, for a mountpoint that is a file, a tmpfs with that file. On the disk, a crash would leave the file behind,
 * and a cleanup deletes no files.
 */
export class Stage implements Disposable {
  readonly #directory = new TempDirectory();
  readonly #root = this.#directory.root;
  /** The mountpoint. */
  readonly mountpoint: string;

  /**
   * Creates the directory.
   *
   * @param isPeer whether what is mounted on it is a peer of its source.
   * @param isFile whether a file is mounted.
   * @throws {SyscallError} if it can't be created or mounted.
   */
  constructor(readonly isPeer: boolean, isFile: boolean) {
    const root = this.#root;
    this.mountpoint = isFile ? `${root}/file` : root;
    try {
      if (isFile) mount("denomount", root, "tmpfs", 0, STAGE_SIZE);
      else mount(root, root, null, MS_BIND, null);
      mount(null, root, null, MS_PRIVATE, null);
      if (isFile) open(this.mountpoint, O_CREAT).close();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Unmounts what is left on it, and removes the directory. */
  [Symbol.dispose](): void {
    try {
      if (this.isPeer && mountAt(this.#root) !== undefined) makePrivate(this.#root);
      while (mountAt(this.#root) !== undefined) detachRetrying(this.#root);
    } catch (error) {
      this.#directory.abandon(); // it can't be removed while something is mounted on it
      throw error;
    }
    this.#directory[Symbol.dispose]();
  }
}

/** The path of a stage in what {@linkcode describeStaged} returns. */
export const STAGE = "…/denomount-XXXXXX/root";

const STAGE_SIZE = "size=4k,nr_inodes=2,mode=700";

function makePrivate(path: string): void {
  mount(null, path, null, MS_PRIVATE | MS_REC, null);
}

/** A failed umount2(2) has changed nothing. The second failure in a row is no chance. */
function detachRetrying(path: string): void {
  try {
    umount2(path, MNT_DETACH);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    umount2(path, MNT_DETACH);
  }
}

/**
 * Describes {@linkcode mountStaged}.
 *
 * @param plan the mount.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeStaged(plan: NewMountPlan, options: DescribeOptions): Call[] {
  return [
    ...describeStagedClone(plan, options),
    ...hasFeature("mountApi")
      ? [call("move_mount", ["tree", quoted(options.target)], "attach the clone")]
      : [],
  ];
}

/**
 * Describes {@linkcode createComplete}.
 *
 * @param plan the mount.
 * @param options the mountpoint.
 * @returns its calls.
 */
export function describeComplete(plan: NewMountPlan, options: DescribeOptions): Call[] {
  if (!isCompleteDetached(plan)) return describeStagedClone(plan, options);
  return [...describeDetached(plan, options), ...describeRootChange(plan.root)];
}

function describeStagedClone(plan: NewMountPlan, options: DescribeOptions): Call[] {
  const directory = STAGE;
  const isFile = plan.kind === "bind" && isOtherFile(options.target);
  const stage = isFile ? `${directory}/file` : directory;
  const staged = plan.kind !== "fuse" && isCreatedDetached(plan)
    ? [
      ...describeDetached(plan, options),
      call("move_mount", ["mount", quoted(stage)], "attach it at the temporary mountpoint"),
    ]
    : describeOnto(plan, { ...options, target: stage });
  const source = plan.subdir === undefined || plan.kind === "bind" ? stage : `${stage}/${plan.subdir}`;
  const { before, remove } = describeStage(isFile);
  return [
    ...before,
    ...staged,
    ...describeRootChange(plan.root),
    describeClone(plan, source, options.target),
    ...isPeerTree(plan)
      ? [mountCall({ target: directory, flags: MS_PRIVATE | MS_REC }, "so the source keeps its submounts")]
      : [],
    remove,
    ...isFile ? [] : [remove],
  ];
}

/**
 * Describes {@linkcode Stage}.
 *
 * @param isFile whether a file is mounted on it.
 * @returns the calls that make it, and the one that unmounts a mount from it.
 */
export function describeStage(isFile: boolean): { before: Call[]; remove: Call } {
  const remove = call("umount2", [quoted(STAGE), "MNT_DETACH"], "remove the temporary mountpoint");
  const before = [
    mountCall(
      isFile
        ? { source: "denomount", target: STAGE, type: "tmpfs", flags: 0, data: STAGE_SIZE }
        : { source: STAGE, target: STAGE, flags: MS_BIND },
      "a temporary mountpoint",
    ),
    mountCall({ target: STAGE, flags: MS_PRIVATE }, "what is mounted on it stays in this namespace"),
  ];
  return { before, remove };
}

function describeClone(plan: NewMountPlan, source: string, target: string): Call {
  return hasFeature("mountApi")
    ? call(
      "open_tree",
      [quoted(source), isTree(plan) ? "OPEN_TREE_CLONE|AT_RECURSIVE" : "OPEN_TREE_CLONE"],
      "clone the complete mount, detached",
    )
    : mountCall(
      { source, target, flags: isTree(plan) ? MS_BIND | MS_REC : MS_BIND },
      "bind the complete mount on the target",
    );
}

/** False for a directory, and for a path that can't be opened without waiting for a server: always before Linux 5.12. */
function isOtherFile(path: string): boolean {
  const opened = openCached(path);
  if (typeof opened === "string") return false;
  using file = opened;
  return !isDirectory(file);
}
