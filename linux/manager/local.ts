/**
 * The mount manager of this machine.
 *
 * @module
 */

import { quote } from "../../ffi/text.ts";
import { ensureAnswers } from "../path/cached_lookup.ts";
import { canonicalizePath, join } from "../path/path.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import type { Mount } from "../spec/mount.ts";
import { planMounts } from "../spec/plan.ts";
import { activate } from "./activate.ts";
import { bootId, type Manager, mountNamespace, toActivation } from "./context.ts";
import { erofsHandler } from "./erofs_handler.ts";
import { NotFoundError } from "./errors.ts";
import { loopHandler } from "./loop_handler.ts";
import { type ActivationPlan, planActivation } from "./plan.ts";
import { ActivationRecord } from "./record.ts";
import { makeRootDirectory, refuseRootPath } from "./root_directory.ts";
import { sync, type SyncResult } from "./sync.ts";
import type {
  ActivateOptions,
  Activation,
  ActivationChange,
  ListOptions,
  MountHandler,
  MountManager,
} from "./types.ts";
import type { UnmountOptions } from "../unmount/deadline.ts";
import { deactivate } from "./undo.ts";

/** Where a manager keeps its mounts and its record. */
export interface ManagerOptions extends WaitOptions {
  /** The directory of the mountpoints, which is made if it does not exist; an absolute path. */
  root: string;
  /** The file of the record; `activations.db` in the root directory if left out. */
  database?: string;
  /** Handlers of more types; `loop` and `erofs` are built in. */
  handlers?: Readonly<Record<string, MountHandler>>;
  /** Directories, apart from the root, in which the modifiers `mkfs` and `mkdir` may make files. */
  allowedRoots?: readonly string[];
}

/**
 * Activates lists of mounts that the kernel doesn't take as they stand: with templates, images that are still to be made,
 * and types with handlers. Each activation has a name and is recorded before it is made, so that it outlives the process,
 * and nothing is left behind by a crash.
 *
 * Needs the permissions `ffi`, `read` and `write` for the root directory, and `run` for mkfs; CAP_SYS_ADMIN; Linux 5.10.
 *
 * @example
 * ```ts
 * import { mountAll } from "@denomount/mount";
 * import { LocalMountManager } from "@denomount/mount/manager";
 *
 * const root = await Deno.makeTempDir();
 * const target = await Deno.makeTempDir();
 * {
 *   await using manager = await LocalMountManager.open({ root });
 *   const { system } = await manager.activate("example", [
 *     { type: "tmpfs", source: "tmpfs" },
 *     {
 *       type: "format/mkdir/overlay",
 *       source: "overlay",
 *       options: [
 *         "X-containerd.mkdir.path={{ mount 0 }}/upper",
 *         "X-containerd.mkdir.path={{ mount 0 }}/work",
 *         "lowerdir=/usr",
 *         "upperdir={{ mount 0 }}/upper",
 *         "workdir={{ mount 0 }}/work",
 *       ],
 *     },
 *   ]);
 *   {
 *     await using _mounts = await mountAll(system, target);
 *     await Deno.writeTextFile(`${target}/new`, "in the upper directory");
 *   }
 *   await manager.deactivate("example");
 * }
 * await Deno.remove(root, { recursive: true });
 * await Deno.remove(target);
 * ```
 */
export class LocalMountManager implements MountManager, AsyncDisposable {
  readonly #manager: Manager;
  readonly #running = new Set<Promise<unknown>>();
  #isOpen = true;

  private constructor(manager: Manager) {
    this.#manager = manager;
  }

  /**
   * Opens a manager. Several, also of several processes, may use one root directory and record.
   *
   * @param options where it keeps its mounts and its record.
   * @returns the manager. Closing it leaves its activations as they are.
   * @throws {RecordError} if the record is damaged, of a newer version, or can't be written.
   * @throws {TypeError} for a root directory that other users can write to, or whose path an overlay's options can't hold.
   *
   * @example
   * ```ts
   * import { LocalMountManager } from "@denomount/mount/manager";
   *
   * const root = await Deno.makeTempDir();
   * {
   *   await using manager = await LocalMountManager.open({ root });
   *   console.log(await manager.sync()); // { removed: [], lost: [] }
   * }
   * await Deno.remove(root, { recursive: true });
   * ```
   */
  static async open(options: ManagerOptions): Promise<LocalMountManager> {
    const { root, database, handlers = {}, allowedRoots = [], timeout, signal } = options;
    const wait = { timeout, signal };
    checkWait(wait);
    refuseHandlers(handlers);
    for (const path of [root, ...allowedRoots]) refuseRootPath(path, "the manager");
    const canonical = await makeRootDirectory(root, "the manager", wait);
    const roots = [canonical];
    for (const path of allowedRoots) roots.push(await canonicalizePath(path, wait));
    const file = database ?? join(canonical, "activations.db");
    await ensureAnswers(file, wait);
    const record = await ActivationRecord.open(file, signal);
    return new LocalMountManager({
      root: canonical,
      roots,
      handlers: new Map(Object.entries({ loop: loopHandler, erofs: erofsHandler, ...handlers })),
      record,
      boot: bootId(),
      namespace: mountNamespace(),
    });
  }

  /**
   * Prepares a list: all of it or nothing. What a later entry names, or a handler makes, is mounted under the root
   * directory; the rest is for the caller.
   *
   * @param name the name of the activation.
   * @param mounts the list; it is not changed. One that needs no manager is taken too: `system` is the list then.
   * @param options labels, and what the caller mounts itself.
   * @returns what was mounted, and the list that the caller mounts.
   * @throws {AlreadyExistsError} if an activation has the name.
   * @throws {TypeError} for a template, a modifier or an option that is wrong, before anything is mounted.
   * @throws {MountError} if a mount fails. Nothing is mounted then, and what was made for it is removed.
   * @throws the signal's reason, if it is aborted. Nothing is mounted then.
   */
  async activate(name: string, mounts: readonly Mount[], options: ActivateOptions = {}): Promise<Activation> {
    const { temporary = false, labels = {}, allowMountTypes = [], timeout, signal } = options;
    const wait = { timeout, signal };
    checkWait(wait);
    refuseName(name);
    refuseLabels(labels);
    if (temporary && allowMountTypes.length > 0) {
      throw new TypeError("a temporary activation mounts everything: it can't leave types to the caller");
    }
    const plan = planActivation(mounts, new Set(this.#manager.handlers.keys()), allowMountTypes);
    refuseBadMounts(plan, this.#manager.root);
    return await this.#run(() => activate(this.#manager, { name, plan, labels, temporary }, wait));
  }

  /**
   * Unmounts what an activation has mounted, the last first, and removes it. The images and directories that its modifiers
   * have made stay: they hold the data. If a mount is busy, those before it stay, apart from images of the type `erofs` beside
   * it, and another call goes on.
   *
   * @param name its name.
   * @param options how to unmount.
   * @throws {NotFoundError} if no activation has the name.
   * @throws {SyscallError} EBUSY if a mount is busy.
   */
  async deactivate(name: string, options: Omit<UnmountOptions, "namespace"> = {}): Promise<void> {
    checkWait(options);
    await this.#run(async () => deactivate(this.#manager, await this.#find(name), options));
  }

  /**
   * Looks up an activation.
   *
   * @param name its name.
   * @returns the activation.
   * @throws {NotFoundError} if no activation has the name.
   */
  async info(name: string): Promise<Activation> {
    return toActivation(await this.#run(() => this.#find(name)));
  }

  /**
   * Lists the activations. Those that are just being made are left out.
   *
   * @param options the labels that an activation must have; all activations if left out.
   * @returns the activations, by name.
   */
  async *list({ labels = {} }: ListOptions = {}): AsyncGenerator<Activation> {
    refuseLabels(labels);
    for (const row of await this.#run(() => this.#manager.record.all())) {
      if (row.state === "activating") continue;
      if (Object.entries(labels).every(([key, value]) => row.labels[key] === value)) yield toActivation(row);
    }
  }

  /**
   * Changes the labels of an activation.
   *
   * @param name its name.
   * @param change all of its labels from now on.
   * @returns the activation.
   * @throws {NotFoundError} if no activation has the name.
   */
  async update(name: string, { labels }: ActivationChange): Promise<Activation> {
    refuseLabels(labels);
    return await this.#run(async () => {
      await this.#manager.record.setLabels(name, labels);
      return toActivation(await this.#find(name));
    });
  }

  /**
   * Makes the record and the kernel agree after a crash or a reboot: undoes what was half made, completes what was half
   * unmounted, and finds the activations whose mounts are gone. What another process is working on is left alone.
   *
   * @returns the names of the activations that were removed, and of those that are lost: each of these can be activated
   * again, with the data in its images.
   * @throws {AggregateError} with an error for each activation that could not be put right.
   */
  async sync(): Promise<SyncResult> {
    return await this.#run(() => sync(this.#manager));
  }

  async #find(name: string) {
    const row = await this.#manager.record.find(name);
    if (row === undefined || row.state === "activating") {
      throw new NotFoundError(`no activation is called ${quote(name)}`);
    }
    return row;
  }

  async #run<T>(work: () => Promise<T>): Promise<T> {
    if (!this.#isOpen) throw new TypeError("the manager is closed");
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  /** Waits for its calls and closes the record. The activations stay as they are. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await Promise.allSettled(this.#running);
    this.#manager.record[Symbol.dispose]();
  }
}

function refuseName(name: string): void {
  if (typeof name !== "string" || name === "" || name.includes("\0") || !name.isWellFormed()) {
    throw new TypeError("the name of an activation is a text of at least one character, without NUL");
  }
}

function refuseLabels(labels: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(labels)) {
    if (key === "" || typeof value !== "string") {
      throw new TypeError(`the label ${quote(key)} has no text as its value`);
    }
  }
}

function refuseHandlers(handlers: Readonly<Record<string, MountHandler>>): void {
  for (const type of Object.keys(handlers)) {
    if (/^(|format|mkfs|mkdir|bind|none)$/.test(type)) {
      throw new TypeError(`a handler can't have the type ${quote(type)}`);
    }
  }
}

/** Refuses what mountAll() will refuse, before anything is mounted. Templates are only known later. */
function refuseBadMounts({ active }: ActivationPlan, root: string): void {
  const plain = active.filter(({ handler, modifiers }) =>
    handler === undefined && !modifiers.includes("format")
  );
  for (const { mount } of plain) {
    const options = mount.options?.filter((option) => !option.startsWith("X-containerd."));
    planMounts([{ ...mount, ...options ? { options } : {} }], root);
  }
}
