/**
 * Tests on the real kernel: each in a directory of its own, with the permissions that it declares, and with a look at
 * the machine before and after.
 *
 * @module
 */

import { assertEquals } from "./assert.ts";
import { kernelHas, type TestFeature } from "./feature.ts";
import { loopDevices, mountTable, names, openFiles, readText, type Row } from "./kernel.ts";

/** What a test gets. */
export interface KernelContext {
  /** A directory of its own. */
  dir: string;
  /** Deno's own test context, for steps. */
  step: Deno.TestContext["step"];
  /** Makes directories below `dir` and returns the first one's path. */
  make(...names: string[]): string;
  /** The mounts below `dir` now, mountpoints relative to it. */
  mounts(): Row[];
}

/** What a test needs. */
export interface Needs {
  /** Registered only with root's rights on the whole machine. */
  root?: boolean;
  /** Registered only on a kernel that has all of them. */
  features?: readonly TestFeature[];
  /** Why it does not run in an emulated machine, as `deno task test:kernels` has them. */
  notEmulated?: string;
  /** Programs, which the test may run. */
  tools?: string[];
  /** More than the library's own `ffi`, `read` and `write`. */
  permissions?: Deno.PermissionOptionsObject;
}

const packages: Record<string, string> = {
  "mkfs.ext4": "e2fsprogs",
  "mkfs.xfs": "xfsprogs",
  "mkfs.btrfs": "btrfs-progs",
  mksquashfs: "squashfs-tools",
  "mkfs.erofs": "erofs-utils",
  "mount.fuse3": "fuse3",
  "fuse-overlayfs": "fuse-overlayfs",
  bindfs: "bindfs",
  unshare: "util-linux",
  mount: "mount",
  umount: "mount",
  nsenter: "util-linux",
  setpriv: "util-linux",
  busybox: "busybox-static",
  stat: "coreutils",
  mknod: "coreutils",
  script: "bsdutils",
  strace: "strace",
  tar: "tar",
  ctr: "containerd",
};

/** Whether these are root's rights on the whole machine, not those of a user namespace. */
export const hasRoot = /^\s*0\s+0\s+4294967295\s*$/.test(readText("/proc/self/uid_map") ?? "") &&
  Deno.uid() === 0;

function findTool(name: string): string | undefined {
  return ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].find((directory) => names(directory).includes(name));
}

/**
 * Registers a test that leaves the machine as it found it.
 *
 * @param name the rule that it holds.
 * @param needs what it needs.
 * @param fn the test.
 */
export function kernelTest(name: string, needs: Needs, fn: (t: KernelContext) => void | Promise<void>): void {
  if (needs.root && !hasRoot) return;
  const lacking = (needs.features ?? []).filter((feature) => !kernelHas(feature));
  if (lacking.length > 0) return console.log(`"${name}" needs ${lacking.join(", ")} of the kernel`);
  if (needs.notEmulated !== undefined && Deno.env.get("DENOMOUNT_EMULATED") === "true") {
    return console.log(`"${name}" does not run in an emulated machine: ${needs.notEmulated}`);
  }
  const missing = (needs.tools ?? []).filter((tool) => findTool(tool) === undefined);
  const strict = Deno.env.get("CI") === "true";
  for (const tool of missing) console.log(`"${name}" needs the package ${packages[tool] ?? tool}`);
  const run = (needs.tools ?? []).flatMap((tool) => {
    const directory = findTool(tool);
    return directory === undefined ? [] : [`${directory}/${tool}`, tool];
  });
  Deno.test({
    name,
    ignore: missing.length > 0 && !strict,
    permissions: {
      ffi: true,
      read: true,
      write: true,
      ...(run.length > 0 ? { run } : {}),
      ...needs.permissions,
    },
    async fn(t) {
      if (missing.length > 0) throw new Error(`missing: ${missing.join(", ")}`);
      const dir = Deno.makeTempDirSync({ prefix: "denomount-test-" });
      const before = machine(dir);
      let failure: unknown;
      try {
        await fn(context(t, dir));
      } catch (error) {
        failure = error;
      }
      try {
        removeTree(dir);
      } catch (error) {
        throw failure ?? error; // what went wrong first explains what is left
      }
      if (failure !== undefined) throw failure;
      assertEquals(machine(dir), before, "the test left something behind");
    },
  });
}

function context(t: Deno.TestContext, dir: string): KernelContext {
  return {
    dir,
    step: t.step.bind(t),
    make(...names) {
      for (const name of names) Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
      return `${dir}/${names[0] ?? ""}`;
    },
    mounts: () =>
      mountTable().filter(({ mountpoint }) => mountpoint.startsWith(dir)).map((row) => ({
        ...row,
        mountpoint: row.mountpoint.slice(dir.length),
      })),
  };
}

/** Never across a mount: what is mounted there is somebody's data, and a failed test must not delete it. */
function removeTree(dir: string): void {
  const left = mountTable().filter(({ mountpoint }) => mountpoint.startsWith(dir)).map((row) =>
    row.mountpoint
  );
  if (left.length > 0) throw new Error(`still mounted: ${left.join(", ")}`);
  Deno.removeSync(dir, { recursive: true });
}

/** What a test could leave behind; another program may be at work on this machine at the same time. */
function machine(dir: string) {
  return {
    mounts: mountTable(),
    loops: loopDevices(dir),
    files: openFiles(),
    temporary: names("/tmp").filter((name) => /^denomount-\w{6}$/.test(name)), // as mkdtemp(3) names them
    directory: Deno.cwd(),
  };
}
