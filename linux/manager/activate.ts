/**
 * Activating a list: all of it or nothing.
 *
 * @module
 */

import { join, joinWithoutSlash } from "../path/path.ts";
import { openMayWait, tryOpenMayWait } from "../path/cached_lookup.ts";
import { isDirectory } from "../path/mount_target.ts";
import type { WaitOptions } from "../path/wait.ts";
import { mountAll } from "../mount/mount.ts";
import { uniqueMountAt } from "../mountinfo/statx_mount.ts";
import type { Mount } from "../spec/mount.ts";
import { parseOptions } from "../spec/options.ts";
import {
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
} from "../syscalls/constants.ts";
import { mkdir, open, rmdir } from "../syscalls/mod.ts";
import { createLocked } from "../temp/locked_directory.ts";
import { type Manager, PREFIX, toActivation, toActiveMount } from "./context.ts";
import { AlreadyExistsError, messageOf } from "./errors.ts";
import type { Making } from "./made.ts";
import { makeDirectory } from "./mkdir.ts";
import { readMkdirs } from "./mkdir_options.ts";
import { makeImage } from "./mkfs.ts";
import { readMkfs } from "./mkfs_options.ts";
import type { ActivationPlan, Entry } from "./plan.ts";
import type { MountRow, Row } from "./record.ts";
import { formatMount } from "./template.ts";
import { inOrder, mountsImage } from "./together.ts";
import type { Activation, ActiveMount } from "./types.ts";
import { removeDirectoryOf, undo } from "./undo.ts";

/** An activation that is asked for. */
export interface Request {
  /** Its name. */
  readonly name: string;
  /** What becomes of its entries. */
  readonly plan: ActivationPlan;
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** Whether everything is mounted, and the caller gets one bind. */
  readonly temporary: boolean;
}

/**
 * Activates a list.
 *
 * @param manager the manager.
 * @param request the list.
 * @param wait the timeout and the signal.
 * @returns the activation.
 * @throws {AlreadyExistsError} if an activation has the name.
 */
export async function activate(manager: Manager, request: Request, wait: WaitOptions): Promise<Activation> {
  const { directory, lock } = createLocked(join(manager.root, PREFIX));
  using _lock = lock;
  const id = await begin(manager, request, directory, wait);
  try {
    return await new Activating(manager, request, id, directory, wait).run();
  } catch (error) {
    await undoFailed(manager, id, request.name, error);
    throw error;
  }
}

async function begin(
  manager: Manager,
  request: Request,
  directory: string,
  { signal }: WaitOptions,
): Promise<number> {
  try {
    const row = newRow(manager, request, directory);
    for (;;) {
      const { id, existing } = await manager.record.begin(row, signal);
      if (id !== undefined) {
        if (existing !== undefined) removeDirectoryOf(existing);
        return id;
      }
      if (existing !== undefined && !await isStale(manager, existing)) throw alreadyExists(existing);
    }
  } catch (error) {
    rmdir(directory);
    throw error;
  }
}

/** Whether a crash has left it half done, and it is gone now. */
async function isStale(manager: Manager, row: Row): Promise<boolean> {
  return row.state !== "active" && await undo(manager, row) !== "busy";
}

function alreadyExists(row: Row): AlreadyExistsError {
  const doing = { activating: "is just being activated", deactivating: "is just being deactivated" };
  const state = row.state === "activating" || row.state === "deactivating"
    ? doing[row.state]
    : "exists already";
  return new AlreadyExistsError(`the activation "${row.name}" ${state}`, { activation: toActivation(row) });
}

function newRow({ boot, namespace }: Manager, { name, plan, labels, temporary }: Request, directory: string) {
  const entries = temporary ? [...plan.active, ...plan.system] : plan.active;
  const mounts = entries.map((entry, position): MountRow => ({
    position,
    handler: entry.handler,
    // The last ones of a temporary activation are mounted together, as the caller would.
    mountPoint: placeOf(directory, Math.min(position, plan.active.length)),
    mount: entry.mount,
    data: {},
    mountId: undefined,
    mountedAt: undefined,
  }));
  return { name, directory, boot, namespace, labels: { ...labels }, mounts };
}

function placeOf(directory: string, position: number): string {
  return join(directory, `${position}`);
}

/** After the rollback of a failed activation its error is thrown; both, if the rollback fails as well. */
async function undoFailed(manager: Manager, id: number, name: string, error: unknown): Promise<void> {
  try {
    const row = await manager.record.find(name);
    if (row?.id === id) await undo(manager, row, { isLocked: true });
  } catch (failure) {
    throw new SuppressedError(
      failure,
      error,
      `${messageOf(error)}; and sync() has to undo it: ${messageOf(failure)}`,
    );
  }
}

/** One activation on its way. */
class Activating {
  readonly #active: ActiveMount[] = [];
  readonly #mounted: MountRow[] = []; // those that are still to be written down

  constructor(
    readonly manager: Manager,
    readonly request: Request,
    readonly id: number,
    readonly directory: string,
    readonly wait: WaitOptions,
  ) {}

  async run(): Promise<Activation> {
    const { record } = this.manager;
    const { name, plan, labels, temporary } = this.request;
    await inOrder(
      [...plan.active.entries()],
      (step) => this.#isImage(step),
      (step) => this.#mountEntry(step),
    );
    const rest: Mount[] = [];
    for (const entry of plan.system) rest.push(await this.#modify(entry));
    const system = temporary ? await this.#mountTogether(rest) : rest;
    if (system.length === 0) system.push(...await this.#bindOfLast());
    this.wait.signal?.throwIfAborted();
    await record.finish(this.id, this.#mounted, system, this.wait.signal);
    return { name, active: this.#active, system, labels: { ...labels } };
  }

  #isImage([, { handler, modifiers }]: [number, Entry]): boolean {
    return modifiers.length === 0 && mountsImage(this.manager, handler);
  }

  async #mountEntry([position, entry]: [number, Entry]): Promise<void> {
    const mount = await this.#modify(entry);
    const mountPoint = placeOf(this.directory, position);
    const { handler: type, modifiers } = entry;
    if (modifiers.length > 0) await this.#planned(position, type, mount, mountPoint);
    const handler = type === undefined ? undefined : this.manager.handlers.get(type);
    const mounted = handler === undefined
      ? await mountAt(mount, mountPoint, this.wait)
      : await handler.mount(mount, mountPoint, this.#active.slice(0, position), this.wait);
    const row = this.#add(position, type, mounted);
    // A handler may need what it has returned to unmount, also after a crash. All else is written down together.
    if (handler === undefined || mountsImage(this.manager, type)) this.#mounted.push(row);
    else await this.manager.record.setMount(this.id, row, this.wait.signal);
  }

  /** Writes down what a modifier has changed: after a crash, a handler has to know what it was given. */
  async #planned(
    position: number,
    handler: string | undefined,
    mount: Mount,
    mountPoint: string,
  ): Promise<void> {
    const row = { position, handler, mountPoint, mount, data: {}, mountId: undefined, mountedAt: undefined };
    await this.manager.record.setMount(this.id, row, this.wait.signal);
  }

  #add(position: number, handler: string | undefined, mounted: ActiveMount): MountRow {
    const { mountPoint, mountedAt, data, ...mount } = mounted;
    const mountId = mountIdOf(mountPoint);
    const row = {
      position,
      handler,
      mountPoint,
      mount,
      data: data ?? {},
      mountId,
      mountedAt: mountedAt ?? new Date(),
    };
    this.#active[position] = toActiveMount(row);
    return row;
  }

  /** Carries the modifiers of an entry out, from left to right. */
  async #modify({ modifiers, mount: given }: Entry): Promise<Mount> {
    let mount = given;
    for (const modifier of modifiers) {
      this.wait.signal?.throwIfAborted();
      if (modifier === "format") mount = formatMount(mount, this.#active);
      else if (modifier === "mkfs") mount = await this.#mkfs(mount);
      else mount = await this.#mkdir(mount);
    }
    return mount;
  }

  async #mkfs(given: Mount): Promise<Mount> {
    const { request, mount } = readMkfs(given);
    await makeImage(mount.source, request, this.#making());
    return mount;
  }

  async #mkdir(given: Mount): Promise<Mount> {
    const { requests, mount } = readMkdirs(given);
    for (const request of requests) await makeDirectory(request, this.#making());
    return mount;
  }

  #making(): Making {
    const { id, manager: { record, roots }, wait } = this;
    const log = {
      add: (made: Parameters<typeof record.addMade>[1]) => record.addMade(id, made, wait.signal),
      remove: (path: string) => record.removeMade(id, path),
    };
    return { roots, wait, log, unique: this.directory.slice(-6) };
  }

  /** Mounts the rest of a temporary activation on one directory. */
  async #mountTogether(mounts: readonly Mount[]): Promise<Mount[]> {
    const first = this.request.plan.active.length;
    if (mounts.length === 0) return [];
    const place = placeOf(this.directory, first);
    await makePlace(mounts[0], place, this.wait);
    await mountAll(mounts, place, this.wait);
    for (const [index, mount] of mounts.entries()) {
      const mountPoint = joinWithoutSlash(place, join("/", mount.target ?? ""));
      const mounted = { ...mount, mountPoint, mountedAt: new Date(), data: {} };
      this.#mounted.push(this.#add(first + index, undefined, mounted));
    }
    return [bindOf(place)];
  }

  /** The caller's part, if a handler has mounted everything. What is no directory is a device, which can't be bound. */
  async #bindOfLast(): Promise<Mount[]> {
    const last = this.#active.at(-1);
    if (last === undefined) return [];
    using found = await openMayWait(last.mountPoint, O_PATH | O_NOFOLLOW, this.wait);
    return isDirectory(found) ? [bindOf(last.mountPoint)] : [];
  }
}

function bindOf(source: string): Mount {
  return { type: "bind", source, options: ["rbind"] };
}

function mountIdOf(mountPoint: string): string | undefined {
  const found = uniqueMountAt(mountPoint, AT_SYMLINK_NOFOLLOW);
  return found && `${found.mountId}`;
}

async function mountAt(mount: Mount, mountPoint: string, wait: WaitOptions): Promise<ActiveMount> {
  await makePlace(mount, mountPoint, wait);
  await mountAll([mount], mountPoint, wait);
  return { ...mount, mountPoint, mountedAt: new Date(), data: {} };
}

/** Makes the mountpoint: a file for the bind of a file. */
async function makePlace(mount: Mount | undefined, mountPoint: string, wait: WaitOptions): Promise<void> {
  if (mount !== undefined && await isFileBind(mount, wait)) {
    open(mountPoint, O_RDONLY | O_CREAT | O_EXCL, 0o600).close();
  } else mkdir(mountPoint, 0o700);
}

async function isFileBind(
  { type, source, target = "/", options = [] }: Mount,
  wait: WaitOptions,
): Promise<boolean> {
  if (target !== "/" || !(type === "bind" || parseOptions(options).bind)) return false;
  using found = await tryOpenMayWait(AT_FDCWD, source, 0, wait);
  return found !== undefined && !isDirectory(found); // mountAll() says which source is missing
}
