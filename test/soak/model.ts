/**
 * Random operations, and a model of the mounts that must exist after each.
 *
 * @module
 */

import {
  createUserNamespace,
  isMountpoint,
  listMounts,
  lookupMount,
  type Mount,
  mountAll,
  MountError,
  type MountHandle,
  unmount,
  unmountAll,
  unmountMounts,
  unmountRecursive,
  withTempMount,
} from "../../mod.ts";
import { isErrno } from "../../ffi/errno.ts";
import { type Feature, hasFeature, pretendMissing } from "../../linux/syscalls/features.ts";
import type { Random } from "./random.ts";

/** A mount that must exist. */
interface Expected {
  target: string;
  fsType: string;
  readonly: boolean;
}

const TARGETS = 8;
const MOST_MOUNTED = 40;
const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];

const olderKernels: readonly Feature[][] = [
  [],
  [],
  [],
  ["detachedLayers"],
  ["overlayDescriptors", "detachedLayers"],
  ["overlayLayers", "overlayDescriptors", "detachedLayers"],
  ["statmount", "pidfdNamespaces"],
];
const oldestKernel: readonly Feature[] = [
  "mountApi",
  "mountSetattr",
  "openat2",
  "overlayLayers",
  "overlayDescriptors",
  "detachedLayers",
  "statmount",
  "pidfdNamespaces",
];

/** The state of one run: directories, an image, and the expected mounts. */
export class World {
  readonly #expected: Expected[] = [];
  readonly #held: { stack: MountHandle; mounts: Mount[]; own: Expected[]; hasUniqueIds: boolean }[] = [];

  constructor(readonly dir: string, readonly image: string | undefined, readonly random: Random) {
    for (const name of ["a", "b", "c", "temporary"]) Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
    for (let index = 0; index < TARGETS; index++) Deno.mkdirSync(this.#path(index), { recursive: true });
    Deno.writeTextFileSync(`${dir}/a/file`, "a");
    Deno.writeTextFileSync(`${dir}/b/file`, "b");
  }

  #path(index: number): string {
    return `${this.dir}/targets/${index}`;
  }

  /** Runs one random operation and returns its name. */
  async step(): Promise<string> {
    const { random } = this;
    const oldest = random.chance(0.1);
    const missing = oldest ? oldestKernel : random.pick(olderKernels);
    using _missing = pretendMissing(...missing);
    const operations: [string, number, () => Promise<void>][] = [
      ["mount a list", this.#expected.length < MOST_MOUNTED ? 8 : 0, () => this.#mountList(!oldest)],
      ["mount a list that fails", 2, () => this.#mountBadList()],
      ["unmount", 3, () => this.#unmount()],
      ["unmountAll", 2, () => this.#unmountAll()],
      ["unmount of a handle", 2, () => this.#unmountStack()],
      ["unmountMounts", 1, () => this.#unmountMounts()],
      ["unmountRecursive", 0.2, () => this.#unmountRecursive()],
      ["withTempMount", 1, () => this.#temporary(!oldest)],
      ["user namespace", 1, () => this.#namespace()],
      ["lookup", 2, () => this.#lookup()],
    ];
    let at = random.next() * operations.reduce((sum, [, weight]) => sum + weight, 0);
    const chosen = operations.find(([, weight]) => (at -= weight) < 0) ?? operations[0];
    if (chosen === undefined) throw new Error("no operation");
    await chosen[2]();
    return missing.length > 0 ? `${chosen[0]} without ${missing.join(", ")}` : chosen[0];
  }

  /** Unmounts everything. */
  async end(): Promise<void> {
    await this.#unmountRecursive();
  }

  /** The difference between expected and actual mounts; undefined if they are equal. */
  async difference(): Promise<string | undefined> {
    const found = (await listMounts()).filter(({ mountpoint }) => mountpoint.startsWith(this.dir + "/")).map((
      m,
    ) => `${m.mountpoint.slice(this.dir.length)} ${m.fsType} ${m.options.split(",")[0]}`).sort();
    const expected = this.#expected.map(({ target, fsType, readonly }) =>
      `${target.slice(this.dir.length)} ${fsType} ${readonly ? "ro" : "rw"}`
    ).sort();
    if (found.join("\n") === expected.join("\n")) return undefined;
    return `mounted:\n${found.join("\n")}\nexpected:\n${expected.join("\n")}`;
  }

  #randomMount(withMaps: boolean): [Mount, Expected] {
    const { random, dir } = this;
    const index = random.below(TARGETS);
    const target = this.#path(index);
    const readonly = random.chance(0.3);
    const options = [...readonly ? ["ro"] : [], ...random.chance(0.3) ? ["nosuid", "nodev"] : []];
    const mapped = withMaps && random.chance(0.3) ? maps : [];
    const inside = `targets/${index}`;
    const kinds: [string, () => Mount][] = [
      [this.#rootType, () => ({
        type: "bind",
        source: `${dir}/${random.pick(["a", "b", "c"])}`,
        options: [random.pick(["bind", "rbind"]), ...options, ...mapped],
      })],
      ["tmpfs", () => ({ type: "tmpfs", source: "soak", options: ["size=1m", ...options, ...mapped] })],
      ["overlay", () => ({
        type: "overlay",
        source: "soak",
        options: [
          `lowerdir=${random.pick(["a:b", "b:c", "c:a:b"]).replace(/\w/g, `${dir}/$&`)}`,
          ...options,
          ...mapped,
        ],
      })],
    ];
    if (this.image !== undefined) {
      const source = this.image;
      kinds.push(["ext4", () => ({ type: "ext4", source, options: ["loop", "ro"] })]);
    }
    const [fsType, make] = random.pick(kinds);
    const mount = make();
    const isReadonly = mount.options?.includes("ro") ?? false;
    return [{ ...mount, target: inside }, { target, fsType, readonly: isReadonly }];
  }

  /** Without the image on a mount of the image: it is the same file system, and mount(2) fails with EBUSY. */
  #randomList(length: number, withMaps: boolean): [Mount, Expected][] {
    const list: [Mount, Expected][] = [];
    while (list.length < length) {
      const [mount, expected] = this.#randomMount(withMaps);
      const below = [...this.#expected, ...list.map(([, made]) => made)];
      const top = below.findLast(({ target }) => target === expected.target);
      if (mount.type !== "ext4" || top?.fsType !== "ext4") list.push([mount, expected]);
    }
    return list;
  }

  #rootType = "";

  /** Looks up the file system type that a bind of a directory has. */
  async begin(): Promise<void> {
    this.#rootType = (await lookupMount(this.dir)).fsType;
  }

  async #mountList(withMaps: boolean): Promise<void> {
    const list = this.#randomList(1 + this.random.below(3), withMaps);
    const mounts = list.map(([mount]) => Object.freeze(mount));
    const stack = await mountAll(mounts, this.dir);
    const own = list.map(([, expected]) => expected);
    this.#held.push({ stack, mounts, own, hasUniqueIds: hasFeature("statmount") });
    this.#expected.push(...own);
  }

  async #mountBadList(): Promise<void> {
    const list = this.#randomList(2, false).map(([mount]) => mount);
    const bad = this.random.pick<Mount>([
      { type: "bind", source: `${this.dir}/none`, target: "targets/0", options: ["bind"] },
      { type: "tmpfs", source: "soak", target: "targets/1", options: ["bogus"] },
      { type: "nosuchfs", source: "soak", target: "targets/2" },
      { type: "tmpfs", source: "soak", target: "targets/none" },
    ]);
    try {
      await mountAll([...list, bad], this.dir);
    } catch (error) {
      if (error instanceof MountError && error.mount === bad) return;
      throw error;
    }
    throw new Error("a bad list was mounted");
  }

  /** Removes the topmost expected mount of a target. */
  #pop(target: string): void {
    const index = this.#expected.findLastIndex((expected) => expected.target === target);
    if (index >= 0) this.#expected.splice(index, 1);
  }

  async #unmount(): Promise<void> {
    const target = this.#path(this.random.below(TARGETS));
    await unmount(target, { detach: this.random.chance(0.2) });
    this.#pop(target);
  }

  async #unmountAll(): Promise<void> {
    const target = this.#path(this.random.below(TARGETS));
    await unmountAll(target);
    for (let index = this.#expected.length; index > 0; index--) this.#pop(target);
  }

  /** A handle unmounts its own mounts, or nothing if a later mount is on top of one. */
  async #unmountStack(): Promise<void> {
    const index = this.random.below(this.#held.length || 1);
    const held = this.#held[index];
    if (held === undefined) return;
    const left = held.own.filter((own) => this.#expected.includes(own));
    // Before Linux 6.8 an id is used again, at once and perhaps for a mount on the same path.
    if (!held.hasUniqueIds && left.length < held.own.length) return void this.#held.splice(index, 1);
    if (left.some((own) => this.#isCovered(own, left))) {
      const error = await held.stack.unmount().then(() => undefined, (error) => error);
      if (isErrno(error, "EBUSY") && error.message.includes("mounted on top of it")) return;
      throw new Error(`the handle of a covered mount: ${error ?? "was unmounted"}`);
    }
    await held.stack.unmount();
    this.#held.splice(index, 1);
    this.#remove((expected) => left.includes(expected));
  }

  #isCovered(own: Expected, left: readonly Expected[]): boolean {
    const later = this.#expected.slice(this.#expected.indexOf(own) + 1);
    return later.some((other) => other.target === own.target && !left.includes(other));
  }

  #remove(isGone: (expected: Expected) => boolean): void {
    const kept = this.#expected.filter((expected) => !isGone(expected));
    this.#expected.splice(0, Infinity, ...kept);
  }

  /** Everything that is stacked on the mountpoints of the list. */
  async #unmountMounts(): Promise<void> {
    const held = this.#held.splice(this.random.below(this.#held.length || 1), 1)[0];
    if (held === undefined) return;
    await unmountMounts(held.mounts, this.dir);
    const targets = held.mounts.map(({ target }) => `${this.dir}/${target}`);
    this.#remove(({ target }) => targets.includes(target));
  }

  async #unmountRecursive(): Promise<void> {
    await unmountRecursive(`${this.dir}/targets`);
    this.#expected.length = 0;
    this.#held.length = 0;
  }

  async #temporary(withMaps: boolean): Promise<void> {
    const [mount] = this.#randomMount(withMaps);
    const { target: _, ...plain } = mount;
    await withTempMount([plain], async (root) => {
      if (!(await isMountpoint(root))) throw new Error(`${root} is not a mountpoint`);
    });
  }

  async #namespace(): Promise<void> {
    using userns = await createUserNamespace("0:100000:65536", "0:200000:65536");
    if (userns.fd < 0) throw new Error("no namespace");
  }

  async #lookup(): Promise<void> {
    const target = this.#path(this.random.below(TARGETS));
    const top = this.#expected.findLast((expected) => expected.target === target);
    const found = await lookupMount(target);
    if ((await isMountpoint(target)) !== (top !== undefined)) {
      throw new Error(`isMountpoint("${target}") is wrong`);
    }
    if (top && found.fsType !== top.fsType) throw new Error(`lookupMount("${target}") says ${found.fsType}`);
  }
}
