/**
 * `denomount doctor`: what this system supports, and how to get the rest.
 *
 * @module
 */

import { createUserNamespace, type Feature, featureVersions, kernelFeatures } from "../mod.ts";
import { isErrno, O_RDWR, open } from "../linux/mod.ts";
import { ActivationRecord } from "../linux/manager/record.ts";
import { findProgram } from "../linux/path/program.ts";
import { readTextFile } from "../linux/path/text_file.ts";
import { leftTempDirectories } from "../linux/temp/temp_directory.ts";
import { green, red, yellow } from "./deps.ts";
import { managerExists, managerRoot, openManager } from "./manager.ts";
import { escapeControl, print } from "./print.ts";

interface Finding {
  name: string;
  state: "yes" | "no" | "older";
  note?: string;
}

/** The name of each feature and its fallback. */
const features: Record<Feature, [string, string]> = {
  mountApi: ["detached binds, fsopen", "mount(2) is used"],
  mountSetattr: ["attributes in one call, id-mapped mounts", "a remount is used; id maps fail"],
  nosymfollow: ["nosymfollow of a detached mount", "mount(2) is used"],
  openat2: ["safe path resolution (openat2)", "each path component is opened separately"],
  overlayLayers: ["overlays without a page limit", "layer paths are shortened"],
  overlayDescriptors: ["overlay layers as descriptors", "layer paths are used"],
  detachedLayers: ["id-mapped overlays without a temporary mount", "a temporary mount is used"],
  statmount: ["constant-time lookup (statmount)", "the mount table is read"],
  pidfdNamespaces: ["namespaces from a pidfd", "/proc is used"],
  mountEvents: ["mount events (fanotify)", "mount tables are compared"],
  mountBeneath: ["replacing a mount (up --replace)", "--replace is refused"],
  detachedTargets: ["mounts inside of a detached mount", "a temporary mount is used"],
};

const programs: [string, string, string][] = [
  ["mount.fuse3", "FUSE mounts", "fuse3"],
  ["fusermount3", "FUSE without root", "fuse3"],
  ["unshare", "run without root and run --private", "util-linux"],
  ["chroot", "run --chroot", "coreutils"],
  ["blkid", "the type of a disk or image, LABEL= and UUID=", "util-linux"],
  ["mkfs.ext4", "images that the mount manager makes", "e2fsprogs"],
  ["mkfs.xfs", "images that the mount manager makes", "xfsprogs"],
  ["mkfs.btrfs", "images that the mount manager makes", "btrfs-progs"],
];

/**
 * Prints what this kernel, user and Deno support.
 *
 * @param flags whether to print JSON.
 * @returns the exit status: 1 if this user can mount nothing, not even in a user namespace.
 */
export async function doctor(flags: { json?: true }): Promise<number> {
  const rights = await findRights();
  const findings = [
    ...rights,
    ...mayProbe(rights) ? [] : [
      {
        name: "the kernel's features",
        state: "no" as const,
        note: "run as root, or in a user namespace (unshare -Urm), to probe them",
      },
    ],
    ...mayProbe(rights) ? kernelFindings() : [],
    device("loop devices", "/dev/loop-control", "modprobe loop, as root"),
    device("FUSE", "/dev/fuse", "modprobe fuse"),
    ...programs.map(program),
    await managerRecord(),
    await temporaryMounts(),
  ];
  if (flags.json) print(JSON.stringify({ kernel: kernel(), deno: Deno.version.deno, findings }, null, 2));
  else {
    print(`Linux ${kernel()}, ${Deno.build.arch}, Deno ${Deno.version.deno}`);
    for (const finding of findings) print(line(finding));
  }
  return rights.some(({ state }) => state === "yes") ? 0 : 1;
}

function kernelFindings(): Finding[] {
  const supported = kernelFeatures();
  return Object.entries(features).map(([feature, [name, fallback]]): Finding =>
    supported[feature as Feature]
      ? { name, state: "yes" }
      : { name, state: "older", note: `needs Linux ${featureVersions[feature as Feature]}; ${fallback}` }
  );
}

function mayProbe([mounting]: readonly Finding[]): boolean {
  return mounting?.state === "yes";
}

function kernel(): string {
  return textOf("/proc/sys/kernel/osrelease");
}

function textOf(path: string): string {
  return readTextFile(path).trim();
}

const CAP_SYS_ADMIN = 21n; // linux/capability.h

async function findRights(): Promise<Finding[]> {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(textOf("/proc/self/status"))?.[1] ?? "0";
  const mayMount = (BigInt(`0x${effective}`) >> CAP_SYS_ADMIN & 1n) === 1n;
  const mount: Finding = mayMount ? { name: "mounting (CAP_SYS_ADMIN)", state: "yes" } : {
    name: "mounting (CAP_SYS_ADMIN)",
    state: "no",
    note: "run as root, or in a user namespace (unshare -Urm)",
  };
  return [mount, await userNamespaces()];
}

async function userNamespaces(): Promise<Finding> {
  const name = "user namespaces";
  try {
    using _userns = await createUserNamespace(`0:${Deno.uid()}:1`, `0:${Deno.gid()}:1`);
    return { name, state: "yes" };
  } catch (error) {
    if (!isErrno(error, "EPERM", "EACCES", "ENOSPC", "EINVAL", "ENOSYS")) throw error;
    // Without CAP_SETGID, a process must deny setgroups(2) before it writes gid_map; unshare(1) does.
    if (error.syscall === "write") return { name, state: "yes", note: "for your own id only" };
    const note = "see the sysctls user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns";
    return { name, state: "no", note };
  }
}

function device(name: string, path: string, remedy: string): Finding {
  try {
    open(path, O_RDWR).close();
    return { name, state: "yes" };
  } catch (error) {
    if (isErrno(error, "EACCES", "EPERM")) return { name, state: "no", note: `only root may open ${path}` };
    if (isErrno(error, "ENOENT", "ENODEV", "ENXIO")) {
      return { name, state: "no", note: `${path} does not exist: ${remedy}` };
    }
    throw error;
  }
}

function program([name, purpose, debianPackage]: [string, string, string]): Finding {
  if (findProgram(name) !== undefined) return { name: `${name}, for ${purpose}`, state: "yes" };
  return { name: `${name}, for ${purpose}`, state: "no", note: `install the package ${debianPackage}` };
}

/** Opens the record where there is one: another process may be using it. */
async function managerRecord(): Promise<Finding> {
  const finding = (state: Finding["state"], note: string): Finding => ({
    name: "the mount manager's record",
    state,
    note,
  });
  try {
    const root = managerRoot();
    if (!await managerExists(root)) {
      (await ActivationRecord.open(":memory:"))[Symbol.dispose]();
      return finding("yes", `made in ${root} at the first use`);
    }
    await using manager = await openManager({});
    const all = await Array.fromAsync(manager.list());
    return finding("yes", `in ${root}, activations: ${all.length}`);
  } catch (error) {
    return finding("no", error instanceof Error ? error.message : String(error));
  }
}

/** What killed processes have left. */
async function temporaryMounts(): Promise<Finding> {
  const name = "no temporary mount is left";
  try {
    const { length } = await leftTempDirectories();
    if (length === 0) return { name, state: "yes" };
    const what = length === 1 ? "a killed process has left one" : `killed processes have left ${length}`;
    return { name, state: "no", note: `${what}; "denomount cleanup" unmounts it` };
  } catch (error) {
    return { name, state: "no", note: error instanceof Error ? error.message : String(error) };
  }
}

function line({ name, state, note }: Finding): string {
  const mark = { yes: green("yes  "), no: red("no   "), older: yellow("older") }[state];
  return `${mark}  ${name}${note ? `: ${escapeControl(note)}` : ""}`;
}
