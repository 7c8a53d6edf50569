/**
 * Random mounts, moves, renames and unmounts of this library and of other processes below a directory, and a model that
 * knows whose each mount is and what each call must unmount.
 *
 * @module
 */

import {
  mountAll,
  MountError,
  type MountHandle,
  setTempMountLocation,
  unmountMounts,
  unmountRecursive,
  withTempMount,
} from "../../mod.ts";
import { isErrno, mount, MS_MOVE, SyscallError, umount2 } from "../../linux/mod.ts";
import { names, readText } from "../kernel.ts";
import type { Random } from "../soak/random.ts";

/** A row of the mount table, with its ids. */
interface Row {
  id: number;
  parent: number;
  path: string;
  source: string;
}

interface Own {
  id: number;
  isTree: boolean;
}

interface Held {
  handle: MountHandle;
  own: Own[];
  subpaths: string[];
}

const NAMES = ["a", "b", "c"];
const MOST_MOUNTED = 24;
const TREE = 2; // the mounts of the tree that is the source of binds

/** The mounts below a directory. */
export class UnmountModel {
  readonly #held: Held[] = [];
  readonly #top: string; // where everything is mounted
  #tag = 0;

  /**
   * Creates the directories.
   *
   * @param dir the directory.
   * @param random the choices.
   * @param hasFuse whether the helper of bindfs may be run.
   */
  constructor(readonly dir: string, readonly random: Random, readonly hasFuse: boolean) {
    this.#top = `${dir}/top`;
    for (const name of ["source", "temporary"]) Deno.mkdirSync(`${dir}/${name}`);
    this.#makeNames(this.#top);
    for (const name of NAMES) this.#makeNames(`${this.#top}/${name}`);
  }

  /** Mounts the tree that is the source of binds. */
  async begin(): Promise<void> {
    await setTempMountLocation(`${this.dir}/temporary`);
    mount("tree", `${this.dir}/source`, "tmpfs", 0, null);
    this.#makeNames(`${this.dir}/source`);
    mount("tree", `${this.dir}/source/a`, "tmpfs", 0, null);
    this.#makeNames(`${this.dir}/source/a`);
  }

  /** Unmounts everything. */
  async end(): Promise<void> {
    await unmountRecursive(this.#top);
    const left = this.#rows();
    if (left.length > TREE) throw new Error(`left: ${left.map(({ path }) => path)}`);
    await unmountRecursive(`${this.dir}/source`);
    await setTempMountLocation("/tmp");
  }

  /** Makes one random step, and throws if it has unmounted or left what it must not. */
  async step(): Promise<string> {
    const isFull = this.#rows().length > MOST_MOUNTED;
    const steps: [name: string, weight: number, step: () => void | Promise<void>][] = [
      ["mountAll()", isFull ? 0 : 6, () => this.#mountList()],
      ["a list that fails", 2, () => this.#mountBadList()],
      ["a foreign mount", isFull ? 0 : 4, () => this.#mountForeign()],
      ["a foreign unmount", 3, () => this.#unmountForeign()],
      ["mount --move", 2, () => this.#move()],
      ["a rename", 2, () => this.#rename()],
      ["the handle", 8, () => this.#unmountHandle()],
      ["unmountMounts()", 1, () => this.#unmountMounts()],
      ["unmountRecursive()", 0.6, () => this.#unmountRecursive()],
      ["withTempMount()", 1, () => this.#temporary()],
      ["a FUSE helper that fails", this.hasFuse ? 0.04 : 0, () => this.#failingHelper()],
    ];
    let at = this.random.next() * steps.reduce((sum, [, weight]) => sum + weight, 0);
    const chosen = steps.find(([, weight]) => (at -= weight) < 0) ?? steps[0];
    if (chosen === undefined) throw new Error("no step");
    await chosen[2]();
    return chosen[0];
  }

  #rows(): Row[] {
    return (readText("/proc/self/mountinfo") ?? "").split("\n").flatMap((line) => {
      const [id, parent, , , path = "", ...rest] = line.split(" ");
      if (!path.startsWith(this.dir)) return [];
      return [{ id: Number(id), parent: Number(parent), path, source: rest[rest.indexOf("-") + 2] ?? "" }];
    });
  }

  #makeNames(path: string): void {
    for (const name of NAMES) Deno.mkdirSync(`${path}/${name}`, { recursive: true });
  }

  /** A path below the top, of which one component more may exist. */
  #path(): string {
    const depth = this.random.below(4);
    return Array.from({ length: depth }, () => `/${this.random.pick(NAMES)}`).join("");
  }

  #existingPath(): string {
    for (;;) {
      const path = this.#path();
      if (exists(this.#top + path)) return path;
    }
  }

  async #mountList(): Promise<void> {
    const { random } = this;
    const tag = `own${this.#tag++}`;
    const count = 1 + random.below(3);
    const before = new Set(this.#rows().map(({ id }) => id));
    const isTree = count === 1 && random.chance(0.4);
    const subpaths = Array.from({ length: count }, () => this.#existingPath());
    const list = subpaths.map((target, index) =>
      isTree
        ? { type: "bind", source: `${this.dir}/source`, target, options: ["rbind"] }
        : { type: "tmpfs", source: `${tag}.${index}`, target }
    );
    let handle: MountHandle;
    try {
      handle = await mountAll(list, this.#top);
    } catch (error) {
      // A later path of the list may be hidden by an earlier mount.
      if (!(error instanceof MountError) || !error.message.includes("ENOENT")) throw error;
      return this.#expect(before, [], `the rollback of ${subpaths}`);
    }
    for (const path of handle.mountpoints) if (!isTree && exists(path)) this.#makeNames(path);
    const made = this.#rows().filter(({ id }) => !before.has(id));
    const tops = isTree
      ? made.filter(({ parent }) => !made.some(({ id }) => id === parent))
      : list.map(({ source }) => made.find((row) => row.source === source)).filter((row) =>
        row !== undefined
      );
    const own = tops.map(({ id }) => ({ id, isTree }));
    if (own.length !== count) throw new Error(`${count} mounts, but ${own.length} are in the table`);
    this.#held.push({ handle, own, subpaths });
  }

  async #mountBadList(): Promise<void> {
    const before = new Set(this.#rows().map(({ id }) => id));
    const good = [
      { type: "tmpfs", source: "rolled back", target: this.#existingPath() },
      { type: "bind", source: `${this.dir}/source`, target: this.#existingPath(), options: ["rbind"] },
    ];
    try {
      await mountAll([...good, { type: "bind", source: `${this.dir}/none`, options: ["bind"] }], this.#top);
    } catch (error) {
      if (!(error instanceof MountError)) throw error;
      return this.#expect(before, [], "a rollback");
    }
    throw new Error("a bad list was mounted");
  }

  #mountForeign(): void {
    const path = this.#top + this.#existingPath();
    mount(`foreign${this.#tag++}`, path, "tmpfs", 0, null);
    if (this.random.chance(0.8)) this.#makeNames(path);
  }

  #unmountForeign(): void {
    const before = new Map(this.#rows().map((row) => [row.id, row]));
    ignoreErrors(() => umount2(this.#top + this.#existingPath(), 0));
    this.#forget(before);
  }

  #move(): void {
    const [from, to] = [this.#existingPath(), this.#existingPath()];
    ignoreErrors(() => mount(this.#top + from, this.#top + to, null, MS_MOVE, null));
  }

  /** A name that leads nowhere now is used by a later rename. */
  #rename(): void {
    const [from, to] = [this.#path(), this.#path()];
    try {
      Deno.renameSync(this.#top + from, this.#top + to);
    } catch {
      return; // a mountpoint, a directory that is not empty, another file system
    }
    if (this.random.chance(0.7)) this.#makeNames(this.#top + from);
  }

  async #unmountHandle(): Promise<void> {
    const index = this.random.below(this.#held.length || 1);
    const held = this.#held[index];
    if (held === undefined) return;
    const table = new Table(this.#rows());
    const { lost, reason } = table.handleUnmounts(held.own);
    let error: unknown;
    try {
      await held.handle.unmount({ timeout: 0 });
      this.#held.splice(index, 1);
    } catch (caught) {
      error = caught;
    }
    if (reason === undefined && error !== undefined) throw error;
    if (reason !== undefined) checkRefusal(error, reason);
    this.#expect(table.ids, lost, `the handle of ${held.own.map(({ id }) => id)}`);
  }

  async #unmountMounts(): Promise<void> {
    const held = this.#held[this.random.below(this.#held.length || 1)];
    if (held === undefined) return;
    const table = new Table(this.#rows());
    const lost: number[] = [];
    for (const subpath of held.subpaths.toReversed()) {
      // An unmount may bring a path back that was hidden: the directories are known after it only.
      const path = this.#top + subpath;
      lost.push(...table.removeStack(path));
    }
    await unmountMounts(held.subpaths.map((target) => ({ type: "tmpfs", source: "t", target })), this.#top);
    this.#expect(table.ids, lost, `unmountMounts() of ${held.subpaths}`);
  }

  async #unmountRecursive(): Promise<void> {
    const path = this.#top + this.#path();
    const table = new Table(this.#rows());
    const lost = exists(path) ? table.reachableBelow(path) : [];
    await unmountRecursive(path);
    this.#expect(table.ids, lost, `unmountRecursive() of ${path}`);
  }

  async #temporary(): Promise<void> {
    const before = new Set(this.#rows().map(({ id }) => id));
    const tmpfs = { type: "tmpfs", source: "temporary" };
    const rbind = { type: "bind", source: `${this.dir}/source`, options: ["rbind"] };
    const list = this.random.pick([[tmpfs], [rbind], [tmpfs, rbind], [rbind, tmpfs]]);
    await withTempMount(list, (root) => {
      for (let count = this.random.below(4); count > 0; count--) {
        this.#makeNames(root);
        mount("foreign", root + this.random.pick(["", "/a", "/b"]), "tmpfs", 0, null);
      }
    });
    this.#expect(before, [], "withTempMount()");
    const left = names(`${this.dir}/temporary`);
    if (left.length > 0) throw new Error(`withTempMount() left ${left}`);
  }

  async #failingHelper(): Promise<void> {
    const before = new Set(this.#rows().map(({ id }) => id));
    const fuse = { type: "fuse3.bindfs", source: `${this.dir}/none`, target: this.#existingPath() };
    const error = await mountAll([fuse], this.#top).then(() => undefined, (error) => error);
    if (!(error instanceof MountError)) throw error ?? new Error("bindfs mounted nothing");
    this.#expect(before, [], "a FUSE helper that fails");
  }

  /** Compares the table: what is lost must be exactly this, and nothing may be new. */
  #expect(before: ReadonlySet<number>, lost: readonly number[], what: string): void {
    const now = new Set(this.#rows().map(({ id }) => id));
    const gone = [...before].filter((id) => !now.has(id)).sort(byNumber);
    const added = [...now].filter((id) => !before.has(id));
    const expected = [...new Set(lost)].sort(byNumber);
    if (`${gone}` !== `${expected}`) throw new Error(`${what} unmounted [${gone}], not [${expected}]`);
    if (added.length > 0) throw new Error(`${what} left ${added}`);
    this.#removeIds(new Set(gone));
  }

  #forget(before: ReadonlyMap<number, Row>): void {
    const now = new Set(this.#rows().map(({ id }) => id));
    this.#removeIds(new Set([...before.keys()].filter((id) => !now.has(id))));
  }

  /** The kernel uses an id of mountinfo again. */
  #removeIds(gone: ReadonlySet<number>): void {
    for (const held of this.#held) held.own = held.own.filter(({ id }) => !gone.has(id));
  }
}

/** A mount table, from which mounts can be removed to see what is left. */
class Table {
  readonly ids: ReadonlySet<number>;
  readonly #rows: Map<number, Row>;

  constructor(rows: readonly Row[]) {
    this.#rows = new Map(rows.map((row) => [row.id, row]));
    this.ids = new Set(this.#rows.keys());
  }

  #children(id: number): Row[] {
    return [...this.#rows.values()].filter((row) => row.parent === id);
  }

  /** Removes a mount with those below it. */
  #remove(id: number): number[] {
    const removed = this.#children(id).flatMap((child) => this.#remove(child.id));
    this.#rows.delete(id);
    return [...removed, id];
  }

  #hiders(id: number): Row[] {
    const row = this.#rows.get(id);
    if (row === undefined) return [];
    const hiders = this.#children(id).filter(({ path }) => path === row.path);
    for (let at: Row | undefined = row; at; at = this.#rows.get(at.parent)) {
      const { parent, path } = at;
      hiders.push(
        ...[...this.#rows.values()].filter((other) =>
          other.parent === parent && path.startsWith(`${other.path}/`)
        ),
      );
    }
    return hiders;
  }

  /** What a handle unmounts, and why it then fails. */
  handleUnmounts(own: readonly Own[]): { lost: number[]; reason?: "covered" | "busy" } {
    const ids = new Set(own.map(({ id }) => id));
    if (own.some(({ id }) => this.#hiders(id).some((hider) => !ids.has(hider.id)))) {
      return { lost: [], reason: "covered" };
    }
    const lost: number[] = [];
    for (const { id, isTree } of own.toReversed()) {
      if (!this.#rows.has(id)) continue;
      if (this.#hiders(id).length > 0) return { lost, reason: "covered" };
      if (!isTree && this.#children(id).length > 0) return { lost, reason: "busy" };
      lost.push(...this.#remove(id));
    }
    return { lost };
  }

  /** The topmost mount that a path is on, as the kernel walks it. */
  #walk(path: string): Row | undefined {
    let at: Row | undefined;
    const tops = [...this.#rows.values()].filter(({ parent }) => !this.#rows.has(parent));
    const next = (candidates: Row[]) =>
      candidates.filter((row) => path === row.path || path.startsWith(`${row.path}/`))
        .sort((a, b) => a.path.length - b.path.length)[0];
    for (let found = next(tops); found; found = next(this.#children(found.id))) at = found;
    return at;
  }

  /** Removes what is mounted on a path, one after the other, with the mounts below. */
  removeStack(path: string): number[] {
    const removed: number[] = [];
    for (let top = this.#walk(path); top?.path === path; top = this.#walk(path)) {
      removed.push(...this.#remove(top.id));
    }
    return removed;
  }

  /** The mounts at a path and below it that no mount above the path hides. */
  reachableBelow(directory: string): number[] {
    const isWithin = ({ path }: Row) => path === directory || path.startsWith(`${directory}/`);
    return [...this.#rows.values()].filter((row) =>
      isWithin(row) && this.#hiders(row.id).every((hider) => isWithin(hider))
    ).map(({ id }) => id);
  }
}

function checkRefusal(error: unknown, reason: "covered" | "busy"): void {
  if (!(error instanceof SyscallError) || !isErrno(error, "EBUSY")) {
    throw error ?? new Error(`no error, but ${reason}`);
  }
  const namesTop = /, with \S+ \S+ mounted on (top of it|\S+, above it)/.test(error.message);
  if (namesTop !== (reason === "covered")) throw error;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

function ignoreErrors(call: () => void): void {
  try {
    call();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
  }
}

const byNumber = (a: number, b: number) => a - b;
