/**
 * A snapshotter of this library, served on a socket of its own, and a client of it.
 *
 * @module
 */

import {
  Containerd,
  LocalSnapshotter,
  type LocalSnapshotterOptions,
  serveSnapshotter,
  type SnapshotsClient,
} from "../../containerd/mod.ts";
import { mountAll, type MountHandle } from "../../mod.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";

/**
 * Registers a test of the server side; it needs root, and no containerd.
 *
 * @param name the rule that the test checks.
 * @param fn the test.
 * @param needs what it requires besides.
 */
export function serverTest(
  name: string,
  fn: (t: KernelContext) => void | Promise<void>,
  needs: Needs = {},
): void {
  const permissions = { run: true, env: true, net: true, sys: true } as const;
  kernelTest(name, { root: true, notEmulated: "it needs the gRPC package", permissions, ...needs }, fn);
}

/** The labels that map a container's root to the user 100000. */
export const MAPPED = {
  "containerd.io/snapshot/uidmapping": "0:100000:65536",
  "containerd.io/snapshot/gidmapping": "0:100000:65536",
};

/** A served snapshotter. */
export interface Served extends AsyncDisposable {
  /** The snapshotter itself. */
  local: LocalSnapshotter;
  /** A client of its server. */
  snapshots: SnapshotsClient;
}

/**
 * Serves a snapshotter with its root and its socket in a directory.
 *
 * @param directory the directory.
 * @param options how to open the snapshotter.
 * @returns the snapshotter, whose end leaves what is in the directory.
 */
export async function serve(
  directory: string,
  options: Partial<LocalSnapshotterOptions> = {},
): Promise<Served> {
  await using stack = new AsyncDisposableStack();
  const local = stack.use(await LocalSnapshotter.open({ root: `${directory}/root`, ...options }));
  stack.use(await serveSnapshotter(local, { socket: `${directory}/sock` }));
  const client = stack.use(new Containerd({ address: `${directory}/sock` }));
  const owned = stack.move();
  return {
    local,
    snapshots: client.snapshots("served"),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Mounts what a snapshotter gives, calls a function with the mountpoint, and unmounts it. */
export async function within<T>(
  mounts: Parameters<typeof mountAll>[0],
  target: string,
  use: (target: string) => T | Promise<T>,
): Promise<T> {
  await using _mounted: MountHandle = await mountAll(mounts, target);
  return await use(target);
}

/** Makes a layer of a function's files. */
export async function addLayer(
  snapshots: Pick<SnapshotsClient, "prepare" | "commit">,
  name: string,
  parent: string,
  target: string,
  write: (target: string) => void | Promise<void>,
  labels: Record<string, string> = {},
): Promise<void> {
  await within(await snapshots.prepare(`${name}-making`, parent, { labels }), target, write);
  await snapshots.commit(name, `${name}-making`);
}

/** Removes all snapshots, children first; returns how many there were. */
export async function removeAll(snapshots: Pick<SnapshotsClient, "list" | "remove">): Promise<number> {
  let count = 0;
  for (;;) {
    const all = await Array.fromAsync(snapshots.list());
    if (all.length === 0) return count;
    const parents = new Set(all.map(({ parent }) => parent));
    const leaves = all.filter(({ name }) => !parents.has(name));
    for (const { name } of leaves) await snapshots.remove(name);
    count += leaves.length;
  }
}
