/**
 * Every word of an option list on every way: it is carried out, which the kernel shows, or refused by name. Nothing else
 * comes of it.
 *
 * @module
 */

import { AT_FDCWD, STATX_BASIC_STATS } from "../../linux/syscalls/constants.ts";
import { pretendMissing } from "../../linux/syscalls/features.ts";
import { mkdir, rmdir, statx } from "../../linux/syscalls/mod.ts";
import { isErrno } from "../../ffi/errno.ts";
import { WORDS, X_MOUNT } from "../../linux/spec/option_table.ts";
import { type Mount, mountAll, MountError, type MountHandle, unmountRecursive } from "../../mod.ts";
import { assert, assertEquals } from "../assert.ts";
import { kernelHas } from "../feature.ts";
import { hasRoot, isEmulated, type KernelContext, kernelTest } from "../harness.ts";
import { names, parseTable, readText, type Row } from "../kernel.ts";
import { MountNamespace } from "../namespace/namespaces.ts";
import { changesMount, longPath, mountOf, obstacle, type Way, ways } from "./ways.ts";
import { type Effect, namePattern, type Word, words } from "./words.ts";

const RESTRICTIONS = ["ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime", "noatime"];
const SUPER_FLAGS = ["dirsync", "lazytime", "mand", "sync"];
const FLAGS = ["ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime"];

/** One mount as the kernel shows it. */
interface Seen {
  flags: string[];
  atime: string;
  mapped: boolean;
  superReadonly: boolean;
  superblock: string[];
  propagation: string;
  fsType: string;
  root: string;
}

/** What is mounted at a target. */
interface Snapshot {
  own: Seen;
  sub?: Seen;
  uid: number;
  gid: number;
  mode: number;
  entries: string[];
  /** The owner of a directory below. */
  inner: number | undefined;
  writable: boolean;
}

function seenOf(row: Row): Seen {
  const { options, optional, fsType, root } = row;
  const superblock = row.superOptions.split(",");
  const has = (field: string) => optional.split(" ").some((word) => word.startsWith(field));
  const propagation = [
    ...has("shared:") ? ["shared"] : [],
    ...has("master:") ? ["slave"] : [],
    ...has("unbindable") ? ["unbindable"] : [],
  ].join("+") || "private";
  return {
    flags: FLAGS.filter((flag) => options.includes(flag)),
    atime: options.find((option) => option === "noatime" || option === "relatime") ?? "strictatime",
    mapped: options.includes("idmapped"),
    superReadonly: superblock.includes("ro"),
    superblock: SUPER_FLAGS.filter((flag) => superblock.includes(flag)),
    propagation,
    fsType,
    root,
  };
}

/** Where the mounts of a way are: this mount namespace, or another process's. */
class Place {
  readonly prefix: string;
  readonly pid: number | "self";
  readonly namespace: { namespace?: number };

  constructor(readonly dir: string, other: MountNamespace | undefined) {
    this.pid = other?.pid ?? "self";
    this.prefix = other ? `/proc/${other.pid}/root` : "";
    this.namespace = other ? { namespace: other.pid } : {};
  }

  rows(): Row[] {
    return parseTable(readText(`/proc/${this.pid}/mountinfo`) ?? "");
  }

  snapshot(target: string): Snapshot {
    const rows = this.rows();
    const own = rows.findLast(({ mountpoint }) => mountpoint === target);
    const sub = rows.findLast(({ mountpoint }) => mountpoint === `${target}/sub`);
    if (own === undefined) throw new Error("nothing is mounted");
    const { uid, gid, mode } = this.#stat(target);
    const entries = names(`${this.prefix}${target}`);
    return {
      own: seenOf(own),
      ...(sub ? { sub: seenOf(sub) } : {}),
      uid,
      gid,
      mode: mode & 0o7777,
      entries,
      inner: entries.includes("d") ? this.#stat(`${target}/d`).uid : undefined,
      writable: this.#isWritable(target),
    };
  }

  #stat(path: string) {
    return statx(AT_FDCWD, `${this.prefix}${path}`, 0, STATX_BASIC_STATS);
  }

  #isWritable(target: string): boolean {
    try {
      mkdir(`${this.prefix}${target}/probe`, 0o755);
      rmdir(`${this.prefix}${target}/probe`);
      return true;
    } catch (error) {
      if (isErrno(error, "EROFS")) return false;
      if (isErrno(error, "EOVERFLOW", "EACCES")) return true; // the mount's map has no id for this process
      throw error;
    }
  }

  mountAll(mounts: Mount[], target: string): Promise<MountHandle> {
    return mountAll(mounts, target, this.namespace);
  }
}

/** What a word makes of a mount that was mounted without it. */
function expected(way: Way, { option, effect }: Word, before: Snapshot): Snapshot {
  const { subdir, mapped } = effect;
  const own = changed(way, effect, before.own, true);
  const root = effect.root ?? {};
  const isBind = way.kind === "bind";
  const isTopMapped = mapped && (way.kind !== "overlay" || way.namespace);
  const ids = isTopMapped ? { uid: before.uid + 100000, gid: before.gid + 100000 } : {};
  const after: Snapshot = {
    ...before,
    entries: subdir ? ["in-d"] : before.entries,
    own: {
      ...own,
      ...(subdir ? { root: own.root === "/" ? "/d" : `${own.root}/d` } : {}),
      mapped: mapped !== undefined && way.kind !== "overlay",
    },
    ...ids,
    uid: root.uid ?? ids.uid ?? before.uid,
    gid: root.gid ?? ids.gid ?? before.gid,
    mode: effect.is === undefined ? root.mode ?? before.mode : before.mode,
    inner: subdir ? undefined : before.inner === undefined || !mapped ? before.inner : before.inner + 100000,
    writable: !own.flags.includes("ro") && !own.superReadonly && !(way.kind === "overlay" && way.namespace),
  };
  delete after.sub;
  if (before.sub && !subdir) {
    const isPeer = way.kind === "bind" && effect.propagation === "shared";
    const sub = effect.tree || isPeer
      ? changed(way, { ...effect, superblock: [] }, before.sub, false)
      : before.sub;
    after.sub = { ...sub, mapped: mapped === "tree" };
  }
  assert(option !== undefined && (isBind || !before.sub || changesMount(way)));
  return after;
}

function changed(way: Way, effect: Effect, before: Seen, isOwn: boolean): Seen {
  const isNewBind = way.kind === "bind";
  let { flags, atime, superReadonly, superblock, propagation } = before;
  for (const change of effect.attributes ?? []) {
    const name = change.slice(1);
    if (change.startsWith("=")) atime = name;
    else if (change.startsWith("+")) flags = FLAGS.filter((flag) => flag === name || flags.includes(flag));
    // A bind grants nothing that its source withholds; nodiratime withholds nothing.
    else if (!isNewBind || name === "nodiratime") flags = flags.filter((flag) => flag !== name);
  }
  // A superblock belongs to a new file system, and to a remount without "bind".
  if (["tmpfs", "ext4", "overlay", "fuse", "remount"].includes(way.kind)) {
    for (const change of effect.superblock ?? []) {
      const name = change.slice(1);
      if (name === "ro") superReadonly = change.startsWith("+");
      else superblock = [...superblock, name].sort();
    }
  }
  // The kernel makes an overlay without an upper layer read-only.
  if (way.kind === "overlay" && way.namespace) superReadonly = true;
  // A bind is born a slave of its source, with its tree, unless the list says "shared" or "rshared".
  if (isNewBind && effect.propagation === "shared") return { ...before, flags, atime, propagation: "shared" };
  if (effect.propagation) propagation = propagationAfter(effect.propagation, before.propagation);
  return {
    ...before,
    flags,
    atime,
    superReadonly,
    superblock,
    propagation: isOwn || effect.tree ? propagation : before.propagation,
  };
}

/** mount_namespaces(7): a shared mount with peers becomes their slave, a slave that is shared stays one, … */
function propagationAfter(word: string, before: string): string {
  const hasMaster = before.includes("slave") || before === "shared";
  if (word === "shared") return before.includes("slave") ? "shared+slave" : "shared";
  if (word === "slave") return hasMaster ? "slave" : before;
  return word;
}

/** What is compared: the mount's own words, without what no word speaks about. */
function comparable(way: Way, { effect }: Word, snapshot: Snapshot): unknown {
  const { own } = snapshot;
  // A word about the tree says nothing about the superblock.
  const isFree = effect.tree && effect.superblock;
  return { ...snapshot, own: isFree ? { ...own, superReadonly: "any" } : own, kind: way.kind };
}

const counts = { done: 0, refused: 0 };

/** One word on one way, from one beginning. */
class Cell {
  constructor(
    readonly bench: Bench,
    readonly word: Word,
    readonly start: string,
  ) {}

  /** What is wrong; undefined if the word is done or refused. */
  async outcome(): Promise<string | undefined> {
    const { bench, word } = this;
    const before = await bench.baseline(this.start, word);
    const refusal = obstacle(bench.way, word, this.start);
    const isHeld = refusal !== undefined && changesMount(bench.way) && bench.way.namespace;
    const held = isHeld ? await bench.held(this.start) : undefined;
    const rowsBefore = bench.place.rows().length;
    let message: string | undefined;
    let problem: string | undefined;
    await bench.withStart(
      this.start,
      word,
      held,
      async (target, mount) => {
        using _ = pretendMissing(...bench.way.missing);
        try {
          const list = [{ ...mount, options: [...mount.options ?? [], word.option] }];
          const handle = await bench.place.mountAll(list, target);
          try {
            if (refusal === undefined) problem = this.compare(bench.seen(word, target), before);
            else problem = `is neither done nor refused, though ${refusal}`;
          } finally {
            await handle.unmount();
          }
        } catch (error) {
          if (!(error instanceof MountError)) throw error;
          message = error.message;
        }
        if (message !== undefined && changesMount(bench.way)) {
          assertEquals(bench.place.snapshot(target), before, `"${word.option}" is refused, and half done`);
        }
      },
    );
    assertEquals(bench.place.rows().length, rowsBefore, `${word.option}: mounts are left or gone`);
    if (message === undefined) {
      if (problem === undefined) counts.done++;
      return problem;
    }
    if (refusal === undefined) return `is refused: ${message}`;
    if (!namePattern(word).test(message)) return `is refused, but not by name: ${message}`;
    counts.refused++;
    return undefined;
  }

  compare(after: Snapshot, before: Snapshot): string | undefined {
    const { bench: { way }, word } = this;
    if (word.effect.is === "bind" && ["tmpfs", "fuse", "propagation"].includes(way.kind)) {
      const isBind = after.own.fsType === "tmpfs" && after.own.root === "/" &&
        after.entries.includes("of-source");
      return isBind && (!word.effect.tree || after.sub) ? undefined : `is no bind: ${JSON.stringify(after)}`;
    }
    if (word.option === "rbind" && way.kind === "bind") return after.sub ? undefined : "is not recursive";
    const want = expected(way, word, before);
    try {
      assertEquals(comparable(way, word, after), comparable(way, word, want));
      return undefined;
    } catch {
      return `shows ${difference(want, after)}`;
    }
  }
}

function difference(want: Snapshot, got: Snapshot): string {
  const flat = (value: unknown, path = ""): string[] =>
    typeof value !== "object" || value === null || Array.isArray(value)
      ? [`${path}=${value}`]
      : Object.entries(value).flatMap(([key, inner]) => flat(inner, `${path}.${key}`));
  const [a, b] = [flat(want), flat(got)];
  return `${b.filter((line) => !a.includes(line))} instead of ${a.filter((line) => !b.includes(line))}`;
}

/** A tmpfs with another tmpfs below. */
function tree(start: string, target: string): Mount[] {
  return [
    { type: "tmpfs", source: "own", target, options: ["mode=755"] },
    { type: "tmpfs", source: "sub", target: `${target}/sub`, options: ["mode=755,X-mount.mkdir"] },
    ...start === "restricted" ? restrict(target) : [],
  ];
}

function restrict(target: string): Mount[] {
  const options = ["remount", ...RESTRICTIONS];
  return [`${target}/sub`, target].map((target) => ({ type: "none", source: "", target, options }));
}

/** The directories of a way, and the mounts that its cells begin with. */
class Bench {
  readonly place: Place;
  readonly #made = new AsyncDisposableStack();
  readonly #held = new Map<string, Promise<string>>();
  readonly #baselines = new Map<string, Snapshot>();

  constructor(readonly way: Way, readonly t: KernelContext, other: MountNamespace | undefined) {
    this.place = new Place(t.dir, other);
  }

  get starts(): string[] {
    const hasRestricted = !isEmulated && (this.way.kind === "bind" || changesMount(this.way));
    return hasRestricted ? ["plain", "restricted"] : ["plain"];
  }

  async setUp(): Promise<AsyncDisposable> {
    const { t, way } = this;
    const made = this.#made;
    t.make("target", "plain", "restricted", "shared", "lower1/d/in-d", "lower2", "upper", "work");
    Deno.mkdirSync(longPath(t.dir), { recursive: true });
    for (
      const source of way.kind === "bind" || way.kind === "propagation" ? ["plain", "restricted"] : ["plain"]
    ) {
      made.use(await this.#source(`${t.dir}/${source}`, source));
    }
    made.use(await this.#source(longPath(t.dir), "plain"));
    if (way.kind === "ext4") {
      t.make("root/d/in-d");
      const args = ["-q", "-O", "^has_journal", "-d", `${t.dir}/root`, `${t.dir}/pristine`, "1M"];
      const { code, stderr } = await new Deno.Command("mkfs.ext4", { args }).output();
      assertEquals(code, 0, new TextDecoder().decode(stderr));
    }
    return made;
  }

  /** A tree that is bound, with directories in it. */
  async #source(path: string, start: string): Promise<MountHandle> {
    const handle = await mountAll(tree("plain", "/"), path);
    for (const name of ["d/in-d", "of-source"]) Deno.mkdirSync(`${path}/${name}`, { recursive: true });
    if (start === "restricted") await mountAll(restrict("/"), path);
    return handle;
  }

  /** A tree that stays for all words that are refused, and so leave it as it is. */
  held(start: string): Promise<string> {
    const known = this.#held.get(start);
    if (known) return known;
    const target = this.t.make(`held-${start}`);
    const made = this.place.mountAll(tree(start, "/"), target).then((handle) => {
      this.#made.use(handle);
      return target;
    });
    this.#held.set(start, made);
    return made;
  }

  /** Whether a word can be tested in one list with others. */
  isBatched(word: Word, start: string): boolean {
    const { is, root, propagation } = word.effect;
    return this.way.namespace === true && obstacle(this.way, word, start) === undefined && is === undefined &&
      root === undefined && !(propagation && this.way.kind === "bind");
  }

  /** Mounts many words at once, because to enter a namespace takes longer than to mount. */
  async batch(start: string, words: readonly Word[]): Promise<string[]> {
    const { t, way, place } = this;
    const before = await this.baseline(start, words[0] as Word);
    const list = words.flatMap((word, index): Mount[] => {
      const target = `/b${index}`;
      t.make(`target${target}`);
      const mount = mountOf(way, t.dir, `${t.dir}/${start}`);
      const tested = { ...mount, target, options: [...mount.options ?? [], word.option] };
      return [...changesMount(way) ? tree(start, target) : [], tested];
    });
    using _ = pretendMissing(...way.missing);
    await using _handle = await place.mountAll(list, `${t.dir}/target`);
    return words.flatMap((word, index) => {
      const problem = new Cell(this, word, start).compare(
        place.snapshot(`${t.dir}/target/b${index}`),
        before,
      );
      if (problem === undefined) counts.done++;
      return problem === undefined ? [] : [`${way.name} ${start}: "${word.option}" ${problem}`];
    });
  }

  async baseline(start: string, word: Word): Promise<Snapshot> {
    const isShared = word.effect.propagation !== undefined && this.way.kind === "bind";
    const key = `${start} ${isShared}`;
    const known = this.#baselines.get(key);
    if (known) return known;
    const plain = { option: "", effect: isShared ? { propagation: word.effect.propagation } : {} } as Word;
    let seen: Snapshot | undefined;
    await this.withStart(start, plain, undefined, async (target, mount) => {
      using _ = pretendMissing(...this.way.missing);
      const handle = await this.place.mountAll([mount], target);
      seen = this.place.snapshot(target);
      await handle.unmount();
    });
    if (seen === undefined) throw new Error("no baseline");
    if (start === "restricted") assertEquals(seen.own.flags, FLAGS);
    this.#baselines.set(key, seen);
    return seen;
  }

  seen(word: Word, target: string): Snapshot {
    if (word.effect.is === "mkdir" && !changesMount(this.way)) {
      const mountpoint = Deno.lstatSync(`${this.t.dir}/target/new`); // the directory above the mount
      assertEquals((mountpoint.mode ?? 0) & 0o7777, word.effect.root?.mode);
    }
    return this.place.snapshot(
      word.effect.is === "mkdir" && !changesMount(this.way) ? `${target}/new/made` : target,
    );
  }

  /** Calls a function with the target and the mount, after what a change changes is mounted. */
  async withStart(
    start: string,
    word: Word,
    held: string | undefined,
    fn: (target: string, mount: Mount) => Promise<void>,
  ): Promise<void> {
    const { way, t, place } = this;
    const target = held ?? `${t.dir}/target`;
    await using stack = new AsyncDisposableStack();
    let source = `${t.dir}/${start}`;
    if (way.kind === "bind" && word.effect.propagation) {
      source = `${t.dir}/shared`;
      await this.#source(source, start);
      stack.defer(() => unmountRecursive(source));
      await mountAll([{ type: "none", source: "", options: ["rshared"] }], source);
    }
    if (way.kind === "ext4") Deno.copyFileSync(`${t.dir}/pristine`, `${t.dir}/image`);
    const base = mountOf(way, t.dir, source);
    const mount = word.effect.is === "mkdir" && !changesMount(way) ? { ...base, target: "/new/made" } : base;
    if (changesMount(way)) {
      if (!held) stack.use(await place.mountAll(tree(start, "/"), target));
    } else if (word.effect.is === "remount") {
      const handle = await place.mountAll([base], target);
      stack.defer(() => handle.unmount());
    }
    try {
      await fn(target, mount);
    } finally {
      this.#reset(source);
    }
  }

  /** Undoes what a word has done to the directories themselves. */
  #reset(source: string): void {
    const { dir } = this.t;
    for (const path of [source, `${dir}/upper`]) {
      const { uid, gid, mode } = Deno.statSync(path);
      if (uid !== 0 || gid !== 0) Deno.chownSync(path, 0, 0);
      if (((mode ?? 0) & 0o7777) !== 0o755) Deno.chmodSync(path, 0o755);
    }
    for (const made of ["target/new/made", "target/new"]) {
      try {
        Deno.removeSync(`${dir}/${made}`);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  }
}

Deno.test("the table has every word of the option table", () => {
  const tested = new Set(words.map(({ option }) => option));
  for (const word of WORDS.keys()) assert(tested.has(word), `"${word}" is not tested`);
  const keys = words.map(({ option }) => option.split("=")[0]);
  for (const name of Object.keys(X_MOUNT)) {
    assert(keys.includes(`X-mount.${name}`), `X-mount.${name} is not tested`);
  }
  assertEquals(tested.size, words.length);
});

function isTested(way: Way, word: Word): boolean {
  if ((word.root && !hasRoot) || word.except === way.kind) return false;
  return !word.effect.mapped || kernelHas("mappedTmpfs") || obstacle(way, word, "plain") !== undefined;
}

// In the emulated machines each word is tested on each way once: not from a restricted mount, and not a second time in a
// user namespace, whose own mounts have no locked attributes. A helper or a file system's program takes seconds there, so
// that their fallbacks are tested on the kernels that need them.
function isWayTested({ kind, missing }: Way): boolean {
  if (!isEmulated) return true;
  const startsPrograms = kind === "fuse" || kind === "ext4";
  return hasRoot && !(startsPrograms && missing.includes("mountSetattr") && kernelHas("mountSetattr"));
}

for (const way of ways.filter(isWayTested)) {
  kernelTest(`a word is carried out or refused by name: ${way.name}`, {
    ...way.needs,
    privateDirectory: way.name.startsWith("propagation"), // a new mount is private, and a change of it shows
  }, async (t) => {
    await using other = way.namespace ? await MountNamespace.start() : undefined;
    const bench = new Bench(way, t, other);
    await using _made = await bench.setUp();
    const wrong: string[] = [];
    const tested = words.filter((word) => isTested(way, word));
    for (const start of bench.starts) {
      const batched = tested.filter((word) => bench.isBatched(word, start));
      if (batched.length > 0) wrong.push(...await bench.batch(start, batched));
      for (const word of tested.filter((word) => !batched.includes(word))) {
        const problem = await new Cell(bench, word, start).outcome();
        if (problem !== undefined) wrong.push(`${way.name} ${start}: "${word.option}" ${problem}`);
      }
    }
    assertEquals(wrong, [], wrong.join("\n"));
  });
}

Deno.test("the number of cells", () => {
  console.log(`${counts.done + counts.refused} cells: ${counts.done} done, ${counts.refused} refused`);
});
