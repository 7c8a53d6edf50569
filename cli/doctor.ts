/**
 * `denomount doctor`: what works here, and what to do about the rest.
 *
 * @module
 */

import { createUserNamespace, type Feature, featureVersions, kernelFeatures } from "../mod.ts";
import { isErrno, O_RDONLY, O_RDWR, open, readAll } from "../linux/mod.ts";
import { green, red, yellow } from "./deps.ts";
import { print } from "./print.ts";

interface Finding {
  name: string;
  state: "yes" | "no" | "older";
  note?: string;
}

/** Each feature in words, and what is done without it. */
const features: Record<Feature, [string, string]> = {
  mountApi: ["detached binds, fsopen", "mount(2) is used"],
  mountSetattr: ["attributes in one step, id-mapped mounts", "a remount is used, and no id maps"],
  openat2: ["safe paths (openat2)", "paths are walked by hand"],
  overlayLayers: ["overlays without a page limit", "layers are shortened"],
  overlayDescriptors: ["overlay layers as descriptors", "their paths are used"],
  detachedLayers: ["id-mapped overlays without a temporary mount", "a temporary mount is used"],
  statmount: ["constant-time lookup (statmount)", "the mount table is read"],
  pidfdNamespaces: ["namespaces of a pidfd", "/proc is used"],
  mountEvents: ["mounts as they happen (fanotify)", "mount tables are compared"],
};

const programs: [string, string, string][] = [
  ["mount.fuse3", "FUSE mounts", "fuse3"],
  ["fusermount3", "FUSE without root", "fuse3"],
  ["unshare", "run", "util-linux"],
];

/**
 * Prints what this kernel, this user and this Deno can do.
 *
 * @param flags as JSON.
 * @returns the exit status: 1 where nothing can be mounted at all.
 */
export async function doctor(flags: { json?: true }): Promise<number> {
  const rights = await findRights();
  const findings = [
    ...rights,
    ...mayProbe(rights) ? [] : [
      {
        name: "the kernel's features",
        state: "no" as const,
        note: "to see them, run it as root, or by unshare -Urm",
      },
    ],
    ...mayProbe(rights) ? kernelFindings() : [],
    device("loop devices", "/dev/loop-control", "modprobe loop, as root"),
    device("FUSE", "/dev/fuse", "modprobe fuse"),
    ...programs.map(program),
  ];
  if (flags.json) print(JSON.stringify({ kernel: kernel(), deno: Deno.version.deno, findings }, null, 2));
  else {
    print(`Linux ${kernel()}, ${Deno.build.arch}, Deno ${Deno.version.deno}`);
    for (const finding of findings) print(line(finding));
  }
  return rights.some(({ state }) => state === "yes") ? 0 : 1;
}

function kernelFindings(): Finding[] {
  const here = kernelFeatures();
  return Object.entries(features).map(([feature, [name, instead]]): Finding =>
    here[feature as Feature]
      ? { name, state: "yes" }
      : { name, state: "older", note: `needs Linux ${featureVersions[feature as Feature]}; ${instead}` }
  );
}

function mayProbe([mounting]: readonly Finding[]): boolean {
  return mounting?.state === "yes";
}

function kernel(): string {
  return textOf("/proc/sys/kernel/osrelease");
}

function textOf(path: string): string {
  using file = open(path, O_RDONLY);
  return new TextDecoder().decode(readAll(file.fd)).trim();
}

const CAP_SYS_ADMIN = 21n; // linux/capability.h

async function findRights(): Promise<Finding[]> {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(textOf("/proc/self/status"))?.[1] ?? "0";
  const mayMount = (BigInt(`0x${effective}`) >> CAP_SYS_ADMIN & 1n) === 1n;
  const mount: Finding = mayMount ? { name: "mounting (CAP_SYS_ADMIN)", state: "yes" } : {
    name: "mounting (CAP_SYS_ADMIN)",
    state: "no",
    note: "run as root, or in a user namespace: unshare -Urm",
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
    // An ordinary user may map groups only after setgroups(2) was given up, which unshare(1) does.
    if (error.syscall === "write") return { name, state: "yes", note: "for your own id alone" };
    const note = "see the sysctls user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns";
    return { name, state: "no", note };
  }
}

function device(name: string, path: string, remedy: string): Finding {
  try {
    open(path, O_RDWR).close();
    return { name, state: "yes" };
  } catch (error) {
    if (isErrno(error, "EACCES", "EPERM")) return { name, state: "no", note: `${path} is for root` };
    if (isErrno(error, "ENOENT", "ENODEV", "ENXIO")) {
      return { name, state: "no", note: `there is no ${path}: ${remedy}` };
    }
    throw error;
  }
}

function program([name, what, debianPackage]: [string, string, string]): Finding {
  const directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
  const found = directories.some((directory) => exists(`${directory}/${name}`));
  if (found) return { name: `${name}, for ${what}`, state: "yes" };
  return { name: `${name}, for ${what}`, state: "no", note: `install the package ${debianPackage}` };
}

function exists(path: string): boolean {
  try {
    open(path, O_RDONLY).close();
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES", "ENOTDIR")) return false;
    throw error;
  }
}

function line({ name, state, note }: Finding): string {
  const mark = { yes: green("yes  "), no: red("no   "), older: yellow("older") }[state];
  return `${mark}  ${name}${note ? `: ${note}` : ""}`;
}
