/**
 * Mounting and unmounting.
 *
 * @module
 */

import {
  type Mount,
  mount,
  mountAll,
  type MountOptions,
  unmountAll,
  unmountRecursive,
  withTempMount,
} from "../../mod.ts";
import * as linux from "../../linux/mod.ts";
import { type Contender, each, OURS } from "../measure.ts";
import { shell } from "../peers.ts";
import { type Bench, make, type Row } from "../row.ts";

const FASTER_THAN_COMMANDS = { peer: "commands", most: 1 / 30 };
/** No slower than containerd's Go package. */
export const AS_FAST_AS_GO = { peer: "containerd", most: 1 };

// Runs per round: enough that cold caches after another contender do not count.
const PER_ROUND = 1000;

/** The library as a contender: a mount and its unmount. */
export function onAndOff(m: Mount, target: string, count: number, options: MountOptions = {}): Contender {
  return {
    name: OURS,
    count,
    run: () =>
      each(count, async () => {
        await mount(m, target, options);
        await unmountAll(target);
      }),
  };
}

/** The same system calls through the library's wrappers alone: the cost of Deno's foreign function interface. */
function bareCalls(source: string, target: string, readonly: boolean, count: number): Contender {
  return {
    name: "bare calls in Deno",
    count,
    run: () =>
      each(count, () => {
        const tree = linux.openTree(linux.AT_FDCWD, source, linux.OPEN_TREE_CLONE);
        if (readonly) linux.mountSetattr(tree.fd, "", linux.AT_EMPTY_PATH, { set: linux.MOUNT_ATTR_RDONLY });
        linux.moveMount(tree.fd, "", linux.AT_FDCWD, target, linux.MOVE_MOUNT_F_EMPTY_PATH);
        tree.close();
        linux.umount2(target, 0);
      }),
  };
}

const binds: Row[] = ["bind", "read-only bind"].map((name) => ({
  name,
  limits: name === "bind"
    ? [AS_FAST_AS_GO, { peer: "C floor", most: 2 }, FASTER_THAN_COMMANDS]
    : [AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const [source, target] = [make(bench, "source"), make(bench, "target")];
    const readonly = name !== "bind";
    const options = readonly ? ["bind", "ro"] : ["bind"];
    const command = ["mount", "--bind", ...readonly ? ["-o", "ro"] : [], source, target];
    return [
      onAndOff({ type: "bind", source, options }, target, PER_ROUND),
      bareCalls(source, target, readonly, PER_ROUND),
      ...bench.peers.map((peer) => peer.contender(readonly ? "bind-ro" : "bind", PER_ROUND, source, target)),
      shell(1, command, ["umount", target]),
    ];
  },
}));

const tmpfs: Row = {
  name: "tmpfs",
  limits: [AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const target = make(bench, "target");
    return [
      onAndOff({ type: "tmpfs", source: "tmpfs" }, target, PER_ROUND),
      ...bench.peers.map((peer) => peer.contender("tmpfs", PER_ROUND, target)),
      shell(1, ["mount", "-t", "tmpfs", "tmpfs", target], ["umount", target]),
    ];
  },
};

const temporary: Row = {
  name: "a bind at a temporary place",
  limits: [AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const source = make(bench, "source");
    const bind = { type: "bind", source, options: ["bind"] };
    return [
      { name: OURS, count: 200, run: () => each(200, () => withTempMount([bind], () => {})) },
      ...bench.peers.map((peer) => peer.contender("temp", 200, source)),
    ];
  },
};

const replacing: Row = {
  name: "a bind replaced by another",
  limits: [{ peer: "C floor", most: 2 }],
  async prepare(bench) {
    const [source, target] = [make(bench, "source"), make(bench, "target")];
    const bind = { type: "bind", source, options: ["bind"] };
    await mount(bind, target);
    bench.undo.defer(() => unmountAll(target));
    const run = () => each(PER_ROUND, () => mount(bind, target, { replace: true }));
    return [
      { name: OURS, count: PER_ROUND, run },
      ...bench.peers.map((peer) => peer.contender("replace", PER_ROUND, source, target)),
    ];
  },
};

/** The mounts of a container: those of runc's default configuration, and volumes. */
function containerList(bench: Bench): Mount[] {
  const volumes = Array.from({ length: 38 }, (_, index): Mount => ({
    type: "bind",
    source: make(bench, `volumes/${index}`),
    target: `/volumes/${index}`,
    options: index % 2 ? ["bind"] : ["bind", "ro"],
  }));
  const tmpfs = (target: string, ...options: string[]): Mount => ({
    type: "tmpfs",
    source: "tmpfs",
    target,
    options,
  });
  return [
    tmpfs("/proc", "nosuid", "size=1m"),
    { type: "proc", source: "proc", target: "/proc", options: ["nosuid", "noexec", "nodev"] },
    { type: "sysfs", source: "sysfs", target: "/sys", options: ["nosuid", "noexec", "nodev", "ro"] },
    { type: "bind", source: "/dev/null", target: "/device", options: ["bind"] },
    tmpfs("/run", "nosuid", "nodev", "mode=755", "size=65536k"),
    tmpfs("/tmp", "nosuid", "nodev"),
    tmpfs("/shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
    { type: "mqueue", source: "mqueue", target: "/mqueue", options: ["nosuid", "noexec", "nodev"] },
    {
      type: "devpts",
      source: "devpts",
      target: "/pts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    },
    { type: "bind", source: "/etc/hostname", target: "/hostname", options: ["bind", "ro"] },
    { type: "bind", source: "/etc/hosts", target: "/hosts", options: ["bind", "ro"] },
    { type: "bind", source: "/etc/resolv.conf", target: "/resolv.conf", options: ["bind", "ro"] },
    ...volumes,
  ];
}

const list: Row = {
  name: "a container's list of 50",
  limits: [AS_FAST_AS_GO],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const target = make(bench, "target");
    const mounts = containerList(bench);
    for (const m of mounts) {
      const path = `target${m.target}`;
      if (m.type === "bind" && Deno.statSync(m.source).isDirectory || m.type !== "bind") make(bench, path);
      else Deno.writeTextFileSync(`${bench.dir}/${path}`, "");
    }
    const lines = mounts.map((m) =>
      [m.type, m.source, m.target, (m.options ?? []).join(",") || "defaults"].join("\t")
    );
    Deno.writeTextFileSync(`${bench.dir}/list`, lines.join("\n") + "\n");
    const run = () =>
      each(20, async () => {
        await mountAll(mounts, target);
        await unmountRecursive(target);
      });
    return [
      { name: OURS, count: 20, run },
      ...bench.peers.map((peer) => peer.contender("list-all", 20, `${bench.dir}/list`, target)),
    ];
  },
};

/** Rows that are drawn as a plot: the cost of a mount by the number of mounts, and of concurrent callers. */
const crowded: Row[] = [10, 10_000].map((count) => ({
  name: `bind among ${count.toLocaleString("en")} mounts`,
  limits: [AS_FAST_AS_GO],
  async prepare(bench) {
    await fillTable(bench, count);
    const [source, target] = [make(bench, "source"), make(bench, "target")];
    return [
      onAndOff({ type: "bind", source, options: ["bind"] }, target, PER_ROUND),
      ...bench.peers.map((peer) => peer.contender("bind", PER_ROUND, source, target)),
    ];
  },
}));

const concurrent: Row[] = [1, 10, 100].map((callers) => ({
  name: `tmpfs, ${callers} at once`,
  limits: [],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const targets = Array.from({ length: callers }, (_, index) => make(bench, `targets/${index}`));
    const one = async (target: string) => {
      await mount({ type: "tmpfs", source: "tmpfs" }, target);
      await unmountAll(target);
    };
    const repeat = Math.ceil(200 / callers);
    const run = async () => await each(repeat, () => Promise.all(targets.map(one))) / callers;
    return [{ name: OURS, run }];
  },
}));

/** Creates `count` mounts, through the C floor if it was built, because that is faster. */
export async function fillTable(bench: Bench, count: number): Promise<string> {
  const source = make(bench, "filler");
  const directory = make(bench, "table");
  for (let index = 0; index < count; index++) Deno.mkdirSync(`${directory}/${index}`, { recursive: true });
  await fill(bench, count, source, directory);
  bench.undo.defer(() => unmountRecursive(directory));
  return directory;
}

/** Bind mounts a source at `directory/0`, `directory/1` and so on. */
export async function fill(bench: Bench, count: number, source: string, directory: string): Promise<void> {
  const floor = bench.peers.find(({ name }) => name === "C floor");
  if (floor) return void await floor.work("stack", 1, count, source, directory);
  const bind = { type: "bind", source, options: ["bind"] };
  for (let index = 0; index < count; index++) await mount(bind, `${directory}/${index}`);
}

/** Every row of this file. */
export const rows: readonly Row[] = [...binds, temporary, replacing, tmpfs, list, ...crowded, ...concurrent];
