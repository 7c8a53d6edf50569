/**
 * Mounting and unmounting.
 *
 * @module
 */

import {
  detachLoop,
  type Mount,
  mount,
  mountAll,
  setupLoop,
  unmountAll,
  unmountRecursive,
} from "../../mod.ts";
import * as linux from "../../linux/mod.ts";
import { type Contender, each, OURS } from "../measure.ts";
import { shell } from "../peers.ts";
import { type Bench, make, type Row } from "../row.ts";

const FASTER_THAN_COMMANDS = { peer: "commands", most: 1 / 30 };
const AS_FAST_AS_GO = { peer: "containerd", most: 1 };

// Runs per round: enough that cold caches after another contender do not count.
const PER_ROUND = 1000;

/** The library as a contender: a mount and its unmount. */
export function onAndOff(m: Mount, target: string, count: number): Contender {
  return {
    name: OURS,
    run: () =>
      each(count, async () => {
        await mount(m, target);
        await unmountAll(target);
      }),
  };
}

/** Creates directories for layers. */
export function makeLayers(bench: Bench, count: number): string[] {
  return Array.from({ length: count }, (_, index) => make(bench, `layers/${index}/fs`));
}

/** The same system calls through the library's wrappers alone: the cost of Deno's foreign function interface. */
function bareCalls(source: string, target: string, readonly: boolean, count: number): Contender {
  return {
    name: "bare calls in Deno",
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

const overlays: Row[] = [5, 100].map((count) => ({
  name: `overlay of ${count} layers`,
  limits: [AS_FAST_AS_GO, { peer: "C floor", most: 1.2 }],
  // deno-lint-ignore require-await
  async prepare(bench) {
    const target = make(bench, "target");
    const layers = makeLayers(bench, count);
    const lowerdir = `lowerdir=${layers.join(":")}`;
    return [
      onAndOff({ type: "overlay", source: "overlay", options: [lowerdir] }, target, 1500 / count),
      ...bench.peers.map((peer) => peer.contender("overlay", 1500 / count, target, ...layers)),
      ...lowerdir.length < 4000
        ? [shell(1, ["mount", "-t", "overlay", "overlay", "-o", lowerdir, target], ["umount", target])]
        : [],
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

const loop: Row = {
  name: "loop device: attach + detach",
  limits: [AS_FAST_AS_GO],
  async prepare(bench) {
    const image = `${bench.dir}/image`;
    await Deno.writeFile(image, new Uint8Array(1 << 20));
    const run = () =>
      each(5, async () => {
        const device = await setupLoop(image);
        const { path } = device;
        device.close();
        await detachLoop(path);
      });
    const attach = `device=$(losetup --find --show ${image}) && losetup --detach $device`;
    return [
      { name: OURS, run },
      ...bench.peers.map((peer) => peer.contender("loop", 5, image)),
      shell(1, ["sh", "-c", attach]),
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
      { name: OURS, run },
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
export const rows: readonly Row[] = [...binds, ...overlays, tmpfs, loop, list, ...crowded, ...concurrent];
