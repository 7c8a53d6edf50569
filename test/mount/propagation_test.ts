import {
  type Mount,
  mountAll,
  MountError,
  type MountNamespace as NamespaceOption,
  setTempMountLocation,
  unmountMounts,
  unmountRecursive,
  withTempMount,
} from "../../mod.ts";
import {
  type Feature,
  mount as mountSyscall,
  MS_BIND,
  MS_PRIVATE,
  MS_REC,
  MS_SHARED,
  MS_SLAVE,
  pretendMissing,
  umount2,
} from "../../linux/mod.ts";
import { assert, assertEquals, assertRejects } from "../assert.ts";
import { type KernelContext, kernelTest } from "../harness.ts";
import { loopDevices, loopDevicesLeft, parseTable, readText, type Row } from "../kernel.ts";
import { MountNamespace, run } from "../namespace/namespaces.ts";

/** The source of a bind, with two submounts, the second below the first. */
type Source = "shared" | "private" | "slave" | "shared-image";
const sources: readonly Source[] = ["shared", "private", "slave", "shared-image"];

/** The propagation of the mount that has the target. */
const parents = ["shared", "private"] as const;
type Parent = typeof parents[number];

/** Who mounts the bind. */
interface Way {
  name: string;
  missing: readonly Feature[];
  options: readonly string[];
  /** The namespace of the target. */
  into?: "container" | "peer" | "slave";
  isMount8?: boolean;
}

const way = (name: string, rest: Partial<Way> = {}): Way => ({ name, missing: [], options: [], ...rest });
const ways: readonly Way[] = [
  way("mountAll()"),
  way("mountAll() with rshared", { options: ["rshared"] }),
  way("mountAll() with ro", { options: ["ro", "nosuid"] }),
  way("mountAll() without mount_setattr(2)", { missing: ["mountSetattr"] }),
  way("mountAll() without fsopen(2)", { missing: ["mountApi", "mountSetattr", "openat2"] }),
  way("mountAll() with rshared and ro, without mount_setattr(2)", {
    options: ["rshared", "ro"],
    missing: ["mountSetattr"],
  }),
  way("mountAll() with rshared, without fsopen(2)", {
    options: ["rshared"],
    missing: ["mountApi", "mountSetattr", "openat2"],
  }),
  way("mountAll() into a container", { into: "container" }),
  way("mountAll() into a container without mount_setattr(2)", {
    into: "container",
    missing: ["mountSetattr"],
  }),
  way("mountAll() into the peer namespace", { into: "peer" }),
  way("mountAll() into the slave namespace", { into: "slave" }),
  way("mount(8)", { isMount8: true }),
];

const removals = [
  "the handle",
  "unmountMounts()",
  "unmountRecursive()",
  "a rollback",
  "withTempMount()",
] as const;
type Removal = typeof removals[number];

interface Cell {
  source: Source;
  parent: Parent;
  way: Way;
  removal: Removal;
}

const nameOf = ({ source, parent, way, removal }: Cell) =>
  `source ${source}, parent ${parent}, by ${way.name}, unmounted by ${removal}`;

function isPossible({ source, parent, way, removal }: Cell): boolean {
  if (source === "shared-image" && parent === "private") return false; // the image makes no difference here
  if (way.isMount8) return removal !== "the handle" && removal !== "a rollback";
  return removal !== "withTempMount()" || way.into === undefined;
}

const cells: readonly Cell[] = sources.flatMap((source) =>
  parents.flatMap((parent) =>
    ways.flatMap((way) => removals.map((removal) => ({ source, parent, way, removal })))
  )
).filter(isPossible);

/**
 * A peer of its source that has spread to other namespaces. There, umount2(2) can't tell the bind's submounts from the
 * source's: both are at the same place below peers. The source keeps its own, so the bind stays in the other namespaces.
 */
function staysElsewhere({ source, parent, way }: Cell): boolean {
  const isPeer = way.isMount8 || way.options.includes("rshared");
  return isPeer === true && source.startsWith("shared") && parent === "shared";
}

/** Whether the bind is a peer of its source: then what is mounted in one shows in the other. */
function isPeerOfSource({ source, way }: Cell): boolean {
  return (way.isMount8 === true || way.options.includes("rshared")) && source.startsWith("shared");
}

/** Three mount namespaces beside this one, which has a shared "root directory" as systemd makes it. */
class World {
  readonly host: string;

  private constructor(
    readonly t: KernelContext,
    readonly namespaces: Record<"slave" | "peer" | "container", MountNamespace>,
  ) {
    this.host = `${t.dir}/host`;
  }

  static async start(t: KernelContext, own: AsyncDisposableStack): Promise<World> {
    const host = `${t.dir}/host`;
    t.make("host");
    tmpfs(host);
    own.defer(() => umount2(host, 2)); // MNT_DETACH
    mountSyscall(null, host, null, MS_SHARED, null);
    Deno.mkdirSync(`${host}/plain`);
    for (const name of ["shared", "private", "master", "shared-image"]) {
      await makeTree(t, `${host}/${name}`, name.endsWith("-image"));
    }
    mountSyscall(null, `${host}/private`, null, MS_PRIVATE | MS_REC, null);
    Deno.mkdirSync(`${host}/slave`);
    mountSyscall(`${host}/master`, `${host}/slave`, null, MS_BIND | MS_REC, null);
    mountSyscall(null, `${host}/slave`, null, MS_SLAVE | MS_REC, null);
    for (const parent of parents) {
      Deno.mkdirSync(`${host}/to-${parent}`);
      tmpfs(`${host}/to-${parent}`);
      Deno.mkdirSync(`${host}/to-${parent}/target`);
    }
    mountSyscall(null, `${host}/to-private`, null, MS_PRIVATE, null);
    const start = async (propagation: string) =>
      own.use(await MountNamespace.start("--propagation", propagation));
    const namespaces = {
      slave: await start("slave"),
      peer: await start("unchanged"),
      container: await start("slave"),
    };
    await namespaces.container.run("mount", "--make-shared", `${host}/to-shared`);
    return new World(t, namespaces);
  }

  pidOf(into: Way["into"]): number | undefined {
    return into && this.namespaces[into].pid;
  }

  /** Runs a shell script in a namespace, or here. */
  async sh(into: Way["into"], script: string): Promise<void> {
    if (into === undefined) await run("sh", "-ec", script);
    else await this.namespaces[into].run("sh", "-ec", script);
  }

  /** The mount table of each namespace below the host's root, without ids, sorted by mountpoint. */
  tables(): Record<string, string[]> {
    const { slave, peer, container } = this.namespaces;
    const pids = { here: "self", slave: slave.pid, peer: peer.pid, container: container.pid };
    return Object.fromEntries(
      Object.entries(pids).map((
        [name, pid],
      ) => [name, this.#rows(`/proc/${pid}/mountinfo`).map(lineOf).sort()]),
    );
  }

  #rows(file: string): Row[] {
    return parseTable(readText(file) ?? "").filter(({ mountpoint }) => mountpoint.startsWith(this.host));
  }
}

/** Group numbers of a bind are new each time: of the mounts that last, they stay. */
const lineOf = ({ mountpoint, root, options, optional, fsType, source, superOptions }: Row) =>
  [mountpoint, root, options.join(","), optional, fsType, source, superOptions].join(" ");

function tmpfs(path: string): void {
  mountSyscall("t", path, "tmpfs", 0, null);
}

async function makeTree(t: KernelContext, path: string, hasImage: boolean): Promise<void> {
  Deno.mkdirSync(path);
  tmpfs(path);
  for (const name of ["below", "mine", "later"]) Deno.mkdirSync(`${path}/${name}`);
  Deno.writeTextFileSync(`${path}/passwd`, "the host's");
  Deno.writeTextFileSync(`${path}/other`, "the container's");
  if (hasImage) {
    await run("mkfs.ext4", "-q", `${t.dir}/image`, "1M");
    await run("mount", "-o", "loop", `${t.dir}/image`, `${path}/below`);
  } else tmpfs(`${path}/below`);
  Deno.mkdirSync(`${path}/below/deep`);
  mountSyscall(`${t.dir}/host/plain`, `${path}/below/deep`, null, MS_BIND, null);
}

/** The names of the mounts of a table below a directory, without it. */
function below(table: readonly string[] | undefined, directory: string): string[] {
  return (table ?? []).map((line) => line.slice(0, line.indexOf(" ")))
    .filter((path) => path.startsWith(`${directory}/`)).map((path) => path.slice(directory.length));
}

/** Mounts in the bind, and in its source, while the bind is mounted. */
async function mountInside(world: World, cell: Cell, target: string): Promise<void> {
  const { source, way } = cell;
  const { into } = way;
  const path = `${world.host}/${source}`;
  const passwd = () => Deno.readTextFileSync(`${path}/passwd`);
  const before = world.tables();
  const own = ["/below", "/below/deep"];
  const there = into ?? "here";
  assertEquals(below(before[there], target), own);
  if (!isPeerOfSource(cell)) {
    const all = [path, `${world.host}/master`];
    await world.sh(into, `mount -t tmpfs t ${target}/mine; mount --bind ${target}/other ${target}/passwd`);
    const now = world.tables();
    assertEquals(below(now[there], target), [...own, "/mine", "/passwd"]);
    for (const name of Object.keys(now)) {
      for (const directory of all) assertEquals(below(now[name], directory), below(before[name], directory));
    }
    assertEquals(passwd(), "the host's");
    if (cell.removal === "the handle") await world.sh(into, `umount ${target}/mine ${target}/passwd`);
  }
  const origin = source === "slave" ? `${world.host}/master` : path;
  tmpfs(`${origin}/later`);
  assertEquals(below(world.tables()[there], target).includes("/later"), source !== "private");
}

async function mountAndUnmount(world: World, cell: Cell): Promise<void> {
  const { source, parent, way, removal } = cell;
  const directory = `${world.host}/to-${parent}`;
  const target = `${directory}/target`;
  const rbind = { type: "bind", source: `${world.host}/${source}`, options: ["rbind", ...way.options] };
  const namespace = world.pidOf(way.into);
  const options: { namespace?: NamespaceOption } = namespace === undefined ? {} : { namespace };
  using _ = pretendMissing(...way.missing);
  const mount8 = async (path: string) => {
    const command = new Deno.Command("mount", { args: ["--rbind", rbind.source, path] });
    assert((await command.output()).success);
    await mountInside(world, cell, path);
  };
  if (removal === "a rollback") {
    const bad = { type: "bind", source: `${world.host}/none`, target: "below", options: ["bind"] };
    await assertRejects(() => mountAll([rbind, bad], target, options), MountError, "none");
    return;
  }
  if (removal === "withTempMount()") {
    await setTempMountLocation(directory);
    if (!way.isMount8) {
      await withTempMount([rbind], (root) => mountInside(world, cell, root));
    } else {
      await withTempMount([{ type: "tmpfs", source: "t" }], async (root) => {
        Deno.mkdirSync(`${root}/bind`);
        await mount8(`${root}/bind`);
      });
    }
    await setTempMountLocation("/tmp");
    return;
  }
  const handle = way.isMount8 ? undefined : await mountAll([rbind], target, options);
  if (handle) await mountInside(world, cell, target);
  else await mount8(target);
  if (removal === "unmountMounts()") await unmountMounts([rbind], target, options);
  else if (removal === "unmountRecursive()") await unmountRecursive(target, options);
  await handle?.unmount();
}

/** The mount that was made in the source meanwhile is still mounted, in every namespace that has it. */
function unmountLater(world: World, { source, removal }: Cell): void {
  if (removal === "a rollback") return;
  const origin = `${world.host}/${source === "slave" ? "master" : source}`;
  const tables = world.tables();
  const holders = source === "private" ? ["here"] : ["here", "peer", "slave"];
  for (const name of holders) {
    assert(below(tables[name], origin).includes("/later"), `${origin}/later in ${name}`);
  }
  umount2(`${origin}/later`, 0);
}

/** Where a bind stays in other namespaces, all that was mounted before is still mounted, and only the bind is more. */
async function checkLeft(world: World, { parent }: Cell, before: Record<string, string[]>): Promise<boolean> {
  const after = world.tables();
  assertEquals(after.here, before.here);
  let left = false;
  for (const [name, rows] of Object.entries(before)) {
    const now = after[name] ?? [];
    assertEquals(rows.filter((row) => !now.includes(row)), [], `taken off in ${name}`);
    const more = now.filter((row) => !rows.includes(row)).map((row) => row.split(" ")[0] ?? "");
    assertEquals(more.filter((path) => !path.startsWith(`${world.host}/to-${parent}/`)), []);
    const [top] = more.sort();
    if (top === undefined) continue;
    left = true;
    await world.sh(name as Way["into"], `mount --make-rprivate ${top}; umount -R ${top}`);
  }
  for (const { name } of Deno.readDirSync(`${world.host}/to-${parent}`)) {
    if (name.startsWith("denomount-")) {
      Deno.removeSync(`${world.host}/to-${parent}/${name}`, { recursive: true });
    }
  }
  assertEquals(world.tables(), before);
  return left;
}

kernelTest(
  "a bind leaves every namespace as it was, however it is made and unmounted, and never shows in its source",
  {
    root: true,
    tools: ["unshare", "nsenter", "mount", "umount", "mkfs.ext4"],
    permissions: { run: true },
    notEmulated: "it starts a thousand processes",
  },
  async (t) => {
    await using own = new AsyncDisposableStack();
    const world = await World.start(t, own);
    const before = world.tables();
    const loops = loopDevices(t.dir);
    let impossible = 0;
    for (const cell of cells) {
      try {
        await mountAndUnmount(world, cell);
        unmountLater(world, cell);
        if (!staysElsewhere(cell)) assertEquals(world.tables(), before);
        else if (await checkLeft(world, cell, before)) impossible++;
        assertEquals(loopDevices(t.dir), loops);
      } catch (error) {
        throw new Error(`${nameOf(cell)}: ${error}`, { cause: error });
      }
    }
    console.log(`${cells.length} cells, in ${impossible} of which the bind stays in other namespaces`);
  },
);

kernelTest(
  "an image and a bind in it leave no loop device and no mount in any namespace, however they are unmounted",
  { root: true, tools: ["unshare", "nsenter", "mount", "mkfs.ext4"], permissions: { run: true } },
  async (t) => {
    await using own = new AsyncDisposableStack();
    const world = await World.start(t, own);
    const before = world.tables();
    const loops = loopDevices(t.dir);
    await run("mkfs.ext4", "-q", `${t.dir}/other`, "1M");
    const image = { type: "ext4", source: `${t.dir}/other`, options: ["loop"] };
    const rbind = {
      type: "bind",
      source: `${world.host}/shared`,
      target: "lost+found",
      options: ["rbind"],
    };
    for (const parent of parents) {
      const directory = `${world.host}/to-${parent}`;
      await unmountedBy(removals, [image, rbind], directory, async (removal) => {
        assertEquals(world.tables(), before, `${removal}, parent ${parent}`);
        if (loops.length === 0) await loopDevicesLeft(t.dir); // another process may look at the device just now
        assertEquals(loopDevices(t.dir), loops, `${removal}, parent ${parent}`);
      });
    }
  },
);

async function unmountedBy(
  ways: readonly Removal[],
  list: readonly Mount[],
  directory: string,
  check: (removal: Removal) => void | Promise<void>,
): Promise<void> {
  const target = `${directory}/target`;
  const seen = (path: string) =>
    assertEquals(Deno.readTextFileSync(`${path}/lost+found/passwd`), "the host's");
  for (const removal of ways) {
    if (removal === "a rollback") {
      const bad = { type: "bind", source: "/none", options: ["bind"] };
      await assertRejects(() => mountAll([...list, bad], target), MountError, "none");
    } else if (removal === "withTempMount()") {
      await setTempMountLocation(directory);
      await withTempMount(list, seen);
      await setTempMountLocation("/tmp");
    } else {
      const handle = await mountAll(list, target);
      seen(target);
      if (removal === "unmountMounts()") await unmountMounts(list, target);
      else if (removal === "unmountRecursive()") await unmountRecursive(target);
      await handle.unmount();
    }
    await check(removal);
  }
}

for (
  const [way, missing] of [
    ["with every call", []],
    ["without mount_setattr(2)", ["mountSetattr"]],
    ["with mount(2)", ["mountApi", "mountSetattr", "openat2"]],
  ] as const
) {
  kernelTest(`a bind of a file is a slave of its source, ${way}`, {}, async (t) => {
    using _ = pretendMissing(...missing);
    t.make("source", "target");
    tmpfs(`${t.dir}/source`);
    mountSyscall(null, `${t.dir}/source`, null, MS_SHARED, null);
    for (const path of ["source/file", "source/other", "target/file"]) {
      Deno.writeTextFileSync(`${t.dir}/${path}`, path);
    }
    for (const options of [["bind"], ["rbind", "ro"]]) {
      const bind = { type: "bind", source: `${t.dir}/source/file`, target: "file", options };
      await using _bind = await mountAll([bind], `${t.dir}/target`);
      assertEquals(Deno.readTextFileSync(`${t.dir}/target/file`), "source/file");
      mountSyscall(`${t.dir}/source/other`, `${t.dir}/target/file`, null, MS_BIND, null);
      assertEquals(Deno.readTextFileSync(`${t.dir}/source/file`), "source/file");
      umount2(`${t.dir}/target/file`, 0);
    }
    umount2(`${t.dir}/source`, 0);
  });
}
