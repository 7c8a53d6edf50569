/**
 * Overlay layers seen through an id map.
 *
 * The layers on one mount are mapped together: their common directory is cloned, detached, mapped and made read-only,
 * and they are opened below it. From Linux 6.15 overlay takes them as they are, attached nowhere, so that nothing is
 * there to be left behind. Before, the clone is attached at a temporary place while the overlay is made.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds, withDisposable } from "../../ffi/fd.ts";
import { explainIdMap } from "./explain.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  MOUNT_ATTR_IDMAP,
  MOUNT_ATTR_RDONLY,
  MS_PRIVATE,
  O_PATH,
  OPEN_TREE_CLONE,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
} from "../syscalls/constants.ts";
import { commonDirectory, join } from "../path/path.ts";
import { mountIdAt } from "../mountinfo/statx_mount.ts";
import { mountSetattr, open, openat2, openTree } from "../syscalls/mod.ts";
import { attachMount, fdPath, openTarget } from "../path/mount_target.ts";
import { TempDirectory } from "../temp/temp_directory.ts";
import { unmount } from "../unmount/unmount.ts";

/** A layer, where it is, and its directory in an id-mapped clone, when that is found. */
interface Layer {
  readonly path: string;
  readonly canonical: string;
  inside: string;
  directory: OwnedFd | undefined;
}

/** A detached, id-mapped, read-only clone of a directory, and the layers in it. */
interface MappedTree {
  tree: OwnedFd;
  layers: readonly Layer[];
}

/**
 * Layers as descriptors of id-mapped directories that are attached nowhere.
 *
 * @param paths the layers.
 * @param userns the user namespace whose maps they get.
 * @param keep closes the descriptors.
 * @returns a descriptor for each path, in their order.
 */
export async function openMappedLayers(
  paths: readonly string[],
  userns: OwnedFd,
  keep: OwnedFds,
): Promise<(OwnedFd | undefined)[]> {
  const layers = paths.map(takeLayer);
  await mapTrees(layers, userns, keep);
  return layers.map(({ directory }) => directory);
}

/** Layers at temporary places: before Linux 6.15. */
export class AttachedLayers implements AsyncDisposable {
  /** Where each layer is now. */
  readonly paths = new Map<string, string>();
  readonly #places: TempDirectory[] = [];

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
    using keep = new OwnedFds();
    for (const { tree, layers } of await mapTrees(paths.map(takeLayer), userns, keep)) {
      attached.#attach(tree, layers);
    }
    stack.move();
    return attached;
  }

  #attach(tree: OwnedFd, layers: MappedTree["layers"]): void {
    const place = new TempDirectory();
    this.#places.push(place);
    using mountpoint = openTarget(place.root);
    attachMount(tree, mountpoint);
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
  layers: readonly Layer[],
  userns: OwnedFd,
  keep: OwnedFds,
): Promise<MappedTree[]> {
  // Mostly the layers stand in one directory and no symbolic link leads to them: then nothing needs to be resolved.
  const paths = layers.map(({ canonical }) => canonical);
  const together = mapTogether(layers, paths, userns, keep);
  if (together) return [together];
  const trees: MappedTree[] = [];
  for (const group of Map.groupBy(layers.map(find), ({ mountId }) => mountId).values()) {
    const found = group.map(({ layer }) => layer);
    const tree = found.length > 1
      ? mapTogether(found, group.map(({ canonical }) => canonical), userns, keep)
      : undefined;
    trees.push(...tree ? [tree] : await mapEach(found, userns, keep));
  }
  return trees;
}

const UNPLAIN = /\/\.{0,2}(\/|$)/; // a doubled slash, one at the end, a "." or ".."

/** A layer by its path as it is written. */
function takeLayer(path: string): Layer {
  const isPlain = path.startsWith("/") && !UNPLAIN.test(path);
  return { path, canonical: isPlain ? path : "/", inside: ".", directory: undefined }; // "/": it has to be looked up
}

/** The path that a layer has in the end, and the mount that it is on. */
function find(layer: Layer): { layer: Layer; canonical: string; mountId: number } {
  using directory = open(layer.path, O_PATH);
  return { layer, canonical: fdPath(directory), mountId: mountIdAt(directory.fd, "") };
}

/**
 * Maps the directory that they have in common; undefined where they can't all be found in it.
 *
 * A layer on the mount of the common directory, with no symbolic link between the two, is the one that the clone shows:
 * had anything been mounted on the way, the layer would be on that mount.
 */
function mapTogether(
  layers: readonly Layer[],
  paths: readonly string[],
  userns: OwnedFd,
  keep: OwnedFds,
): MappedTree | undefined {
  if (paths.includes("/")) return undefined;
  const common = commonDirectory(paths);
  const skip = common === "/" ? 1 : common.length + 1;
  try {
    return withDisposable(open(common, O_PATH), (directory) =>
      withDisposable(new OwnedFds(), (own) => {
        const mountId = mountIdAt(directory.fd, "");
        const tree = own.add(mapped(openTree(directory.fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH), userns));
        for (let index = 0; index < layers.length; index++) {
          const layer = layers[index] as Layer;
          layer.inside = paths[index]?.slice(skip) || ".";
          if (mountIdAt(directory.fd, layer.inside) !== mountId) return undefined;
          layer.directory = own.add(openat2(tree.fd, layer.inside, O_PATH, WITHIN));
        }
        own.release(keep);
        return { tree, layers };
      }));
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
  keep: OwnedFds,
): Promise<MappedTree[]> {
  const trees: MappedTree[] = [];
  for (const layer of layers) {
    try {
      const tree = keep.add(mapped(openTree(AT_FDCWD, layer.path, OPEN_TREE_CLONE), userns));
      layer.inside = ".";
      layer.directory = tree;
      trees.push({ tree, layers: [layer] });
    } catch (error) {
      throw await explainIdMap(error, layer.path, userns, false);
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
