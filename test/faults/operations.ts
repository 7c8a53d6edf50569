/**
 * The operations that are made to fail, each with what it needs before and what undoes it. They run in the child.
 *
 * @module
 */

import {
  attachLoop,
  cleanupTempMounts,
  createUserNamespace,
  detachLoop,
  idMapMount,
  lookupMount,
  type Mount,
  mountAll,
  type MountEvent,
  type MountHandle,
  type OwnedFd,
  setTempMountLocation,
  unmount,
  unmountAll,
  unmountMounts,
  unmountRecursive,
  watchMounts,
  withTempMount,
} from "../../mod.ts";
import { MNT_DETACH, mount, umount2 } from "../../linux/mod.ts";
import { type Feature, featureVersions, pretendMissing } from "../../linux/syscalls/features.ts";
import { loopDevices } from "../kernel.ts";

/** One operation of the library. */
export interface Operation {
  /** Its name in the table. */
  name: string;
  /** Programs that it needs. */
  tools?: string[];
  /** It takes something away: a failure may leave what was there before, and nothing else. */
  takes?: boolean;
  /** What must be there before it. */
  prepare?(): Promise<void>;
  /** The operation. */
  run(): Promise<void>;
  /** Takes away what it made; called after a failure too. */
  undo?(): Promise<void>;
  /** The clean-up of its own that it leaves to its user, beside those of mounts and temporary places. */
  cleanUp?(): Promise<void>;
  /** It changes what is there, and may be half done when it fails: then making it again does the whole. */
  changes?: boolean;
  /** It finds out what the kernel lacks, and remembers a call that is missing or forbidden. */
  learns?: boolean;
}

/** The files that every operation finds in its directory. */
export async function makeFiles(dir: string): Promise<void> {
  for (
    const name of ["source", "upper", "work", "target/inner", "temporary", "lower/one/inner", ...lowers(dir)]
  ) {
    await Deno.mkdir(name.startsWith("/") ? name : `${dir}/${name}`, { recursive: true });
  }
  await Deno.symlink("target", `${dir}/link`);
  for (const name of [`${dir}/source`, `${dir}/upper`, ...lowers(dir)]) {
    await Deno.writeTextFile(`${name}/data`, "somebody's");
  }
}

/** Makes the file system image that the loop mounts need. */
export async function makeImage(dir: string): Promise<void> {
  await Deno.writeFile(`${dir}/image`, new Uint8Array());
  await Deno.truncate(`${dir}/image`, 8 << 20);
  const { success } = await new Deno.Command("mkfs.ext4", { args: ["-q", `${dir}/image`] }).output();
  if (!success) throw new Error("mkfs.ext4 failed");
}

const lowers = (dir: string) => [`${dir}/lower/one`, `${dir}/lower/two`];
const longLowers = (dir: string) =>
  Array.from({ length: 20 }, (_, index) => `${dir}/${"long".repeat(50)}/${index}`);

const maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
const beforeMountApi: Feature[] = ["mountApi", "mountSetattr", "openat2", "statmount", "pidfdNamespaces"];
const beforeLayers: Feature[] = ["overlayLayers", "overlayDescriptors", "detachedLayers"];

/** Every operation, in a directory of its own. */
export function operations(dir: string): Operation[] {
  const target = `${dir}/target`;
  const bind: Mount = { type: "bind", source: `${dir}/source`, options: ["bind"] };
  const readonly: Mount = { ...bind, options: ["bind", "ro", "nosuid"] };
  const tmpfs: Mount = { type: "tmpfs", source: "t", options: ["size=1m"] };
  const upper = [`upperdir=${dir}/upper`, `workdir=${dir}/work`];
  const overlay: Mount = {
    type: "overlay",
    source: "o",
    options: [`lowerdir=${lowers(dir).join(":")}`, ...upper],
  };
  const mapped: Mount = { ...overlay, options: [...overlay.options ?? [], ...maps] };
  const image: Mount = { type: "ext4", source: `${dir}/image`, options: ["loop"] };
  const fuse: Mount = { type: "fuse3.bindfs", source: `${dir}/source`, target: "/inner" }; // it wants it empty
  const list: Mount[] = [tmpfs, readonly, overlay];
  const ext4 = ["mkfs.ext4"];
  const bindfs = ["mount.fuse3", "bindfs"];

  /** A list that goes up, and comes down again. */
  const mounting = (
    name: string,
    mounts: Mount[],
    missing: Feature[] = [],
    tools: string[] = [],
    at = target,
  ): Operation => {
    let stack: MountHandle | undefined;
    return {
      name,
      tools,
      async run() {
        using _ = pretendMissing(...missing);
        stack = await mountAll(mounts, at);
      },
      async undo() {
        await stack?.unmount();
      },
    };
  };

  /** A list that is there, and is taken off. */
  const unmounting = (
    name: string,
    mounts: Mount[],
    run: (stack: MountHandle | undefined) => Promise<unknown>,
    missing: Feature[] = [],
    tools: string[] = [],
  ): Operation => {
    let stack: MountHandle | undefined;
    return {
      name,
      tools,
      takes: true,
      async prepare() {
        stack = await mountAll(mounts, target);
      },
      async run() {
        using _ = pretendMissing(...missing);
        await run(stack);
      },
    };
  };

  return [
    mounting("bind", [bind]),
    mounting("bind, through a symbolic link", [bind], [], [], `${dir}/link`),
    mounting("bind, read-only", [readonly]),
    mounting("bind, read-only, the older way", [readonly], beforeMountApi),
    mounting("bind, recursive, as a slave", [{ ...bind, options: ["rbind", "rslave"] }]),
    mounting("bind, recursive, as a slave, the older way", [
      { ...bind, options: ["rbind", "rslave"] },
    ], beforeMountApi),
    mounting("bind, id-mapped", [{ ...bind, options: ["bind", "ro", ...maps] }]),
    mounting("bind, id-mapped, without namespaces of pidfds", [
      { ...bind, options: ["bind", "ro", ...maps] },
    ], ["pidfdNamespaces"]),
    idMapped(dir),
    mounting("tmpfs", [tmpfs]),
    mounting("tmpfs, the older way", [tmpfs], beforeMountApi),
    remounting("remount", dir, []),
    remounting("remount, the older way", dir, beforeMountApi),
    mounting("overlay", [overlay]),
    mounting("overlay, in one page", [overlay], [...beforeMountApi, ...beforeLayers]),
    privateThread(dir, mounting),
    mounting("overlay, id-mapped, detached", [mapped]),
    mounting("overlay, id-mapped, at a temporary place", [mapped], ["detachedLayers"]),
    mounting("overlay, id-mapped, in one page", [mapped], beforeLayers),
    mounting("loop, ext4", [image], [], ext4),
    mounting("loop, ext4, the older way", [image], beforeMountApi, ext4),
    attaching(dir),
    detaching(dir),
    mounting("FUSE", [fuse], [], bindfs),
    { name: "withTempMount", run: () => withTempMount([tmpfs, overlay], () => {}) },
    { name: "withTempMount, the older way", run: () => temporaryTheOlderWay([tmpfs, overlay]) },
    mounting("mountAll of three", list),
    mounting("mountAll of three, below one another", [
      overlay,
      { ...readonly, target: "/inner" },
      { ...tmpfs, target: "/inner" },
    ]),
    mounting("mountAll of three, the older way", list, [...beforeMountApi, ...beforeLayers]),
    unmounting("unmount, tmpfs", [tmpfs], () => unmount(target)),
    unmounting("unmount, overlay", [overlay], () => unmount(target)),
    unmounting("unmount, overlay, the older way", [overlay], () => unmount(target), beforeMountApi),
    unmounting("unmount, ext4 of a loop device", [image], () => unmount(target), [], ext4),
    unmounting("unmount, FUSE", [fuse], () => unmount(`${target}/inner`), [], [...bindfs, "fusermount3"]),
    unmounting("unmountAll of two", [tmpfs, overlay], () => unmountAll(target)),
    unmounting("unmountRecursive of three", list, () => unmountRecursive(target)),
    unmounting(
      "unmountRecursive above the mounts",
      [{ ...tmpfs, target: "/inner" }, { ...overlay, target: "/inner" }],
      () => unmountRecursive(target),
    ),
    unmounting("unmountMounts of three", list, () => unmountMounts(list, target)),
    unmounting("MountStack.unmount of three", list, (stack) => stack?.unmount() ?? Promise.resolve()),
    unmounting(
      "MountStack.unmount, a recursive bind",
      [{ ...bind, options: ["rbind"] }],
      (stack) => stack?.unmount() ?? Promise.resolve(),
    ),
    cleaning(dir, tmpfs),
    namespace("createUserNamespace", []),
    namespace("createUserNamespace, the older way", ["pidfdNamespaces"]),
    { name: "lookupMount", run: () => lookupMount(target).then(() => {}) },
    features(),
    watching("watchMounts", target),
    watching("watchMounts, the older way", target, ["mountEvents"]),
  ];
}

function idMapped(dir: string): Operation {
  let userns: OwnedFd | undefined;
  return {
    name: "idMapMount",
    async prepare() {
      userns = await createUserNamespace("0:100000:65536", "0:100000:65536");
    },
    async run() {
      if (userns) await idMapMount(`${dir}/source`, `${dir}/target`, userns, { recursive: true });
    },
    async undo() {
      await unmount(`${dir}/target`);
      userns?.close();
    },
  };
}

function remounting(name: string, dir: string, missing: Feature[]): Operation {
  const target = `${dir}/target`;
  return {
    name,
    changes: true,
    async prepare() {
      await mountAll([{ type: "tmpfs", source: "t", options: ["size=1m"] }], target);
    },
    async run() {
      using _ = pretendMissing(...missing);
      await mountAll([{ type: "", source: "", options: ["remount", "ro", "size=2m", "nosuid"] }], target);
    },
    undo: () => unmount(target),
  };
}

/** So many layers of such long names that the page ends before they do. */
function privateThread(
  dir: string,
  mounting: (name: string, mounts: Mount[], missing: Feature[]) => Operation,
): Operation {
  const overlay = { type: "overlay", source: "o", options: [`lowerdir=${longLowers(dir).join(":")}`] };
  const operation = mounting("overlay, on a private thread", [overlay], beforeLayers);
  return {
    ...operation,
    async prepare() {
      for (const path of longLowers(dir)) await Deno.mkdir(path, { recursive: true });
    },
  };
}

function attaching(dir: string): Operation {
  let device: string | undefined;
  return {
    name: "attachLoop",
    tools: ["mkfs.ext4"],
    async run() {
      device = await attachLoop(`${dir}/image`);
    },
    async undo() {
      if (device !== undefined) await detachLoop(device);
      device = undefined;
    },
    cleanUp: () => detachAll(dir),
  };
}

function detaching(dir: string): Operation {
  let device: string | undefined;
  return {
    name: "detachLoop",
    tools: ["mkfs.ext4"],
    takes: true,
    async prepare() {
      device = await attachLoop(`${dir}/image`);
    },
    async run() {
      if (device !== undefined) await detachLoop(device);
    },
    cleanUp: () => detachAll(dir),
  };
}

/** A device that was attached to stay is its user's to detach, also where nobody lived to hear its name. */
async function detachAll(dir: string): Promise<void> {
  for (const device of loopDevices(dir)) {
    await detachLoop(`/dev/${device.split(" ")[0]}`);
  }
}

async function temporaryTheOlderWay(mounts: Mount[]): Promise<void> {
  using _ = pretendMissing(...beforeMountApi, ...beforeLayers);
  await withTempMount(mounts, () => {});
}

/** What a crash has left, as far as another process can tell. */
function cleaning(dir: string, left: Mount): Operation {
  const place = `${dir}/temporary/denomount-abcdef`;
  return {
    name: "cleanupTempMounts",
    takes: true,
    async prepare() {
      await setTempMountLocation(`${dir}/temporary`);
      await Deno.mkdir(`${place}/root`, { recursive: true });
      await mountAll([left], `${place}/root`);
    },
    async run() {
      const [error] = await cleanupTempMounts();
      if (error !== undefined) throw error;
    },
  };
}

function namespace(name: string, missing: Feature[]): Operation {
  let userns: OwnedFd | undefined;
  return {
    name,
    async run() {
      using _ = pretendMissing(...missing);
      userns = await createUserNamespace("0:100000:65536", "0:100000:65536");
    },
    undo() {
      userns?.close();
      return Promise.resolve();
    },
  };
}

/** The features' names, each asked for the first time by a module of its own. */
export const everyFeature = Object.keys(featureVersions) as readonly Feature[];

/** The mount that it is to see is no operation's, and goes by one call or another. */
function watching(name: string, target: string, missing: Feature[] = []): Operation {
  return {
    name,
    async run() {
      using _ = pretendMissing(...missing);
      await using events = watchMounts({ signal: AbortSignal.timeout(5000), changes: true });
      mount("watched", target, "tmpfs", 0, null);
      try {
        if (!await isToldOf(events, target)) throw new Error("the mount was not told of");
      } finally {
        try {
          umount2(target, MNT_DETACH);
        } catch {
          umount2(target, MNT_DETACH); // a harmed call, and the next is not
        }
      }
    },
  };
}

/** Other operations mount and unmount in the same namespace meanwhile, and a table's ids are soon given again. */
async function isToldOf(events: AsyncIterable<MountEvent>, target: string): Promise<boolean> {
  for await (const event of events) {
    if ((event.kind === "mounted" || event.kind === "moved") && event.mount.mountpoint === target) {
      return true;
    }
  }
  return false;
}

function features(): Operation {
  let count = 0;
  let fresh: typeof import("../../linux/syscalls/features.ts") | undefined;
  return {
    name: "hasFeature, for the first time",
    learns: true,
    async prepare() {
      fresh = await import(`../../linux/syscalls/features.ts?${count++}`);
    },
    run() {
      for (const feature of everyFeature) fresh?.hasFeature(feature);
      return Promise.resolve();
    },
    /** Asked again, unharmed, after what was but a moment's failure. */
    undo() {
      const forgotten = everyFeature.filter((feature) => !fresh?.hasFeature(feature));
      if (forgotten.length > 0) throw new Error(`taken for missing ever after: ${forgotten.join(", ")}`);
      return Promise.resolve();
    },
  };
}
