/**
 * A node for the tests: images and containers on our snapshotter under a real containerd, and their removal.
 *
 * @module
 */

import type { Snapshotter } from "../../containerd/mod.ts";
import { assertEquals } from "../assert.ts";
import type { KernelContext } from "../harness.ts";
import { descendants, names, readText } from "../kernel.ts";
import { describeTree } from "../manager/digest_tree.ts";
import type { Daemon } from "./daemon.ts";
import { IMAGE, type Image } from "./image.ts";
import { within } from "./served.ts";
import type { SnapshotterProcess } from "./snapshotter_process.ts";
import type { Entry } from "./tar.ts";

/**
 * Whether all moments and containers are tried (`deno task test:node`), or a sample of them: a container takes a second.
 */
export const isWhole: boolean = Deno.env.get("DENOMOUNT_NODE") === "true";

/** Makes directories that a container's root may pass. */
export function makePassable(t: KernelContext, ...made: string[]): void {
  for (const path of [t.dir, ...made.map((name) => t.make(name))]) Deno.chmodSync(path, 0o711);
}

/** The lines of a tree; without the time of its root, which is that of the upper directory. */
export async function treeOf(dir: string): Promise<string[]> {
  const [root = "", ...others] = await describeTree(dir);
  return [root.replace(/ \d+\.\d{9} /, " "), ...others];
}

/** The tree of an image's topmost layer, by a view that is removed again. */
export async function treeOfTop(
  snapshots: Snapshotter,
  { chainIds }: Image,
  mnt: string,
): Promise<string[]> {
  const tree = await within(await snapshots.view("looking", chainIds.at(-1) ?? ""), mnt, treeOf);
  await snapshots.remove("looking");
  return tree;
}

/** The names of the snapshots, as the snapshotter itself lists them. */
export async function keys(process: SnapshotterProcess): Promise<string[]> {
  await using direct = process.client();
  return await Array.fromAsync(direct.snapshots("denomount").list(), ({ name }) => name);
}

const files = ({ root }: SnapshotterProcess) => [...names(`${root}/snapshots`), ...names(`${root}/trash`)];

const ATTEMPTS = 30;
const PAUSE = 500; // ms

/** Tries again what fails while containerd connects again or ends a container; the last error is thrown. */
export async function retrying<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1;; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }
}

/** Removes the containers, and the snapshots that no image and no container needs. */
export async function removeContainers(daemon: Daemon): Promise<void> {
  const all = async (...args: string[]) => (await daemon.ctr(...args, "--quiet")).filter(Boolean);
  for (const id of await all("tasks", "ls")) await daemon.ctr("tasks", "delete", "--force", id);
  for (const id of await all("containers", "ls")) await daemon.ctr("containers", "delete", id);
  for (const id of await all("leases", "ls")) await daemon.ctr("leases", "delete", "--sync", id);
  await daemon.collectGarbage();
}

/** Removes containers and images as an administrator does, and checks that nothing is left of the snapshots. */
export async function removeEverything(daemon: Daemon, process: SnapshotterProcess): Promise<void> {
  await retrying(async () => {
    for (const name of (await daemon.ctr("images", "ls", "--quiet")).filter(Boolean)) {
      await daemon.ctr("images", "rm", "--sync", name);
    }
    await removeContainers(daemon);
    assertEquals([await keys(process), files(process)], [[], []]);
  });
}

/** Sixty layers with a program: each changes a file, and some remove what those below them have. */
export function sixtyLayers(): Entry[][] {
  const lowest: Entry[] = [
    { path: "bin/", type: "directory" },
    { path: "bin/busybox", type: "file", mode: 0o755, content: Deno.readFileSync("/bin/busybox") },
    ...["proc/", "dev/", "sys/", "run/", "etc/", "opaque/"].map((path): Entry => ({
      path,
      type: "directory",
    })),
  ];
  const others = Array.from({ length: 59 }, (_, below): Entry[] => {
    const index = below + 1;
    return [
      { path: "changed", type: "file", content: `${index}` },
      { path: `file-${index}`, type: "file", uid: 7, gid: 8, content: `${index}` },
      ...index % 3 === 0 ? [{ path: `.wh.file-${index - 1}`, type: "file" } as const] : [],
      { path: "opaque/", type: "directory" },
      ...index % 7 === 0 ? [{ path: "opaque/.wh..wh..opq", type: "file" } as const] : [],
      { path: `opaque/${index}`, type: "file", content: "visible" },
    ];
  });
  return [lowest, ...others];
}

/** With what the names of the containers begin; runc's state is this machine's. */
export const NAME = `denomount-${Deno.pid}`;

/** What gives a container a user namespace of mapped ids. */
export const USER_NAMESPACE = ["--remap-labels", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];

/**
 * The arguments of `ctr run`.
 *
 * @param snapshotter the snapshotter of its root.
 * @param script what a shell runs in the container.
 * @param options more options.
 * @param name the container's name.
 */
export function container(
  snapshotter: string,
  script: string,
  options: readonly string[],
  name: string,
): string[] {
  const program = ["/bin/busybox", "sh", "-c", script];
  return ["run", "--snapshotter", snapshotter, ...options, IMAGE, name, ...program];
}

let attempts = 0;

/**
 * Runs a container; again if its shim was starved of a processor, which takes its container with it. The next one has
 * another name: containerd keeps the directory of the first.
 */
export function runContainer(daemon: Daemon, args: (name: string) => readonly string[]): Promise<string[]> {
  return retrying(async () => {
    await removeContainers(daemon);
    return await daemon.ctr(...args(`${NAME}-${attempts++}`));
  });
}

/** The shims of the containers whose name begins so, with all processes below them. */
export function processesOf(name: string): number[] {
  const isShim = (pid: string) => {
    const [program = "", ...words] = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
    return program.endsWith("/containerd-shim-runc-v2") && words.some((word) => word.startsWith(name));
  };
  const shims = names("/proc").filter((pid) => /^\d+$/.test(pid) && isShim(pid)).map(Number);
  return shims.flatMap((pid) => [pid, ...descendants(pid).map(({ pid }) => pid)]);
}

/** Kills processes; those that have ended are nothing. */
export function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound) && !String(error).includes("os error 3")) throw error; // it has ended
    }
  }
}

/** Kills the containers that a test that failed has left. */
export function endContainers(): Disposable {
  return { [Symbol.dispose]: () => killAll(processesOf(NAME)) };
}
