/**
 * The handle of mounts.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { ExecutedPlans } from "./execute.ts";
import { removeDirectory } from "./make_target.ts";
import { runInNamespace } from "../namespace/mount.ts";
import { Deadline, type UnmountOptions } from "../unmount/deadline.ts";
import { refuseCovered, unmountOwn } from "../unmount/own.ts";

/**
 * The mounts of one list, which are unmounted together.
 *
 * Unmounting needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { mountAll, type MountHandle } from "@denomount/mount";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   await using root: MountHandle = await mountAll([{ type: "tmpfs", source: "tmpfs" }], target);
 *   console.log(root.mountpoints);
 * }
 * await Deno.remove(target);
 * ```
 */
export interface MountHandle extends AsyncDisposable {
  /** The target as it was given. */
  readonly target: string;
  /** The mountpoints, resolved, in the order mounted. */
  readonly mountpoints: readonly string[];
  /**
   * Unmounts everything, in reverse order, and nothing but its own mounts. A mount that another process has unmounted is
   * no error; if another mount was made on top of one, the error names it and nothing is unmounted. A recursive bind is
   * unmounted with every mount below it. A second call does nothing; after a failure, another call continues where the
   * first stopped.
   *
   * Needs the permission `ffi` and CAP_SYS_ADMIN.
   *
   * @param options how to unmount.
   * @throws {SyscallError} EBUSY if another mount is on top of one; else as {@linkcode unmount} does.
   */
  unmount(options?: Omit<UnmountOptions, "namespace">): Promise<void>;
}

/** Closes the namespace of a handle that was garbage-collected before it was unmounted. */
const namespaces = new FinalizationRegistry<OwnedFd>((namespace) => namespace.close());

/** The attached mounts of a list. */
export class AttachedMounts implements MountHandle {
  /** The target as it was given. */
  readonly target: string;
  readonly #executed: ExecutedPlans;
  readonly #namespace: OwnedFd | undefined;
  #count: number; // of those that are still mounted
  #mountpoints: readonly string[] | undefined;
  #unmounting: Promise<void> | undefined;

  /**
   * A handle of mounts.
   *
   * @param target the target as it was given.
   * @param executed the mounts, in the order mounted, and the directories that were made for them.
   * @param namespace the mount namespace that they are in, if it is another one than this process's own.
   */
  constructor(target: string, executed: ExecutedPlans, namespace?: OwnedFd) {
    this.target = target;
    this.#executed = executed;
    this.#count = executed.attached.length;
    this.#namespace = namespace;
    if (namespace) namespaces.register(this, namespace);
  }

  /** The mountpoints, in the order mounted. */
  get mountpoints(): readonly string[] {
    return this.#mountpoints ??= Object.freeze(this.#executed.attached.map(({ mountpoint }) => mountpoint));
  }

  /** Unmounts everything, in reverse order. */
  async unmount(options: Omit<UnmountOptions, "namespace"> = {}): Promise<void> {
    const before = this.#unmounting;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#unmounting = promise;
    if (before) await before; // two calls at a time would both unmount the topmost mount, and then the one below it
    try {
      if (this.#namespace === undefined) await this.#unmountAll(options);
      else await this.#unmountInNamespace(this.#namespace, options);
    } finally {
      resolve();
    }
  }

  async #unmountInNamespace(namespace: OwnedFd, options: UnmountOptions): Promise<void> {
    if (this.#count > 0) await runInNamespace(namespace, () => this.#unmountAll(options));
    namespace.close();
  }

  async #unmountAll(options: UnmountOptions): Promise<void> {
    const deadline = new Deadline(options);
    const left = this.#executed.attached.slice(0, this.#count);
    if (left.length > 1) await refuseCovered(left, deadline);
    for (; this.#count > 0; this.#count--) {
      const own = this.#executed.attached[this.#count - 1];
      if (own) await unmountOwn(own, deadline.restarted());
    }
  }

  /** Removes the directories that were made for mountpoints, if they are empty. */
  removeDirectories(): void {
    for (const step of this.#executed.undo.toReversed()) {
      if ("directory" in step) removeDirectory(step.directory);
    }
  }

  /** Unmounts everything at the end of an `await using` scope. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}
