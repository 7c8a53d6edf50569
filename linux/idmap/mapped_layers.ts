/**
 * Id-mapped overlay layers.
 *
 * The layers of one mount are mapped together: their common directory is cloned with open_tree(2), the detached clone is
 * id-mapped and made read-only, and the layers are opened below it. Since Linux 6.15, overlay takes these descriptors, so
 * a crash leaves no mount behind. Before 6.15, the clone is attached at a temporary directory while the overlay is
 * created.
 *
 * @module
 */

import { SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
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

interface Layer {
  /** As it is written in the options. */
  readonly path: string;
  /** Absolute and without ".", ".." and double slashes; "/" if it has to be looked up. */
  readonly canonical: string;
  /** Relative to the id-mapped clone. */
  subpath: string;
  /** In the id-mapped clone. */
  directory: OwnedFd | undefined;
}

/** A directory of layers that are known to be on its mount, whichever symbolic links lead to them. */
export interface CommonDirectory {
  /** Its path. */
  readonly path: string;
  /** It, opened. */
  readonly directory: OwnedFd;
}

/** A detached, id-mapped, read-only clone of a directory, and the layers in it. */
interface MappedTree {
  clone: OwnedFd;
  layers: readonly Layer[];
}

/**
 * Opens layers in detached id-mapped clones.
 *
 * @param paths the paths of the layers.
 * @param userns the user namespace with the id maps.
 * @param keep the owner of the descriptors.
 * @param common a directory that is known to have all of them on its mount, if one is.
 * @returns a descriptor for each path, in the same order.
 * @throws {SyscallError} if a layer can't be opened or cloned, or its file system can't be id-mapped.
 */
export async function openMappedLayers(
  paths: readonly string[],
  userns: OwnedFd,
  keep: OwnedFds,
  common?: CommonDirectory,
): Promise<(OwnedFd | undefined)[]> {
  const layers = paths.map(toLayer);
  await mapTrees(layers, userns, keep, common);
  return layers.map(({ directory }) => directory);
}

/** Id-mapped layers attached at temporary directories: the fallback before Linux 6.15. */
export class AttachedLayers implements AsyncDisposable {
  /** The path of each id-mapped layer, by the path that it has without the map. */
  readonly paths = new Map<string, string>();
  readonly #directories: TempDirectory[] = [];

  /**
   * Attaches id-mapped clones of the layers' directories.
   *
   * @param paths the paths of the layers.
   * @param userns the user namespace with the id maps.
   * @returns the layers, unmounted at the end of their scope: an overlay keeps private clones of its layers.
   * @throws {SyscallError} if a layer can't be opened, cloned or attached, or its file system can't be id-mapped.
   */
  static async attach(paths: readonly string[], userns: OwnedFd): Promise<AttachedLayers> {
    await using stack = new AsyncDisposableStack();
    const attached = stack.use(new AttachedLayers());
    using keep = new OwnedFds();
    for (const tree of await mapTrees(paths.map(toLayer), userns, keep)) attached.#attach(tree);
    stack.move();
    return attached;
  }

  #attach({ clone, layers }: MappedTree): void {
    const directory = new TempDirectory();
    this.#directories.push(directory);
    using mountpoint = openTarget(directory.root);
    attachMount(clone, mountpoint);
    for (const { path, subpath } of layers) this.paths.set(path, join(directory.root, subpath));
  }

  /** If another process keeps a mount busy, it stays, with a warning: it is read-only, and no file is deleted. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const directory of this.#directories) {
      try {
        await unmount(directory.root, { noFollow: true });
        directory[Symbol.dispose]();
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error;
        directory.abandon();
        console.warn(
          `id-mapped layers stay at ${directory.root} until cleanupTempMounts(): ${error.message}`,
        );
      }
    }
  }
}

async function mapTrees(
  layers: readonly Layer[],
  userns: OwnedFd,
  keep: OwnedFds,
  common?: CommonDirectory,
): Promise<MappedTree[]> {
  // The layers mostly have a common directory, and no symbolic link on their paths: then this is enough.
  const all = mapTogether(layers, layers.map(({ canonical }) => canonical), userns, keep, common);
  if (all) return [all];
  const trees: MappedTree[] = [];
  for (const group of Map.groupBy(layers.map(resolveLayer), ({ mountId }) => mountId).values()) {
    const members = group.map(({ layer }) => layer);
    const tree = members.length > 1
      ? mapTogether(members, group.map(({ canonical }) => canonical), userns, keep)
      : undefined;
    trees.push(...tree ? [tree] : await mapEach(members, userns, keep));
  }
  return trees;
}

const NOT_PLAIN = /\/\.{0,2}(\/|$)/; // a double or trailing slash, "." or ".."

function toLayer(path: string): Layer {
  const isPlain = path.startsWith("/") && !NOT_PLAIN.test(path);
  return { path, canonical: isPlain ? path : "/", subpath: ".", directory: undefined };
}

function resolveLayer(layer: Layer): { layer: Layer; canonical: string; mountId: number } {
  using directory = open(layer.path, O_PATH);
  return { layer, canonical: fdPath(directory), mountId: mountIdAt(directory.fd, "") };
}

/**
 * Maps the common directory of layers. Undefined if one of the layers is not in its clone.
 *
 * If a layer is on the mount of the common directory, and no symbolic link is between the two, the clone shows the same
 * directory: with another mount between them, the layer would be on that mount.
 */
function mapTogether(
  layers: readonly Layer[],
  paths: readonly string[],
  userns: OwnedFd,
  keep: OwnedFds,
  known?: CommonDirectory,
): MappedTree | undefined {
  if (paths.includes("/")) return undefined;
  const common = known?.path ?? commonDirectory(paths);
  const prefixLength = common === "/" ? 1 : common.length + 1;
  try {
    using own = known ? undefined : open(common, O_PATH);
    const directory = known?.directory ?? own as OwnedFd;
    const mountId = known ? undefined : mountIdAt(directory.fd, "");
    using opened = new OwnedFds();
    const clone = opened.add(idMap(openTree(directory.fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH), userns));
    for (let index = 0; index < layers.length; index++) {
      const layer = layers[index] as Layer;
      layer.subpath = paths[index]?.slice(prefixLength) || ".";
      if (mountId !== undefined && mountIdAt(directory.fd, layer.subpath) !== mountId) return undefined;
      layer.directory = opened.add(openat2(clone.fd, layer.subpath, O_PATH, RESOLVE_IN_CLONE));
    }
    opened.release(keep);
    return { clone, layers };
  } catch (error) {
    // A symbolic link, a directory that was renamed meanwhile, or one that can't be cloned.
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

const RESOLVE_IN_CLONE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;

async function mapEach(
  layers: readonly Layer[],
  userns: OwnedFd,
  keep: OwnedFds,
): Promise<MappedTree[]> {
  const trees: MappedTree[] = [];
  for (const layer of layers) {
    try {
      const clone = keep.add(idMap(openTree(AT_FDCWD, layer.path, OPEN_TREE_CLONE), userns));
      layer.subpath = ".";
      layer.directory = clone;
      trees.push({ clone, layers: [layer] });
    } catch (error) {
      throw await explainIdMap(error, layer.path, userns, false);
    }
  }
  return trees;
}

/** Private: a later mount on the layer must not propagate into the clone. */
function idMap(clone: OwnedFd, userns: OwnedFd): OwnedFd {
  try {
    mountSetattr(clone.fd, "", AT_EMPTY_PATH, {
      set: MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY,
      propagation: MS_PRIVATE,
      usernsFd: userns.fd,
    });
    return clone;
  } catch (error) {
    clone.close();
    throw error;
  }
}
