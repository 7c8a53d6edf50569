/**
 * The handle of what was mounted.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { UnmountOptions } from "../unmount/deadline.ts";
import { runInNamespace } from "../namespace/mount.ts";
import { unmount } from "../unmount/unmount.ts";
import { unmountTree } from "../unmount/tree.ts";

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
export interface MountHandle extends AsyncDisposable {
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

/** One of the mounts. */
export interface AttachedMount {
  /** Where it is. */
  readonly mountpoint: string;
  /** A recursive bind, which brings mounts of its own. */
  readonly isTree: boolean;
}

/** A handle that nobody has any more, its mounts left to stay or taken off in another way, gives its namespace up. */
const forgotten = new FinalizationRegistry<OwnedFd>((namespace) => namespace.close());

/** Mounts that were made, and how they come off. */
export class AttachedMounts implements MountHandle {
  /** The target as it was given. */
  readonly target: string;
  readonly #made: readonly AttachedMount[];
  readonly #namespace: OwnedFd | undefined;
  #left: number; // how many of them still stand
  #mountpoints: readonly string[] | undefined;
  #unmounting: Promise<void> | undefined;

  /**
   * Takes mounts over.
   *
   * @param target the target as it was given.
   * @param made the mounts, in the order mounted.
   * @param namespace the mount namespace that they are in, where it is another one than this process's own.
   */
  constructor(target: string, made: readonly AttachedMount[], namespace?: OwnedFd) {
    this.target = target;
    this.#made = made;
    this.#left = made.length;
    this.#namespace = namespace;
    if (namespace) forgotten.register(this, namespace);
  }

  /** What was mounted on, in the order mounted. */
  get mountpoints(): readonly string[] {
    return this.#mountpoints ??= Object.freeze(this.#made.map(({ mountpoint }) => mountpoint));
  }

  /** Takes everything off, in reverse order. */
  async unmount(options: Omit<UnmountOptions, "namespace"> = {}): Promise<void> {
    const before = this.#unmounting;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#unmounting = promise;
    if (before) await before; // two calls at a time would both take the topmost off, and then what is below it
    try {
      if (this.#namespace === undefined) await this.#takeOff(options);
      else await this.#takeOffThere(this.#namespace, options);
    } finally {
      resolve();
    }
  }

  async #takeOffThere(namespace: OwnedFd, options: UnmountOptions): Promise<void> {
    if (this.#left > 0) await runInNamespace(namespace, () => this.#takeOff(options));
    namespace.close();
  }

  async #takeOff(options: UnmountOptions): Promise<void> {
    for (let top = this.#made[this.#left - 1]; top !== undefined; top = this.#made[this.#left - 1]) {
      await (top.isTree ? unmountTree(top.mountpoint, options) : unmount(top.mountpoint, options));
      this.#left--;
    }
  }

  /** Takes everything off at the end of an `await using` scope. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}
