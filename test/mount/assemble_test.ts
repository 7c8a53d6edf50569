/**
 * A list whose mounts are inside of one another is assembled detached and attached by one call (Linux 6.15): no process sees
 * a part of it, and the result is what attaching them one by one gives.
 *
 * @module
 */

import { type Mount, mountAll, MountError, type MountOptions, watchMounts } from "../../mod.ts";
import {
  MNT_DETACH,
  mount as mountSyscall,
  MS_BIND,
  MS_PRIVATE,
  MS_REC,
  MS_SHARED,
  MS_SLAVE,
  pretendMissing,
  umount2,
} from "../../linux/mod.ts";
import type { AttachedMounts } from "../../linux/mount/handle.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { names, readText } from "../kernel.ts";
import { TextLineStream } from "../kernels/lines.ts";
import { MountNamespace } from "../namespace/namespaces.ts";

const needs: Needs = { privateDirectory: true, features: ["detachedTargets"] };
const elsewhere: Needs = {
  ...needs,
  root: true,
  tools: ["unshare", "nsenter", "umount"],
  permissions: { run: true },
};

const made = "X-mount.mkdir";
const tmpfs = (source: string, target = "/", ...options: string[]): Mount => ({
  type: "tmpfs",
  source,
  target,
  options,
});

const LISTS = 60; // for each propagation of the parent
const SEED = 15;

/** Random numbers that are the same in every run: mulberry32. */
function random(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let value = Math.imul(seed ^ (seed >>> 15), seed | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) % below;
  };
}

/** How the mount that has the target propagates. */
const parents = ["private", "shared", "slave"] as const;

/**
 * A file system with a target, sources, and links between them; beside it a peer of the same, if it is shared.
 *
 * @returns the directory of the target.
 */
function makeWorld({ dir }: KernelContext, parent: typeof parents[number]): string {
  const world = `${dir}/base/world`;
  mountSyscall("world", world, "tmpfs", 0, null);
  for (
    const path of [
      "t/a/b",
      "t/b",
      "s/x/y",
      "s/a/b",
      "s/b/n",
      "low",
      "two/a/b",
      "two/b/n",
      "peer",
      "up",
      "work",
    ]
  ) {
    Deno.mkdirSync(`${world}/${path}`, { recursive: true });
  }
  for (const root of [`${world}/t`, `${world}/s`, `${world}/two`]) {
    Deno.writeTextFileSync(`${root}/file`, "");
    for (
      const [name, link] of [["link", "a"], ["abs", "/b"], ["up", ".."], ["self", "."], ["a/out", "../b"]]
    ) {
      Deno.symlinkSync(link ?? "", `${root}/${name}`);
    }
  }
  Deno.symlinkSync("s", `${world}/to-s`);
  Deno.symlinkSync(`${world}/t/a`, `${world}/to-a`);
  mountSyscall("below", `${world}/s/x`, "tmpfs", 0, null);
  Deno.mkdirSync(`${world}/s/x/z`);
  if (parent === "private") mountSyscall(null, world, null, MS_PRIVATE | MS_REC, null);
  mountSyscall(world, `${world}/peer`, null, MS_BIND, null);
  if (parent === "slave") mountSyscall(null, world, null, MS_SLAVE, null);
  return `${world}/t`;
}

const pick = <T>(next: (below: number) => number, values: readonly T[]): T =>
  values[next(values.length)] as T;

const TARGETS =
  "/ /a /a/b /b /link /link/b /abs /abs/n /new /a/new/deep /file /self /a/out /a/out/n /up/c /b/n /none/x"
    .split(" ");
const SOURCES = "s s s/x s/a s/b s/file to-s/b to-a t t/a t/a/b t/new peer/t/a peer/s . none s/../s/a peer"
  .split(" ");

/** A list that begins with a mount that has directories, most of the time. */
function makeList(next: (below: number) => number, world: string): Mount[] {
  const tree = pick(next, ["/", "/", "/a"]);
  const under = () => {
    const target = pick(next, TARGETS);
    return next(4) === 0 || tree === "/" ? target : `${tree}${target === "/" ? "/b" : target}`;
  };
  const options = () => [
    ...next(4) > 0 ? [made] : [],
    ...next(5) === 0 ? ["ro"] : [],
    ...next(16) === 0 ? [pick(next, ["private", "rprivate", "shared", "rslave", "unbindable"])] : [],
    ...next(40) === 0 ? ["bogus=1"] : [],
  ];
  const overlay = (target: string): Mount => ({
    type: "overlay",
    source: "overlay",
    target,
    options: [`lowerdir=${world}/${pick(next, ["low", "t/a", "s/a"])}:${world}/two`, ...options()],
  });
  const bind = (target: string, from: string): Mount => ({
    type: "bind",
    source: `${world}/${from}`,
    target,
    options: [pick(next, ["bind", "rbind"]), ...options()],
  });
  const any = (index: number): Mount => {
    const target = under();
    const kind = next(20);
    if (kind < 9) return bind(target, pick(next, SOURCES));
    if (kind < 16) return tmpfs(`t${index}`, target, ...options());
    if (kind === 16) return overlay(target);
    if (kind === 17) return { type: "mqueue", source: "mqueue", target, options: options() };
    if (kind === 18) {
      return { type: "", source: "", target, options: ["remount", "bind", pick(next, ["ro", "nosuid"])] };
    }
    return { type: "", source: "", target, options: [pick(next, ["rshared", "private", "slave"])] };
  };
  const first = [bind(tree, "s"), bind(tree, "s"), tmpfs("first", tree), overlay(tree), any(0)];
  return [pick(next, first), ...Array.from({ length: 1 + next(7) }, (_, index) => any(index + 1))];
}

/**
 * Rows of mountinfo, without numbers that depend on what was mounted before: those of a directory in their order, and the
 * others below it sorted, because one call propagates mounts in another order than several.
 */
function tableOf(pid: number | "self", ordered: string, below: string): string[] {
  const rows = (readText(`/proc/${pid}/mountinfo`) ?? "").split("\n").map((row) => row.split(" "));
  const paths = new Map(rows.map(([id, , , , mountpoint]) => [id, mountpoint]));
  const plain = rows.filter(([, , , , mountpoint]) => mountpoint?.startsWith(below)).map((
    [, parent, , ...fields],
  ) => [`${paths.get(parent)}:`, ...fields].join(" ").replaceAll(below, ""));
  const isOrdered = (row: string) => row.split(" ")[2]?.startsWith(ordered) === true;
  const sorted = plain.filter((row) => !isOrdered(row)).map((row) => [row.replace(GROUPS, "N"), row] as const)
    .sort(([one], [two]) => one < two ? -1 : 1).map(([, row]) => row);
  const groups = new Map<string, number>();
  return [...plain.filter(isOrdered), ...sorted].map((row) =>
    row.replace(GROUPS, (group) => `${groups.get(group) ?? groups.set(group, groups.size).size - 1}`)
  );
}

const GROUPS = /(?<=shared:|master:|propagate_from:)\d+/g;

/** What a list has led to, as the kernel and the caller see it. */
async function outcome(
  t: KernelContext,
  parent: typeof parents[number],
  listOf: (world: string) => Mount[],
  other: MountNamespace,
  isElsewhere = false,
): Promise<unknown[]> {
  const target = makeWorld(t, parent);
  const world = target.slice(0, -"/t".length);
  const list = listOf(world);
  const isPropagated = parent === "shared" || JSON.stringify(list).includes("shared");
  const files = () => [...walk(`${world}/t`), ...walk(`${world}/s`)].map((path) => path.slice(world.length));
  const see = () => {
    return [
      tableOf("self", isPropagated ? "none" : "/t", world),
      tableOf(other.pid, "none", world),
      files(),
    ];
  };
  const seen: unknown[] = [];
  try {
    const handle = await mountAll(list, target, isElsewhere ? { namespace: other.pid } : {});
    seen.push(handle.mountpoints, ...see());
    const failure = await handle.unmount({ timeout: 0 }).catch((error) => `${error.code} ${error.message}`);
    seen.push(String(failure).replace(/mount \d+/, "mount"));
    if (failure === undefined) (handle as AttachedMounts).removeDirectories();
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    seen.push(error.target, list.indexOf(error.mount), error.code, error.message);
  }
  seen.push(...see());
  umount2(world, MNT_DETACH);
  const isLeft = readText(`/proc/${other.pid}/mountinfo`)?.includes(world);
  if (isLeft) await other.run("umount", "--lazy", world);
  return seen;
}

function* walk(path: string): Generator<string> {
  for (const name of names(path)) {
    yield `${path}/${name}`;
    if (Deno.lstatSync(`${path}/${name}`).isDirectory) yield* walk(`${path}/${name}`);
  }
}

for (const parent of parents) {
  kernelTest(
    `${LISTS} random lists mount the same assembled as one by one, below a ${parent} mount`,
    elsewhere,
    async (t) => {
      const base = t.make("base/world").slice(0, -"/world".length);
      mountSyscall("base", base, "tmpfs", 0, null);
      mountSyscall(null, base, null, parent === "private" ? MS_PRIVATE : MS_SHARED, null);
      Deno.mkdirSync(`${base}/world`);
      try {
        await using other = await MountNamespace.start("--propagation", "slave");
        for (let index = 0; index < LISTS; index++) {
          const seed = SEED + index;
          const listOf = (world: string) => makeList(random(seed), world);
          const isElsewhere = parent !== "private" && index % 8 === 0;
          const assembled = await outcome(t, parent, listOf, other, isElsewhere);
          using _ = pretendMissing("detachedTargets");
          const single = await outcome(t, parent, listOf, other, isElsewhere);
          const list = listOf("");
          assertEquals(assembled, single, `seed ${seed}: ${JSON.stringify(list, null, 1)}`);
        }
      } finally {
        mountSyscall(null, base, null, MS_PRIVATE, null);
        umount2(base, MNT_DETACH);
      }
    },
  );
}

/** Lists whose later entries depend on the earlier ones being attached, by what they depend on. */
const cases: Record<string, (world: string) => Mount[]> = {
  "a source that a link leads to": (world) => [
    bind(world, "s", "/"),
    bind(world, "to-a", "/new", made),
  ],
  "a source through the peer of the target": (
    world,
  ) => [bind(world, "s", "/"), bind(world, "peer/t/a", "/b")],
  "a source with the target below it": (world) => [
    bind(world, "s", "/"),
    tmpfs("in", "/b"),
    { ...bind(world, ".", "/new"), options: ["rbind", made] },
  ],
  "a source with the peer of the target below it": (world) => [
    bind(world, "s", "/"),
    { ...bind(world, "peer", "/new"), options: ["rbind", made] },
  ],
  "a source that an earlier entry makes": (world) => [
    bind(world, "s", "/"),
    tmpfs("in", "/new", made),
    bind(world, "t/new", "/b"),
  ],
  "the layers of an overlay": (world) => [
    bind(world, "s", "/"),
    { type: "overlay", source: "o", target: "/b", options: [`lowerdir=${world}/t/a:${world}/low`] },
  ],
  "a mount of its own mountpoint":
    () => [tmpfs("one"), tmpfs("in", "/in", made), tmpfs("two"), tmpfs("in", "/in", made)],
  "a link to the first mount": (
    world,
  ) => [bind(world, "s", "/"), tmpfs("self", "/self"), tmpfs("in", "/a", made)],
  "a link out of the first mount": (
    world,
  ) => [bind(world, "s", "/a"), tmpfs("b", "/a/abs"), tmpfs("up", "/a/up/b")],
};

const bind = (world: string, from: string, target: string, ...options: string[]): Mount => ({
  type: "bind",
  source: `${world}/${from}`,
  target,
  options,
});

for (const [name, listOf] of Object.entries(cases)) {
  kernelTest(`an entry that depends on ${name} gets it`, elsewhere, async (t) => {
    t.make("base/world");
    await using other = await MountNamespace.start();
    for (const parent of parents) {
      const base = `${t.dir}/base`;
      mountSyscall("base", base, "tmpfs", 0, null);
      mountSyscall(null, base, null, parent === "private" ? MS_PRIVATE : MS_SHARED, null);
      Deno.mkdirSync(`${base}/world`);
      try {
        const assembled = await outcome(t, parent, listOf, other);
        assert(Array.isArray(assembled[0]), `${parent}: ${assembled.slice(0, 4)}`);
        using _ = pretendMissing("detachedTargets");
        assertEquals(assembled, await outcome(t, parent, listOf, other), parent);
      } finally {
        umount2(base, MNT_DETACH);
      }
    }
  });
}

const TREES = 20;

/** A reader in another process that waits for each tree to be visible, and counts those of which the last mount is not. */
class Reader implements AsyncDisposable {
  readonly #lines: ReadableStreamDefaultReader<string>;

  private constructor(readonly child: Deno.ChildProcess) {
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
      .getReader();
  }

  static start({ dir }: KernelContext, roots: readonly string[]): Reader {
    Deno.writeTextFileSync(
      `${dir}/reader.ts`,
      `let halves = 0;
       const isThere = (path: string) => {
         try { return Deno.statSync(path) !== undefined; } catch { return false; }
       };
       for (const root of ${JSON.stringify(roots)}) {
         console.log("polls");
         while (!isThere(root + "/first"));
         if (!isThere(root + "/in/last")) halves++;
       }
       console.log(halves);`,
    );
    const args = ["run", "--quiet", "--no-config", "-A", `${dir}/reader.ts`];
    return new Reader(new Deno.Command(Deno.execPath(), { args, stdout: "piped" }).spawn());
  }

  async line(): Promise<string | undefined> {
    return (await this.#lines.read()).value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lines.cancel();
    await this.child.status;
  }
}

kernelTest(`another process never sees a part of ${TREES} lists, here and in another namespace`, {
  ...elsewhere,
  deadline: 60,
}, async (t) => {
  t.make("first/in", "last", ...Array.from({ length: 20 }, (_, index) => `first/${index}`));
  for (const file of ["first/first", "last/last"]) Deno.writeTextFileSync(`${t.dir}/${file}`, "");
  const list: Mount[] = [
    { type: "bind", source: `${t.dir}/first`, options: ["ro"] },
    ...Array.from({ length: 20 }, (_, index) => tmpfs("t", `/${index}`)),
    { type: "bind", source: `${t.dir}/last`, target: "/in" },
  ];
  const roots = Array.from({ length: TREES }, (_, index) => t.make(`roots/${index}`));
  await using other = await MountNamespace.start();
  /** The number of lists of which the reader has seen a part. */
  const halves = async (seenFrom: string, options: MountOptions) => {
    await using reader = Reader.start(t, roots.map((root) => `${seenFrom}${root}`));
    await using mounted = new AsyncDisposableStack();
    for (const root of roots) {
      assertEquals(await reader.line(), "polls");
      mounted.use(await mountAll(list, root, options));
    }
    return Number(await reader.line());
  };
  assertEquals(await halves("", {}), 0);
  assertEquals(await halves(`/proc/${other.pid}/root`, { namespace: other.pid }), 0);
  using _ = pretendMissing("detachedTargets");
  let noticed = 0; // it depends on when the reader is scheduled
  for (let tries = 0; tries < 30 && noticed === 0; tries++) noticed = await halves("", {});
  assert(noticed > 0, "the reader would not notice");
});

kernelTest("of a list that fails, nothing was ever mounted, and no directory stays", {
  ...needs,
  features: ["detachedTargets", "mountEvents"],
}, async (t) => {
  const target = t.make("target", "source/in", "empty/new");
  const source: Mount = { type: "bind", source: `${t.dir}/source` };
  const list: Mount[] = [
    source,
    tmpfs("a", "/a/b", made),
    tmpfs("c", "/a/b/c", made),
    { type: "bind", source: `${t.dir}/source/in`, target: "/d/e", options: [made] },
    tmpfs("f", "/d/e/f", made),
    { type: "bind", source: `${t.dir}/empty`, target: "/d" }, // covers what was made
  ];
  const reason = new RangeError("mine");
  await using events = watchMounts({ signal: AbortSignal.timeout(30_000) });
  for (
    const last of [tmpfs("wrong", "/in", "bogus"), tmpfs("wrong", "/none"), { ...source, source: "/none" }]
  ) {
    const error = await assertRejects(() => mountAll([...list, last], target), MountError);
    assertEquals(error.mount, last);
  }
  const controller = new AbortController();
  const aborted = mountAll([...list, ...list.slice(1)], target, { signal: controller.signal });
  controller.abort(reason);
  assertEquals(await aborted.catch((error) => error), reason);
  // An earlier list shows that the watch works, and that the directories of the others are gone.
  assertEquals([names(`${t.dir}/source`), names(`${t.dir}/source/in`), names(`${t.dir}/empty`)], [
    ["in"],
    [],
    ["new"],
  ]);
  await using _last = await mountAll([tmpfs("seen"), tmpfs("in", "/in", made)], target);
  const seen: string[] = [];
  for await (const event of events) {
    if (!("mount" in event) || !event.mount.mountpoint.startsWith(target)) continue;
    seen.push(`${event.kind} ${event.mount.source}`);
    if (seen.length === 2) break;
  }
  assertEquals(seen.sort(), ["mounted in", "mounted seen"]);
});

kernelTest("what is shared with a user namespace's mounts is unmounted there too", {
  ...elsewhere,
  tools: ["unshare"],
}, async (t) => {
  const base = t.make("base/target").slice(0, -"/target".length);
  mountSyscall("base", base, "tmpfs", 0, null);
  mountSyscall(null, base, null, MS_SHARED, null);
  Deno.mkdirSync(`${base}/target`);
  try {
    // A less privileged namespace gets the assembled mounts locked to each other.
    await using other = await MountNamespace.start("--user", "--map-root-user", "--propagation", "slave");
    const there = () => tableOf(other.pid, "none", `${base}/target`).length;
    const handle = await mountAll(
      [tmpfs("a"), tmpfs("b", "/b", made), tmpfs("c", "/b/c", made)],
      `${base}/target`,
    );
    assertEquals(there(), 3);
    await handle.unmount();
    assertEquals(there(), 0);
  } finally {
    umount2(base, MNT_DETACH);
  }
});
