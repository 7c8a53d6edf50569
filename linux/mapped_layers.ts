/**
 * Overlay layers seen through an id map.
 *
 * The layers on one mount are mapped together: their common directory is cloned, detached, mapped and made read-only,
 * and they are opened below it. From Linux 6.15 overlay takes them as they are, attached nowhere, so that nothing is
 * there to be left behind. Before, the clone is attached at a temporary place while the overlay is made.
 *
 * @module
 */

import { SyscallError } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { explainIdMap } from "./attributes.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  MOUNT_ATTR_IDMAP,
  MOUNT_ATTR_RDONLY,
  MS_PRIVATE,
  O_PATH,
  OPEN_TREE_CLONE,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  STATX_MNT_ID,
} from "./constants.ts";
import { commonDirectory, join } from "./path.ts";
import { mountSetattr, open, openat2, openTree, statx } from "./syscalls.ts";
import { attach, openTarget, pathOf } from "./target.ts";
import { TempPlace } from "./temp_place.ts";
import { unmount } from "./unmount.ts";

/** A layer as it was given, where that is, and the mount that it is on. */
interface Layer {
  path: string;
  canonical: string;
  mountId: bigint;
}

/** A detached, id-mapped, read-only clone of a directory, and the layers in it. */
interface MappedTree {
  tree: OwnedFd;
  layers: { path: string; inside: string; directory: OwnedFd }[];
}

/**
 * Layers as descriptors of id-mapped directories that are attached nowhere.
 *
 * @param paths the layers.
 * @param userns the user namespace whose maps they get.
 * @param keep closes the descriptors.
 * @returns a descriptor for each path.
 */
export async function openMappedLayers(
  paths: readonly string[],
  userns: OwnedFd,
  keep: DisposableStack,
): Promise<Map<string, OwnedFd>> {
  const trees = await mapTrees(paths, userns, keep);
  return new Map(trees.flatMap(({ layers }) => layers.map(({ path, directory }) => [path, directory])));
}

/** Layers at temporary places: before Linux 6.15. */
export class AttachedLayers implements AsyncDisposable {
  /** Where each layer is now. */
  readonly paths = new Map<string, string>();
  readonly #places: TempPlace[] = [];

  /**
   * Attaches id-mapped clones of the layers' directories.
   *
   * @param paths the layers.
   * @param userns the user namespace whose maps they get.
   * @returns takes them off again at the end of its scope: an overlay keeps clones of its own.
   */
  static async attach(paths: readonly string[], userns: OwnedFd): Promise<AttachedLayers> {
    await using stack = new AsyncDisposableStack();
    const attached = stack.use(new AttachedLayers());
    using keep = new DisposableStack();
    for (const { tree, layers } of await mapTrees(paths, userns, keep)) attached.#attach(tree, layers);
    stack.move();
    return attached;
  }

  #attach(tree: OwnedFd, layers: MappedTree["layers"]): void {
    const place = new TempPlace();
    this.#places.push(place);
    using mountpoint = openTarget(place.root);
    attach(tree, mountpoint);
    for (const { path, inside } of layers) this.paths.set(path, join(place.root, inside));
  }

  /** A place that somebody keeps busy stays, with a warning: what is in it is read-only, and nothing is deleted. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const place of this.#places) {
      try {
        await unmount(place.root, { noFollow: true });
        place[Symbol.dispose]();
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error;
        place.abandon();
        console.warn(`id-mapped layers stay at ${place.root} until cleanupTempMounts(): ${error.message}`);
      }
    }
  }
}

async function mapTrees(
  paths: readonly string[],
  userns: OwnedFd,
  keep: DisposableStack,
): Promise<MappedTree[]> {
  // Mostly the layers stand in one directory and no symbolic link leads to them: then nothing needs to be resolved.
  const together = mapTogether(paths.map(takeLayer), userns, keep);
  if (together) return [together];
  const trees: MappedTree[] = [];
  for (const group of Map.groupBy(paths.map(findLayer), ({ mountId }) => mountId).values()) {
    const tree = group.length > 1 ? mapTogether(group, userns, keep) : undefined;
    trees.push(...tree ? [tree] : await mapEach(group, userns, keep));
  }
  return trees;
}

/** A layer by its path as it is written. */
function takeLayer(path: string): Layer {
  const canonical = path.startsWith("/") && !path.includes("..") ? join(path) : "/"; // "/": it has to be looked up
  return { path, canonical, mountId: mountIdOf(AT_FDCWD, path) };
}

/** A layer by the path that it has in the end. */
function findLayer(path: string): Layer {
  using directory = open(path, O_PATH);
  return { path, canonical: pathOf(directory), mountId: mountIdOf(directory.fd, "") };
}

function mountIdOf(dirfd: number, path: string): bigint {
  return statx(dirfd, path, AT_STATX_DONT_SYNC | (path === "" ? AT_EMPTY_PATH : 0), STATX_MNT_ID).mountId;
}

/**
 * Maps the directory that they have in common; undefined where they can't all be found in it.
 *
 * A layer on the mount of the common directory, with no symbolic link between the two, is the one that the clone shows:
 * had anything been mounted on the way, the layer would be on that mount.
 */
function mapTogether(
  layers: readonly Layer[],
  userns: OwnedFd,
  keep: DisposableStack,
): MappedTree | undefined {
  using own = new DisposableStack();
  try {
    const common = commonDirectory(layers.map(({ canonical }) => canonical));
    const mountId = mountIdOf(AT_FDCWD, common);
    if (layers.some((layer) => layer.mountId !== mountId || layer.canonical === "/")) return undefined;
    const tree = own.use(mapped(openTree(AT_FDCWD, common, OPEN_TREE_CLONE), userns));
    const skip = common === "/" ? 1 : common.length + 1;
    const found = layers.map(({ path, canonical }) => {
      const inside = canonical.slice(skip) || ".";
      return { path, inside, directory: own.use(openat2(tree.fd, inside, O_PATH, WITHIN)) };
    });
    keep.use(own.move());
    return { tree, layers: found };
  } catch (error) {
    // A symbolic link, or a directory that was renamed meanwhile, or one that can't be cloned.
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

const WITHIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;

async function mapEach(
  layers: readonly Layer[],
  userns: OwnedFd,
  keep: DisposableStack,
): Promise<MappedTree[]> {
  const trees: MappedTree[] = [];
  for (const { path } of layers) {
    try {
      const tree = keep.use(mapped(openTree(AT_FDCWD, path, OPEN_TREE_CLONE), userns));
      trees.push({ tree, layers: [{ path, inside: ".", directory: tree }] });
    } catch (error) {
      throw await explainIdMap(error, path, userns, false);
    }
  }
  return trees;
}

/** Private: what is mounted at a temporary place is of no interest to any other mount namespace. */
function mapped(tree: OwnedFd, userns: OwnedFd): OwnedFd {
  try {
    mountSetattr(tree.fd, "", AT_EMPTY_PATH, {
      set: MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY,
      propagation: MS_PRIVATE,
      usernsFd: userns.fd,
    });
    return tree;
  } catch (error) {
    tree.close();
    throw error;
  }
}
