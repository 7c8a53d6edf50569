/**
 * Tests that mount on the running kernel, each with its own directory and permissions; fails a test that leaves anything
 * behind.
 *
 * @module
 */

import { assertEquals } from "./assert.ts";
import { kernelHas, type TestFeature } from "./feature.ts";
import {
  descendants,
  killDescendants,
  loopDevices,
  loopDevicesLeft,
  mountTable,
  names,
  openFiles,
  readText,
  type Row,
  waits,
} from "./kernel.ts";
import * as raw from "./raw.ts";

/** What a test function receives. */
export interface KernelContext {
  /** A temporary directory for this test alone. */
  dir: string;
  /** Creates directories below `dir`; returns the path of the first. */
  make(...names: string[]): string;
  /** The current mounts below `dir`, with mountpoints relative to it. */
  mounts(): Row[];
}

/** What a test requires; it is skipped or not registered without it. */
export interface Needs {
  /** Registers the test only for root in the initial user namespace. */
  root?: boolean;
  /** Registers the test only on a kernel with all of these features. */
  features?: readonly TestFeature[];
  /** Why the test can't run in the emulated machines of `deno task test:kernels`. */
  notEmulated?: string;
  /** Programs that must be installed; the test gets permission to run them. */
  tools?: string[];
  /** Permissions beyond `ffi`, `read` and `write`. */
  permissions?: Deno.PermissionOptionsObject;
  /**
   * Mounts the test's directory on itself, private: for a test that moves mounts, or reads the propagation of new ones.
   * It is no row of `mounts()`.
   */
  privateDirectory?: boolean;
  /** The time in which the test ends, in seconds, ten times that in an emulated machine; 120 if left out. */
  deadline?: number;
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
  mkntfs: "ntfs-3g",
  "mount.ntfs-3g": "ntfs-3g",
  blkid: "util-linux",
  partx: "util-linux",
  groff: "groff-base",
  unshare: "util-linux",
  mount: "mount",
  umount: "mount",
  nsenter: "util-linux",
  setpriv: "util-linux",
  setsid: "util-linux",
  "systemd-socket-activate": "systemd",
  busybox: "busybox-static",
  dd: "coreutils",
  timeout: "coreutils",
  stat: "coreutils",
  cc: "gcc, libc6-dev and linux-libc-dev",
  mknod: "coreutils",
  script: "bsdutils",
  bash: "bash",
  bwrap: "bubblewrap",
  sh: "dash",
  chroot: "coreutils",
  xz: "xz-utils",
  zsh: "zsh",
  fish: "fish",
  strace: "strace",
  tar: "tar",
  git: "git",
  ctr: "containerd",
  containerd: "containerd",
  runc: "runc",
};

/** Whether this process is root in the initial user namespace. */
export const hasRoot = /^\s*0\s+0\s+4294967295\s*$/.test(readText("/proc/self/uid_map") ?? "") &&
  Deno.uid() === 0;

/** Whether this is an emulated machine of `deno task test:kernels`, where a test takes some ten times longer. */
export const isEmulated = Deno.env.get("DENOMOUNT_EMULATED") === "true";

/** The pids of processes in mount namespaces that get this one's mounts; scripts/test.ts starts them. */
const beside = (Deno.env.get("DENOMOUNT_BESIDE") ?? "").split(",").filter(Boolean).map(Number);

/** The file that says which test runs and when it must have ended; scripts/test.ts ends a process that is later. */
const heartbeat = Deno.env.get("DENOMOUNT_HEARTBEAT");

function beat(test: string, seconds: number): void {
  if (heartbeat === undefined) return;
  Deno.writeTextFileSync(heartbeat, JSON.stringify({ test, end: Date.now() + 1000 * seconds }));
}

function findTool(name: string): string | undefined {
  return ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].find((directory) => names(directory).includes(name));
}

/**
 * Registers a test that fails if it leaves a mount, loop device, descriptor or temporary directory behind.
 *
 * @param name the rule that the test checks.
 * @param needs what it requires.
 * @param fn the test.
 */
export function kernelTest(name: string, needs: Needs, fn: (t: KernelContext) => void | Promise<void>): void {
  if (needs.root && !hasRoot) return;
  const missingFeatures = (needs.features ?? []).filter((feature) => !kernelHas(feature));
  if (missingFeatures.length > 0) {
    return console.log(`"${name}" needs the kernel features ${missingFeatures.join(", ")}`);
  }
  if (needs.notEmulated !== undefined && isEmulated) {
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
    async fn() {
      if (missing.length > 0) throw new Error(`missing: ${missing.join(", ")}`);
      const dir = Deno.makeTempDirSync({ prefix: "denomount-test-" });
      const before = machine(dir);
      if (needs.privateDirectory) raw.bindPrivate(raw.utf8(dir));
      let failure: unknown;
      try {
        await withDeadline(
          name,
          (needs.deadline ?? 120) * (isEmulated ? 10 : 1),
          () => fn(context(dir, needs.privateDirectory)),
        );
      } catch (error) {
        failure = error;
      }
      await loopDevicesLeft(dir); // those of the test may be open in another process, which looks at all of them
      await filesSettled(before.files);
      try {
        if (needs.privateDirectory) raw.umount(raw.utf8(dir));
        removeTree(dir);
      } catch (error) {
        throw failure ?? error; // the first error explains why mounts are left
      }
      if (failure !== undefined) throw failure;
      assertEquals(machine(dir), before, "the test left something behind");
    },
  });
}

/**
 * Waits for descriptors that close by themselves: a call that the test has abandoned gets one when its server ends, and a
 * loop device of another process may still be asked.
 */
async function filesSettled(before: readonly string[]): Promise<void> {
  for (let tries = 0; tries < 250 && openFiles().join() !== before.join(); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const GRACE = 20; // seconds in which a test that is too late cleans up
const BETWEEN = 900; // seconds between two tests of this harness, in which other tests run

/** Runs a test; if it does not end in time, kills the processes that it has started, and throws what it waited for. */
async function withDeadline(
  name: string,
  seconds: number,
  run: () => void | Promise<void>,
): Promise<void> {
  beat(`"${name}"`, seconds + 2 * GRACE);
  const older = descendants(Deno.pid).map(({ pid }) => pid);
  try {
    using deadline = timer(seconds); // before the test can replace setTimeout()
    const ended = (async () => await run())();
    if (await Promise.race([ended.then(() => true), deadline.over])) return;
    const waited = waits(Deno.pid).join("\n  ");
    killDescendants(Deno.pid, older);
    using grace = timer(GRACE);
    await Promise.race([ended.catch(() => {}), grace.over]); // the lateness is the failure
    throw new Error(`"${name}" did not end in ${seconds} seconds; it waited with\n  ${waited}`);
  } finally {
    beat(`a test after "${name}"`, BETWEEN);
  }
}

/** A promise of false at the end of a time. */
function timer(seconds: number): Disposable & { over: Promise<false> } {
  const { promise, resolve } = Promise.withResolvers<false>();
  const id = setTimeout(() => resolve(false), 1000 * seconds);
  return { over: promise, [Symbol.dispose]: () => clearTimeout(id) };
}

function context(dir: string, isPrivate = false): KernelContext {
  return {
    dir,
    make(...names) {
      for (const name of names) Deno.mkdirSync(`${dir}/${name}`, { recursive: true });
      return `${dir}/${names[0] ?? ""}`;
    },
    mounts: () =>
      mountTable().filter(({ mountpoint }) => mountpoint.startsWith(dir)).slice(isPrivate ? 1 : 0).map((
        row,
      ) => ({
        ...row,
        mountpoint: row.mountpoint.slice(dir.length),
      })),
  };
}

/** Refuses if anything is still mounted below: a failed test must not delete data of the mounted file system. */
function removeTree(dir: string): void {
  const left = mountTable().filter(({ mountpoint }) => mountpoint.startsWith(dir)).map((row) =>
    row.mountpoint
  );
  if (left.length > 0) throw new Error(`still mounted: ${left.join(", ")}`);
  Deno.removeSync(dir, { recursive: true });
}

/** What a test could leave behind, limited to its own directory because other programs use the machine too. */
function machine(dir: string) {
  return {
    mounts: mountTable(),
    beside: beside.map((pid) => mountTable(pid)),
    loops: loopDevices(dir),
    files: openFiles(),
    temporary: names("/tmp").filter((name) => /^denomount-\w{6}$/.test(name)), // as mkdtemp(3) names them
    directory: Deno.cwd(),
  };
}
