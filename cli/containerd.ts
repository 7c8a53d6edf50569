/**
 * `denomount ls`, `up` and `down` with `--containerd`: what a node of containerd has, and its snapshots on a target.
 *
 * Only these load gRPC: the command imports this file when it needs it.
 *
 * @module
 */

import {
  type Activation,
  type ActiveMount,
  Containerd,
  ContainerdError,
  DeadlineExceededError,
  NotFoundError,
  type SnapshotInfo,
  type SnapshotsClient,
  UnavailableError,
  UnimplementedError,
} from "../containerd/mod.ts";
import { labelOf, needsManager } from "../containerd/mount_snapshot.ts";
import { ensureAnswers } from "../linux/path/cached_lookup.ts";
import { type Mount, unmountMounts, type UnmountOptions } from "../mod.ts";
import type { SnapshotKey } from "./arguments.ts";
import { bold, dim } from "./deps.ts";
import { errorMessage } from "./errors.ts";
import { managerRoot, variable } from "./manager.ts";
import { columns, escapeControl, print, printError, sizeText } from "./print.ts";
import { withProgress } from "./progress.ts";
import { treeLines, type TreeNode } from "./tree.ts";
import { deactivateFound, find, hasMounts, lockTarget, nameFor, removeUnmounted } from "./managed_list.ts";
import { mountAndPrint } from "./up.ts";

/** Where containerd is, and for whom it works. */
export interface ContainerdFlags {
  /** The path of its socket. */
  address?: string;
  /** Its namespace. */
  namespace?: string;
}

/** The containerd of the options, or of the environment, as ctr(8) finds it. */
function open(
  { address = fromEnvironment("ADDRESS"), namespace = fromEnvironment("NAMESPACE") }: ContainerdFlags,
) {
  return new Containerd({
    ...address === undefined ? {} : { address },
    ...namespace === undefined ? {} : { namespace },
  });
}

function fromEnvironment(name: string): string | undefined {
  return variable(`CONTAINERD_${name}`) || undefined; // an empty variable is as good as none
}

/** A snapshot, and where it is. */
interface Snapshot extends SnapshotInfo {
  namespace: string;
  snapshotter: string;
  /** Bytes, without its parents; undefined if the snapshotter does not say. */
  size?: number;
  /** Inodes, without its parents; undefined if the snapshotter does not say. */
  inodes?: number;
}

/** What containerd has. */
interface Node {
  snapshots: Snapshot[];
  /** What its mount manager has mounted; undefined for a containerd before 2.2, which has none. */
  activations?: (Activation & { namespace: string })[];
}

/** The options of `ls --containerd`. */
export interface ListContainerdFlags extends ContainerdFlags {
  /** Prints JSON. */
  json?: true;
  /** Prints a tree. */
  tree?: true;
}

/**
 * Prints the snapshots of each snapshotter, and what the mount manager has mounted, of one namespace or of all. Prints what
 * the others have if a snapshotter fails.
 *
 * @param flags the socket and the namespace, and how to print.
 * @returns the exit status: 1 if a snapshotter has failed.
 */
export async function ls({ json, tree, ...flags }: ListContainerdFlags): Promise<number> {
  const failures: ContainerdError[] = [];
  const node = await withProgress("reading the snapshots of containerd", readNode(flags, failures));
  if (json) print(JSON.stringify(node, null, 2));
  else {
    const { snapshots, activations = [] } = node;
    print(await (tree ? snapshotTree(snapshots) : snapshotTable(snapshots)));
    if (activations.length > 0) print(`\n${await activationTable(activations)}`);
  }
  for (const error of failures) printError(`denomount: ${escapeControl(errorMessage(error))}`);
  return failures.length === 0 ? 0 : 1;
}

async function readNode(flags: ContainerdFlags, failures: ContainerdError[]): Promise<Node> {
  await using containerd = open(flags);
  const snapshotters = await containerd.snapshotters();
  const node: Node = { snapshots: [] };
  for (const namespace of await namespacesOf(containerd, flags)) {
    await using each = open({ ...flags, namespace });
    for (const snapshotter of snapshotters) {
      const found = await readSnapshots(each.snapshots(snapshotter), failures);
      node.snapshots.push(...found.map((snapshot) => ({ namespace, snapshotter, ...snapshot })));
    }
    const activations = await readActivations(each);
    if (activations === undefined) continue;
    node.activations ??= [];
    node.activations.push(...activations.map((activation) => ({ namespace, ...activation })));
  }
  return node;
}

/** All namespaces, or the one that is asked for: containerd itself takes any name, and has nothing in a wrong one. */
async function namespacesOf(
  containerd: Containerd,
  { namespace: wanted = fromEnvironment("NAMESPACE") }: ContainerdFlags,
): Promise<string[]> {
  const namespaces = await containerd.namespaces();
  if (wanted === undefined) return namespaces;
  if (namespaces.includes(wanted)) return [wanted];
  const others = namespaces.length === 0 ? "none" : namespaces.join(", ");
  throw new Error(`containerd at ${containerd.address} has no namespace "${wanted}"; it has ${others}`);
}

/** containerd takes 100 and more calls at a time; a snapshotter reads a directory tree for some of them. */
const CALLS_AT_A_TIME = 8;

type Usage = Pick<Snapshot, "size" | "inodes">;

async function readSnapshots(
  snapshots: SnapshotsClient,
  failures: ContainerdError[],
): Promise<(SnapshotInfo & Usage)[]> {
  let answers = true;
  const remember = (error: unknown) => {
    if (!(error instanceof ContainerdError)) throw error;
    failures.push(error);
    if (error instanceof UnavailableError || error instanceof DeadlineExceededError) answers = false;
  };
  const found: (SnapshotInfo & Usage)[] = [];
  try {
    for await (const info of snapshots.list()) found.push(info);
  } catch (error) {
    remember(error);
  }
  const gone = new Set<SnapshotInfo>();
  const left = found.values();
  const work = async () => {
    for (const info of left) {
      if (!answers) return; // each of the others would fail after a wait
      try {
        Object.assign(info, await snapshots.usage(info.name));
      } catch (error) {
        if (error instanceof NotFoundError) gone.add(info); // removed meanwhile
        else remember(error);
      }
    }
  };
  await Promise.all(Array.from({ length: CALLS_AT_A_TIME }, work));
  return found.filter((info) => !gone.has(info));
}

async function readActivations({ mounts }: Containerd): Promise<Activation[] | undefined> {
  try {
    return await Array.fromAsync(mounts.list());
  } catch (error) {
    if (error instanceof UnimplementedError) return undefined;
    throw error;
  }
}

const usageCells = ({ size, inodes }: Usage) => [
  size === undefined ? "" : sizeText(size),
  inodes === undefined ? "" : `${inodes}`,
];

async function snapshotTable(snapshots: readonly Snapshot[]): Promise<string> {
  const rows = snapshots.map(({ namespace, snapshotter, name, kind, parent, ...usage }) => [
    escapeControl(namespace),
    bold(escapeControl(`${snapshotter}/${name}`)),
    kind,
    ...usageCells(usage),
    escapeControl(parent),
  ]);
  return await columns(["NAMESPACE", "SNAPSHOT", "KIND", "USED", "INODES", "PARENT"], rows);
}

/** Each snapshot below its parent, and those without one below their snapshotter. */
async function snapshotTree(snapshots: readonly Snapshot[]): Promise<string> {
  const roots = new Map<string, TreeNode<string[]>>();
  const nodes = new Map<string, TreeNode<string[]>>();
  const idOf = ({ namespace, snapshotter }: Snapshot, name = "") => [namespace, snapshotter, name].join("\0");
  for (const snapshot of snapshots) {
    const { namespace, snapshotter, name, kind } = snapshot;
    const title = [bold(escapeControl(`${namespace} ${snapshotter}`)), "", "", ""];
    if (!roots.has(idOf(snapshot))) roots.set(idOf(snapshot), { value: title, children: [] });
    const cells = [escapeControl(name), kind, ...usageCells(snapshot)];
    nodes.set(idOf(snapshot, name), { value: cells, children: [] });
  }
  for (const snapshot of snapshots) {
    const node = nodes.get(idOf(snapshot, snapshot.name));
    const parent = snapshot.parent === "" ? undefined : nodes.get(idOf(snapshot, snapshot.parent));
    if (node !== undefined) (parent ?? roots.get(idOf(snapshot)))?.children.push(node);
  }
  const rows = treeLines([...roots.values()]).map(({ branches, value: [first = "", ...cells] }) => [
    dim(branches) + first,
    ...cells,
  ]);
  return await columns(["SNAPSHOT", "KIND", "USED", "INODES"], rows);
}

async function activationTable(
  activations: readonly (Activation & { namespace: string })[],
): Promise<string> {
  const rows = activations.flatMap(({ namespace, name, active, labels }) => {
    const mounts: readonly Partial<ActiveMount>[] = active.length === 0 ? [{}] : active;
    return mounts.map(({ type = "", mountPoint = "" }) =>
      [namespace, name, type, mountPoint, keepersOf(labels)].map(escapeControl)
    );
  });
  return await columns(["NAMESPACE", "ACTIVATION", "TYPE", "MOUNTPOINT", "OF"], rows);
}

const REFERENCE = "containerd.io/gc.bref.";

/** What keeps an activation from the garbage collector, as its labels name it. */
function keepersOf(labels: Readonly<Record<string, string>>): string {
  const references = Object.entries(labels).filter(([label]) => label.startsWith(REFERENCE));
  // containerd gives the labels in another order each time.
  return references.sort(([a], [b]) => a < b ? -1 : 1).map(([label, value]) => {
    const [kind = "", snapshotter] = label.slice(REFERENCE.length).split(/\.(.*)/s);
    return kind === "snapshot" && snapshotter !== undefined ? `${snapshotter}/${value}` : `${kind} ${value}`;
  }).join(", ");
}

/** The options of `up --containerd`. */
export interface UpContainerdFlags extends ContainerdFlags {
  /** The directory of the command's own manager, in which a target is locked. */
  root?: string;
}

/**
 * Mounts a snapshot and leaves it mounted. Unmounts it if a signal arrives meanwhile, or if the mountpoint can't be
 * printed.
 *
 * @param snapshot the snapshot.
 * @param target the directory to mount on.
 * @param flags the socket, the namespace and the command's directory.
 * @returns the exit status.
 */
export async function up(
  { snapshotter, key }: SnapshotKey,
  target: string,
  { root, ...flags }: UpContainerdFlags,
): Promise<number> {
  await using containerd = open(flags);
  const mounts = await containerd.snapshots(snapshotter).mounts(key);
  const name = await nameFor(target);
  using stack = new DisposableStack();
  if (mounts.some(needsManager)) {
    stack.use(await lock(name, target, root));
    await removeUnmounted(containerd.mounts, name, target);
  }
  const mount = (signal: AbortSignal) =>
    containerd.mountSnapshot({ snapshotter, key }, target, { name, signal });
  return await mountAndPrint(target, mount);
}

/** The options of `down --containerd`. */
export interface DownContainerdFlags extends UpContainerdFlags, Omit<UnmountOptions, "namespace"> {}

/**
 * Unmounts a snapshot, and deactivates what `up` has activated for it.
 *
 * @param snapshot the snapshot.
 * @param target the directory that it is mounted on.
 * @param flags the socket, the namespace, the command's directory, and how to unmount.
 * @returns the exit status.
 */
export async function down(
  snapshot: SnapshotKey,
  target: string,
  { root, address, namespace, ...how }: DownContainerdFlags,
): Promise<number> {
  await using containerd = open({
    ...address === undefined ? {} : { address },
    ...namespace === undefined ? {} : { namespace },
  });
  const work = async () => {
    const mounts = await mountsOf(containerd, snapshot);
    if (Array.isArray(mounts) && !mounts.some(needsManager)) return await unmountMounts(mounts, target, how);
    const name = await nameFor(target);
    using _lock = await lock(name, target, root);
    await downManaged(containerd, { ...snapshot, name, mounts }, target, how);
  };
  await withProgress(`unmounting ${escapeControl(target)}`, work());
  return 0;
}

/** The mounts of a snapshot, or the error if it is gone: its activation may still be there. */
async function mountsOf(
  containerd: Containerd,
  { snapshotter, key }: SnapshotKey,
): Promise<Mount[] | NotFoundError> {
  try {
    return await containerd.snapshots(snapshotter).mounts(key);
  } catch (error) {
    if (error instanceof NotFoundError) return error;
    throw error;
  }
}

async function downManaged(
  { mounts: manager }: Containerd,
  { snapshotter, key, name, mounts }: SnapshotKey & { name: string; mounts: Mount[] | NotFoundError },
  target: string,
  how: Omit<UnmountOptions, "namespace">,
): Promise<void> {
  const activation = await findActivation(manager, name);
  if (activation !== undefined) {
    const mounted = activation.labels[labelOf(snapshotter)];
    if (mounted !== key) {
      const what = keepersOf(activation.labels) || "another list";
      throw new Error(`${target} has ${what} mounted, not ${snapshotter}/${key}`);
    }
    await unmountMounts(activation.system, target, how);
    await deactivateFound(manager, name);
    return;
  }
  if (!Array.isArray(mounts)) {
    throw new Error(`${mounts.message}; "denomount umount" unmounts what is left of it`, { cause: mounts });
  }
  if (await hasMounts(mounts, target)) {
    throw new Error(`${target} is mounted, but not by "denomount up --containerd" with this snapshot`);
  }
}

/** A containerd without a mount manager has no activation. */
async function findActivation(
  manager: Containerd["mounts"],
  name: string,
): Promise<Activation | undefined> {
  try {
    return await find(manager, name);
  } catch (error) {
    if (error instanceof UnimplementedError) return undefined;
    throw error;
  }
}

async function lock(name: string, target: string, root: string | undefined): Promise<Disposable> {
  const directory = managerRoot(root);
  await ensureAnswers(directory); // Deno.mkdir() would wait for ever for a server that does not answer
  await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  return await lockTarget(name, target, directory);
}
