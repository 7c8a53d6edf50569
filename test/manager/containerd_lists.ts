/**
 * The mount lists of containerd's snapshotters for an image of three layers, and the trees that containerd's own mount
 * manager shows for them.
 *
 * @module
 */

import { type Activation, type Containerd, ContainerdError, type Mount } from "../../containerd/mod.ts";
import { Daemon } from "../containerd/daemon.ts";
import { erofsUtils } from "../containerd/erofs_utils.ts";
import { buildImage, type Image } from "../containerd/image.ts";
import { run } from "../kernels/run.ts";
import { describeTree } from "./digest_tree.ts";

/** A list of a snapshotter. */
export interface SnapshotList {
  /** What it is, such as "erofs: view of 3 layers". */
  name: string;
  /** The snapshotter and how it is configured. */
  setup: string;
  /** What the snapshot is. */
  kind: "view" | "active";
  /** How many layers it is made on. */
  layers: number;
  /** The key of the snapshot. */
  key: string;
  /** The list. */
  mounts: Mount[];
  /** Whether no mount(2) takes an entry as it is: it has a type such as "format/…" or "mkfs/…". */
  needsManager: boolean;
}

/** What containerd's own manager does with a list. */
export type Reference = {
  /** The tree that it shows, as {@linkcode describeTree} does. */
  tree: string[];
  /** What containerd left to mount; undefined if it refused the list because it needs no manager. */
  activation: Activation | undefined;
} | {
  /** Why containerd refuses the list. */
  error: ContainerdError;
};

const hasModifier = ({ type }: Mount) => type.includes("/");

/** A snapshotter, and what its configuration is called in the names of the lists. */
interface Setup {
  name: string;
  snapshotter: string;
}

const SCRATCH_SIZE = 16 << 20; // bytes of an ext4 that holds the image, and of every snapshot of blockfile

const differ = ['[plugins."io.containerd.service.v1.diff-service"]', '  default = ["erofs", "walking"]'];
const blockfile = (directory: string) => [
  '[plugins."io.containerd.snapshotter.v1.blockfile"]',
  `  scratch_file = "${directory}/scratch"`,
  '  fs_type = "ext4"',
];
const sized = ['[plugins."io.containerd.snapshotter.v1.erofs"]', '  default_size = "64MiB"'];

/** One containerd with the image in some of its snapshotters, and their lists. */
export class SnapshotLists implements AsyncDisposable {
  /** The containerd. */
  readonly daemon: Daemon;
  /** Its client; the lease keeps the snapshots. */
  readonly client: Containerd;
  /** The lists. */
  readonly lists: SnapshotList[] = [];
  readonly #image: Image;
  #activations = 0;

  private constructor(daemon: Daemon, image: Image) {
    this.daemon = daemon;
    this.client = daemon.client();
    this.#image = image;
  }

  /**
   * Starts a containerd and collects the lists of its snapshotters.
   *
   * @param directory a directory of its own.
   * @param set "plain" for erofs, overlayfs, native and blockfile; "sized" for erofs with block-device upper layers.
   * @returns the lists.
   */
  static async collect(directory: string, set: "plain" | "sized"): Promise<SnapshotLists> {
    const path = [await erofsUtils(), "/usr/sbin", "/sbin"];
    await Deno.mkdir(directory, { recursive: true });
    if (set === "plain") await makeScratch(`${directory}/scratch`);
    const lines = [...differ, ...set === "sized" ? sized : blockfile(directory)];
    const daemon = await Daemon.start(directory, { lines, path });
    const all = new SnapshotLists(daemon, await buildImage());
    try {
      const setups: Setup[] = set === "sized"
        ? [{ name: "erofs with default_size", snapshotter: "erofs" }]
        : ["erofs", "overlayfs", "native", "blockfile"].map((name) => ({ name, snapshotter: name }));
      for (const setup of setups) {
        await daemon.importImage(all.#image, setup.snapshotter);
        await all.#collect(setup, [0, 1, 2, 3]);
      }
      await all.#merge(path[0] ?? "");
      const name = set === "sized" ? "erofs with default_size, merged" : "erofs, merged";
      await all.#collect({ name, snapshotter: "erofs" }, [2, 3]);
      return all;
    } catch (error) {
      await all[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #collect({ name: setup, snapshotter }: Setup, counts: readonly number[]): Promise<void> {
    const snapshots = this.client.snapshots(snapshotter);
    for (const kind of ["view", "active"] as const) {
      for (const layers of counts) {
        const key = `${setup.replaceAll(" ", "-").replaceAll(",", "")}-${kind}-${layers}`;
        const parent = this.#image.chainIds[layers - 1] ?? "";
        const mounts = kind === "view"
          ? await snapshots.view(key, parent)
          : await snapshots.prepare(key, parent);
        const name = `${setup}: ${kind} of ${layers} layers`;
        this.lists.push({ name, setup, kind, layers, key, mounts, needsManager: mounts.some(hasModifier) });
      }
    }
  }

  /** Writes what containerd calls fsmeta: the merged tree of layers, whose contents stay in their files. */
  async #merge(programs: string): Promise<void> {
    const top = this.lists.findLast(({ setup, kind, layers }) =>
      setup.startsWith("erofs") && kind === "view" && layers === 3
    );
    const blobs = (top?.mounts ?? []).flatMap(({ type, source }) => type === "erofs" ? [source] : [])
      .reverse();
    for (const count of [2, 3]) {
      const layers = blobs.slice(0, count);
      const target = layers.at(-1)?.replace(/[^/]*$/, "fsmeta.erofs") ?? "";
      await run(`${programs}/mkfs.erofs`, ["--quiet", "--aufs", "--ovlfs-strip=1", target, ...layers]);
    }
  }

  /**
   * Makes another snapshot of the same kind, which no manager has written into.
   *
   * @param list the list.
   * @returns a list of the new snapshot.
   */
  async again(list: SnapshotList): Promise<SnapshotList> {
    const key = `${list.key}-again-${this.#activations++}`;
    const parent = this.#image.chainIds[list.layers - 1] ?? "";
    const snapshots = this.client.snapshots(list.setup.replace(/[ ,].*$/, ""));
    const mounts = list.kind === "view"
      ? await snapshots.view(key, parent)
      : await snapshots.prepare(key, parent);
    return { ...list, key, mounts };
  }

  /**
   * Lets containerd's own manager activate a list and mount all of it, and describes the tree.
   *
   * `temporary` mounts everything, but containerd dies of it if the last entry is a "format/…" or the like. So such a list
   * is activated first, and what is left of it, which has real types only, is activated as temporary.
   *
   * @param list the list.
   * @returns the tree, or why containerd refuses the list.
   */
  async reference({ mounts }: SnapshotList): Promise<Reference> {
    const manager = this.client.mounts;
    const name = `reference-${this.#activations++}`;
    const names: string[] = [];
    const activate = async (suffix: string, entries: readonly Mount[], temporary: boolean) => {
      const activation = await manager.activate(name + suffix, entries, { temporary });
      names.unshift(name + suffix);
      return activation;
    };
    try {
      const needed = mounts.some(hasModifier) ? await activate("", mounts, false) : undefined;
      const { active } = await activate("-all", needed?.system ?? mounts, true);
      const tree = await describeTree(`/proc/${this.daemon.pid}/root${active.at(-1)?.mountPoint}`);
      return { tree, activation: needed };
    } catch (error) {
      if (error instanceof ContainerdError) return { error };
      throw error;
    } finally {
      for (const each of names) await manager.deactivate(each);
    }
  }

  /** Stops containerd. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.client[Symbol.asyncDispose]();
    await this.daemon[Symbol.asyncDispose]();
  }
}

/** The empty file system that blockfile copies for a snapshot without a parent. */
async function makeScratch(path: string): Promise<void> {
  await Deno.writeFile(path, new Uint8Array());
  await Deno.truncate(path, SCRATCH_SIZE);
  await run("/usr/sbin/mkfs.ext4", ["-q", "-O", "^has_journal", path]);
}
