/**
 * `denomount ls`: the mount table as rows or as a tree.
 *
 * @module
 */

import {
  canonicalizePath,
  fsTypeFilter,
  listMounts,
  type MountFilter,
  type MountInfo,
  prefixFilter,
} from "../mod.ts";
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  isErrno,
  O_PATH,
  type OwnedFd,
  type Statfs,
  statfs,
  statfsOffThread,
  statx,
  STATX_MNT_ID,
} from "../linux/mod.ts";
import { isServed } from "../linux/mountinfo/filesystem_types.ts";
import { openMayWait } from "../linux/path/cached_lookup.ts";
import { procFdPath } from "../linux/path/mount_target.ts";
import { join } from "../linux/path/path.ts";
import { readTextFile } from "../linux/path/text_file.ts";
import { callOffThread } from "../linux/path/wait.ts";
import { bold, cyan, dim, yellow } from "./deps.ts";
import { withNamespaceErrors } from "./namespace.ts";
import { columns, escapeControl, mountTable, optionsOf, print, sizeText } from "./print.ts";
import { treeLines, type TreeNode } from "./tree.ts";

/** The options of `ls`. */
export interface ListFlags {
  /** Prints JSON. */
  json?: true;
  /** Prints a tree. */
  tree?: true;
  /** Only file systems of these types. */
  type?: string[];
  /** The process whose mount namespace is read. */
  namespace?: number;
}

/**
 * Prints the mount table, or the mounts at and below a path.
 *
 * @param path the path.
 * @param flags what to print.
 * @returns the exit status.
 */
export async function ls(path: string | undefined, flags: ListFlags): Promise<number> {
  const { json, tree, type, namespace } = flags;
  const below = path === undefined ? undefined : prefixFilter(await pathInNamespace(namespace, path));
  const typed = type === undefined ? undefined : fsTypeFilter(...type);
  const filter: MountFilter = (info) => ({ skip: Boolean(below?.(info).skip || typed?.(info).skip) });
  const propagation = Boolean(json || tree); // a long look in the kernel: only where it is shown
  const list = () =>
    listMounts({ filter, propagation, ...namespace === undefined ? {} : { pid: namespace } });
  const mounts = await withNamespaceErrors(namespace, list);
  if (json) print(JSON.stringify(mounts, null, 2));
  else print(await (tree ? mountTree(mounts, namespace) : mountTable(mounts)));
  return 0;
}

/**
 * Returns a path without symbolic links. In another mount namespace, where it can't be resolved, returns the normalized
 * path.
 *
 * @param namespace the process whose mount namespace contains the path; undefined for this process.
 * @param path the path.
 * @returns the path.
 */
export async function pathInNamespace(namespace: number | undefined, path: string): Promise<string> {
  return namespace === undefined ? await canonicalizePath(path) : join("/", path);
}

/** Each mount below its parent mount, with its source, use and options. */
async function mountTree(mounts: readonly MountInfo[], namespace?: number): Promise<string> {
  const nodes = new Map(
    mounts.map((value): [number, TreeNode<MountInfo>] => [value.id, { value, children: [] }]),
  );
  const roots: TreeNode<MountInfo>[] = [];
  for (const node of nodes.values()) {
    const parent = nodes.get(node.value.parent);
    (parent && parent !== node ? parent.children : roots).push(node);
  }
  const rows: string[][] = [];
  for (const { branches, value } of treeLines(roots)) {
    rows.push([
      dim(branches) + bold(escapeControl(value.mountpoint)),
      cyan(escapeControl(value.fsType)),
      escapeControl(sourceText(value)),
      await sizeOf(value, namespace),
      colored(yellow, optionText(value)),
    ]);
  }
  return await columns(["MOUNTPOINT", "TYPE", "SOURCE", "USED", "OPTIONS"], rows);
}

/** Leaves an empty cell empty, without escape sequences. */
function colored(color: (text: string) => string, text: string): string {
  return text === "" ? "" : color(text);
}

/** The source of a mount: of a loop device with its backing file, of a bind with its root in the file system. */
function sourceText({ source, root, fsType }: MountInfo): string {
  const device = /^\/dev\/(loop\d+)$/.exec(source)?.[1];
  const file = device && textOf(`/sys/block/${device}/loop/backing_file`);
  const shown = file ? `${source} (${file})` : source;
  return root === "/" || /^(proc|cgroup2?|nsfs)$/.test(fsType) ? shown : `${shown}[${root}]`;
}

function textOf(path: string): string | undefined {
  try {
    return readTextFile(path).trim();
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES", "ENXIO")) return undefined;
    throw error;
  }
}

const SIZE_TIMEOUT = 500; // ms that the tree waits for a server

async function sizeOf({ id, mountpoint, fsType }: MountInfo, namespace?: number): Promise<string> {
  if (isServed(fsType)) return ""; // statfs(2) blocks for as long as a server does not answer
  const path = namespace === undefined ? mountpoint : `/proc/${namespace}/root${mountpoint}`;
  try {
    using opened = await openMayWait(path, O_PATH, { timeout: SIZE_TIMEOUT });
    if (statx(opened.fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID).mountId !== BigInt(id)) {
      return ""; // another mount covers it
    }
    const { blocks, blocksFree, blockSize } = await statfsOf(opened, fsType);
    return blocks === 0
      ? ""
      : `${sizeText((blocks - blocksFree) * blockSize)} of ${sizeText(blocks * blockSize)}`;
  } catch (error) {
    if (isErrno(error, "EACCES", "ENOENT", "ENOTDIR", "EPERM", "ESTALE", "ETIMEDOUT", "ENOTCONN")) return "";
    throw error;
  }
}

/** An overlay asks its layers, which may be on a server. */
async function statfsOf(opened: OwnedFd, fsType: string): Promise<Statfs> {
  const path = procFdPath(opened);
  if (fsType !== "overlay") return statfs(path);
  const work = () => statfsOffThread(path);
  return await callOffThread(work, { timeout: SIZE_TIMEOUT }, "statfs", path) ?? statfs(path);
}

function optionText(info: MountInfo): string {
  const { optional } = info;
  const notable = optionsOf(info).filter((option) => !/^(rw|relatime)$/.test(option));
  return [...notable, ...optional === "" ? [] : [optional]].join(" ");
}
