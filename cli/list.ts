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
import type { ColumnName } from "./arguments.ts";
import { bold, cyan, dim, yellow } from "./deps.ts";
import { withNamespaceErrors } from "./namespace.ts";
import { print, sizeText } from "./print.ts";
import { type Cell, type Column, printable, table } from "./table.ts";
import { treeLines, type TreeNode } from "./tree.ts";

/** The options of `ls`. */
export interface ListFlags {
  /** Prints JSON. */
  json?: true;
  /** Prints a tree. */
  tree?: true;
  /** Only file systems of these types; with "no" before the first one, all others. */
  type?: string[];
  /** The columns of the table. */
  columns?: ColumnName[];
  /** The process whose mount namespace is read. */
  namespace?: number;
}

/**
 * Prints the mount table, or the mounts at and below a path.
 *
 * @param path the path.
 * @param flags what to print.
 * @returns the exit status: 1 if there is no such mount.
 */
export async function ls(path: string | undefined, flags: ListFlags): Promise<number> {
  const { json, tree, type, namespace } = flags;
  const below = path === undefined ? undefined : prefixFilter(await pathInNamespace(namespace, path));
  const typed = type === undefined ? undefined : typeFilter(type);
  const filter: MountFilter = (info) => ({ skip: Boolean(below?.(info).skip || typed?.(info).skip) });
  const list = () => listMounts({ filter, ...namespace === undefined ? {} : { pid: namespace } });
  const mounts = await withNamespaceErrors(namespace, list);
  const names = flags.columns ?? (tree ? TREE_COLUMNS : TABLE_COLUMNS);
  if (json) print(JSON.stringify(await jsonOf(mounts, flags), null, 2));
  else if (mounts.length > 0) print(await (tree ? mountTree : mountTable)(mounts, names, namespace));
  return mounts.length > 0 ? 0 : 1;
}

/** As mount(8) and findmnt(8): "no" before the first type is about all of them. */
function typeFilter(types: readonly string[]): MountFilter {
  const [first = "", ...others] = types;
  if (!first.startsWith("no")) return fsTypeFilter(...types);
  const wanted = fsTypeFilter(first.slice(2), ...others.map((type) => type.replace(/^no/, "")));
  return (info) => ({ skip: !wanted(info).skip });
}

/** What a column shows of a mount. */
interface MountColumn extends Column {
  text: (mount: MountInfo, namespace: number | undefined) => string | Promise<string>;
  style?: (text: string) => string;
}

/** The columns of `--columns`, by their names. */
const COLUMNS: Readonly<Record<ColumnName, MountColumn>> = {
  mountpoint: { head: "MOUNTPOINT", cutAt: 3, text: ({ mountpoint }) => mountpoint, style: bold },
  type: { head: "TYPE", cutAt: 4, text: ({ fsType }) => fsType, style: cyan },
  source: { head: "SOURCE", cutAt: 2, text: sourceText },
  options: { head: "OPTIONS", cutAt: 0, text: allOptions, style: yellow },
  notable: { head: "OPTIONS", cutAt: 0, text: notableOptions, style: yellow },
  used: { head: "USED", cutAt: 1, text: sizeOf },
  propagation: { head: "PROPAGATION", cutAt: 1, text: ({ optional }) => optional || "private" },
  root: { head: "ROOT", cutAt: 1, text: ({ root }) => root },
  file: { head: "FILE", cutAt: 1, text: ({ source }) => backingFile(source) ?? "" },
  device: { head: "DEVICE", cutAt: 4, text: ({ major, minor }) => `${major}:${minor}` },
  id: { head: "ID", cutAt: 4, text: ({ id }) => `${id}` },
  parent: { head: "PARENT", cutAt: 4, text: ({ parent }) => `${parent}` },
};

const TABLE_COLUMNS: ColumnName[] = ["mountpoint", "type", "source", "options"];
const TREE_COLUMNS: ColumnName[] = ["mountpoint", "type", "source", "used", "notable"];

async function cellsOf(
  mount: MountInfo,
  names: readonly ColumnName[],
  namespace: number | undefined,
): Promise<Cell[]> {
  const cells: Cell[] = [];
  for (const name of names) {
    const { text, style } = COLUMNS[name];
    const value = text(mount, namespace); // most are no promise, and a table may have 10,000 rows
    const shown = printable(typeof value === "string" ? value : await value);
    cells.push(style === undefined ? { text: shown } : { text: shown, style });
  }
  return cells;
}

const columnsOf = (names: readonly ColumnName[]) => names.map((name) => COLUMNS[name]);

async function mountTable(
  mounts: readonly MountInfo[],
  names: readonly ColumnName[],
  namespace?: number,
): Promise<string> {
  const rows: Cell[][] = [];
  for (const mount of mounts) rows.push(await cellsOf(mount, names, namespace));
  return await table(columnsOf(names), rows);
}

/** Every field of the mounts, and the file of a loop device; or the columns that are asked for. */
async function jsonOf(mounts: readonly MountInfo[], { columns, namespace }: ListFlags): Promise<unknown[]> {
  if (columns === undefined) {
    return mounts.map((mount) => {
      const file = backingFile(mount.source);
      return file === undefined ? mount : { ...mount, backingFile: file };
    });
  }
  const rows: unknown[] = [];
  for (const mount of mounts) {
    const row: Record<string, string> = {};
    for (const name of columns) row[name] = await COLUMNS[name].text(mount, namespace);
    rows.push(row);
  }
  return rows;
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

/** Each mount below its parent mount: the branches are in the first column. */
async function mountTree(
  mounts: readonly MountInfo[],
  names: readonly ColumnName[],
  namespace?: number,
): Promise<string> {
  const nodes = new Map(
    mounts.map((value): [number, TreeNode<MountInfo>] => [value.id, { value, children: [] }]),
  );
  const roots: TreeNode<MountInfo>[] = [];
  for (const node of nodes.values()) {
    const parent = nodes.get(node.value.parent);
    (parent && parent !== node ? parent.children : roots).push(node);
  }
  const rows: Cell[][] = [];
  for (const { branches, value } of treeLines(roots)) {
    const [first, ...others] = await cellsOf(value, names, namespace);
    const { text = "", style = (text: string) => text } = first ?? {};
    const withBranches = (shown: string) =>
      dim(shown.slice(0, branches.length)) + style(shown.slice(branches.length));
    rows.push([{ text: branches + text, style: withBranches }, ...others]);
  }
  return await table(columnsOf(names), rows);
}

/** The source of a mount: of a loop device with its backing file, of a bind with its root in the file system. */
function sourceText({ source, root, fsType }: MountInfo): string {
  const file = backingFile(source);
  const shown = file ? `${source} (${file})` : source;
  return root === "/" || /^(proc|cgroup2?|nsfs)$/.test(fsType) ? shown : `${shown}[${root}]`;
}

function backingFile(source: string): string | undefined {
  const device = /^\/dev\/(loop\d+)$/.exec(source)?.[1];
  return device === undefined ? undefined : textOf(`/sys/block/${device}/loop/backing_file`);
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

/** The options of the mount and then those of its file system, as findmnt(8) joins them. */
function allOptions({ options, vfsOptions }: MountInfo): string {
  const own = options.split(",");
  return [
    ...own,
    ...vfsOptions.split(",").filter((option) => !/^(rw|ro|)$/.test(option) && !own.includes(option)),
  ]
    .join(",");
}

/** What is not the default, and what says which data a file system shows. */
function notableOptions({ options, vfsOptions, optional }: MountInfo): string {
  return [
    ...options.split(",").filter((option) => !/^(rw|relatime)$/.test(option)),
    ...optional === "" ? [] : [optional],
    ...vfsOptions.split(",").filter((option) => /^(size|lowerdir\+?|upperdir|subvol)=/.test(option)),
  ].join(" ");
}
