/**
 * The operations that faults are injected into, each with its preparation and its reversal. They run in the child.
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
import { managerOperations } from "./manager.ts";
import type { MoreCalls } from "./points.ts";

/** An operation of the library. */
export interface Operation {
  /** The name in the table. */
  name: string;
  /** The programs that it requires. */
  tools?: string[];
  /** True if it unmounts or detaches: a failure may leave what was prepared, and nothing else. */
  takes?: boolean;
  /** Prepares the operation. */
  prepare?(): Promise<void>;
  /** Runs the operation. */
  run(): Promise<void>;
  /** Reverses the operation; called after a failure too. */
  undo?(): Promise<void>;
  /** Cleans up what the operation leaves to its caller, besides mounts and temporary mounts. */
  cleanUp?(): Promise<void>;
  /** True if it changes a mount and may fail halfway: running it again completes it. */
  changes?: boolean;
  /** True if it writes files: its calls also get the errors of a disk. */
  writesFiles?: boolean;
  /** Calls that only this operation makes. */
  calls?: MoreCalls;
  /** An error that says that a clean-up has to follow. */
  reports?: RegExp;
  /** True if it probes for features, and remembers calls that are missing or forbidden. */
  learns?: boolean;
}

/** Creates the files that the operations use. */
export async function makeFiles(dir: string): Promise<void> {
  for (
    const name of ["source", "upper", "work", "target/inner", "temporary", "lower/one/inner", ...lowers(dir)]
  ) {
    await Deno.mkdir(name.startsWith("/") ? name : `${dir}/${name}`, { recursive: true });
  }
  await Deno.symlink("target", `${dir}/link`);
  for (const name of [`${dir}/source`, `${dir}/upper`, ...lowers(dir)]) {
    await Deno.writeTextFile(`${name}/data`, "data");
  }
}

/** Creates the file system image for the loop devices. */
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

/** Every operation, in a directory. */
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
  const fuse: Mount = { type: "fuse3.bindfs", source: `${dir}/source`, target: "/inner" }; // FUSE requires an empty directory
  const list: Mount[] = [tmpfs, readonly, overlay];
  const inner: Mount = { type: "tmpfs", source: "inner", target: "/made", options: ["X-mount.mkdir"] };
  const ext4 = ["mkfs.ext4"];
  const bindfs = ["mount.fuse3", "bindfs"];

  /** Mounts a list; undone by its handle. */
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

  /** Mounts a list in place of another one. */
  const replacing = (name: string, old: Mount[], mounts: Mount[]): Operation => {
    let stack: MountHandle | undefined;
    return {
      name,
      takes: true,
      async prepare() {
        await mountAll(old, target);
      },
      async run() {
        stack = await mountAll(mounts, target, { replace: true });
      },
      async undo() {
        await stack?.unmount();
      },
    };
  };

  /** Unmounts a list that was mounted before. */
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
    mounting("bind, read-only, with mount(2)", [readonly], beforeMountApi),
    mounting("bind, recursive, as a slave", [{ ...bind, options: ["rbind", "rslave"] }]),
    mounting("bind, recursive, as a slave, with mount(2)", [
      { ...bind, options: ["rbind", "rslave"] },
    ], beforeMountApi),
    mounting("bind, id-mapped", [{ ...bind, options: ["bind", "ro", ...maps] }]),
    mounting("bind, id-mapped, namespace from /proc", [
      { ...bind, options: ["bind", "ro", ...maps] },
    ], ["pidfdNamespaces"]),
    idMapped(dir),
    mounting("tmpfs", [tmpfs]),
    mounting("tmpfs, with mount(2)", [tmpfs], beforeMountApi),
    remounting("remount", dir, []),
    remounting("remount, with mount(2)", dir, beforeMountApi),
    mounting("overlay", [overlay]),
    mounting("overlay, with mount(2)", [overlay], [...beforeMountApi, ...beforeLayers]),
    privateThread(dir, mounting),
    mounting("overlay, id-mapped, detached", [mapped]),
    mounting("overlay, id-mapped, in a temporary mount", [mapped], ["detachedLayers"]),
    mounting("overlay, id-mapped, with mount(2)", [mapped], beforeLayers),
    mounting("loop, ext4", [image], [], ext4),
    mounting("loop, ext4, with mount(2)", [image], beforeMountApi, ext4),
    attaching(dir),
    detaching(dir),
    mounting("FUSE", [fuse], [], bindfs),
    replacing("replace", [tmpfs], [bind]),
    replacing("replace, a list in use by its own mounts", [tmpfs, inner], [tmpfs, inner]),
    { name: "withTempMount", run: () => withTempMount([tmpfs, overlay], () => {}) },
    { name: "withTempMount, with mount(2)", run: () => tempMountWithMount2([tmpfs, overlay]) },
    mounting("mountAll of three", list),
    mounting("mountAll of three, below one another", [
      overlay,
      { ...readonly, target: "/inner" },
      { ...tmpfs, target: "/inner" },
    ]),
    mounting("mountAll of four, assembled", [
      tmpfs,
      { ...readonly, target: "/made", options: [...readonly.options ?? [], "X-mount.mkdir"] },
      inner,
      { ...inner, target: "/made/inner" },
    ]),
    mounting("mountAll of three, with mount(2)", list, [...beforeMountApi, ...beforeLayers]),
    unmounting("unmount, tmpfs", [tmpfs], () => unmount(target)),
    unmounting("unmount, overlay", [overlay], () => unmount(target)),
    unmounting("unmount, overlay, before Linux 5.2", [overlay], () => unmount(target), beforeMountApi),
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
    unmounting("MountHandle.unmount of three", list, (stack) => stack?.unmount() ?? Promise.resolve()),
    unmounting(
      "MountHandle.unmount, a recursive bind",
      [{ ...bind, options: ["rbind"] }],
      (stack) => stack?.unmount() ?? Promise.resolve(),
    ),
    cleaning(dir, tmpfs),
    namespace("createUserNamespace", []),
    namespace("createUserNamespace, namespace from /proc", ["pidfdNamespaces"]),
    { name: "lookupMount", run: () => lookupMount(target).then(() => {}) },
    features(),
    watching("watchMounts", target),
    watching("watchMounts, with mountinfo", target, ["mountEvents"]),
    ...managerOperations(dir),
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

/** An overlay with more layers than fit into the page of mount(2)'s options. */
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

/** Detaches the loop devices of files in the directory, also those of a killed process. */
async function detachAll(dir: string): Promise<void> {
  for (const device of loopDevices(dir)) {
    await detachLoop(`/dev/${device.split(" ")[0]}`);
  }
}

async function tempMountWithMount2(mounts: Mount[]): Promise<void> {
  using _ = pretendMissing(...beforeMountApi, ...beforeLayers);
  await withTempMount(mounts, () => {});
}

/** Cleans up a temporary mount like that of a killed process. */
function cleaning(dir: string, left: Mount): Operation {
  const path = `${dir}/temporary/denomount-abcdef`;
  return {
    name: "cleanupTempMounts",
    takes: true,
    async prepare() {
      await setTempMountLocation(`${dir}/temporary`);
      await Deno.mkdir(`${path}/root`, { recursive: true });
      await mountAll([left], `${path}/root`);
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

/** The names of all features. */
export const everyFeature = Object.keys(featureVersions) as readonly Feature[];

/** Watches for a mount that is created by a plain system call. */
function watching(name: string, target: string, missing: Feature[] = []): Operation {
  return {
    name,
    async run() {
      using _ = pretendMissing(...missing);
      await using events = watchMounts({ signal: AbortSignal.timeout(5000), changes: true });
      mount("watched", target, "tmpfs", 0, null);
      try {
        if (!await isReported(events, target)) throw new Error("the mount was not reported");
      } finally {
        try {
          umount2(target, MNT_DETACH);
        } catch {
          umount2(target, MNT_DETACH); // only the first call gets the fault
        }
      }
    },
  };
}

/** Ignores events of other operations in the same namespace; a reused mount id makes a mount look moved. */
async function isReported(events: AsyncIterable<MountEvent>, target: string): Promise<boolean> {
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
    name: "hasFeature, first call",
    learns: true,
    async prepare() {
      fresh = await import(`../../linux/syscalls/features.ts?${count++}`);
    },
    run() {
      for (const feature of everyFeature) fresh?.hasFeature(feature);
      return Promise.resolve();
    },
    /** Asks again without a fault: a temporary failure must not count as a missing feature. */
    undo() {
      const missing = everyFeature.filter((feature) => !fresh?.hasFeature(feature));
      if (missing.length > 0) throw new Error(`remembered as missing: ${missing.join(", ")}`);
      return Promise.resolve();
    },
  };
}
