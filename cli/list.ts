/**
 * `denomount ls`: the mount table, as rows or as a tree.
 *
 * @module
 */

import { canonicalizePath, fsTypeFilter, listMounts, type MountInfo, prefixFilter } from "../mod.ts";
import { isErrno, O_RDONLY, open, readAll, statfs } from "../linux/mod.ts";
import { bold, cyan, dim, yellow } from "./deps.ts";
import { columns, mountTable, print, sizeText, visible } from "./print.ts";
import { treeLines, type TreeNode } from "./tree.ts";

/** What to print of the table. */
export interface ListFlags {
  /** As JSON. */
  json?: true;
  /** As a tree. */
  tree?: true;
  /** Only file systems of these types. */
  type?: string[];
}

/**
 * Prints the mount table, or the part of it at and below a path.
 *
 * @param path the path.
 * @param flags what to print.
 * @returns the exit status.
 */
export async function ls(path: string | undefined, flags: ListFlags): Promise<number> {
  const below = path === undefined ? undefined : prefixFilter(await canonicalizePath(path));
  const typed = flags.type === undefined ? undefined : fsTypeFilter(...flags.type);
  const mounts = await listMounts({
    filter: (info) => ({ skip: Boolean(below?.(info).skip || typed?.(info).skip) }),
  });
  if (flags.json) print(JSON.stringify(mounts, null, 2));
  else print(flags.tree ? mountTree(mounts) : mountTable(mounts));
  return 0;
}

/** Each mount below the one that it is on, with what is worth knowing of it. */
function mountTree(mounts: readonly MountInfo[]): string {
  const nodes = new Map(
    mounts.map((value): [number, TreeNode<MountInfo>] => [value.id, { value, children: [] }]),
  );
  const roots: TreeNode<MountInfo>[] = [];
  for (const node of nodes.values()) {
    const parent = nodes.get(node.value.parent);
    (parent && parent !== node ? parent.children : roots).push(node);
  }
  const rows = treeLines(roots).map(({ strokes, value }) => [
    dim(strokes) + bold(visible(value.mountpoint)),
    cyan(visible(value.fsType)),
    visible(sourceText(value)),
    sizeOf(value),
    yellow(marks(value)),
  ]);
  return columns(["MOUNTPOINT", "TYPE", "SOURCE", "USED", "OPTIONS"], rows);
}

/** A loop device is shown with its file, and a bind with the directory that it shows. */
function sourceText({ source, root, fsType }: MountInfo): string {
  const device = /^\/dev\/(loop\d+)$/.exec(source)?.[1];
  const file = device && textOf(`/sys/block/${device}/loop/backing_file`);
  const shown = file ? `${source} (${file})` : source;
  return root === "/" || /^(proc|cgroup2?|nsfs)$/.test(fsType) ? shown : `${shown}[${root}]`;
}

function textOf(path: string): string | undefined {
  try {
    using file = open(path, O_RDONLY);
    return new TextDecoder().decode(readAll(file.fd)).trim();
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES", "ENXIO")) return undefined;
    throw error;
  }
}

// A server that does not answer would hold the call for ever.
const servers = /^(fuse.*|nfs4?|cifs|smb3|9p|ceph|afs|autofs|virtiofs)$/;

function sizeOf({ mountpoint, fsType }: MountInfo): string {
  if (servers.test(fsType)) return "";
  try {
    const { blocks, blocksFree, blockSize } = statfs(mountpoint);
    return blocks === 0
      ? ""
      : `${sizeText((blocks - blocksFree) * blockSize)} of ${sizeText(blocks * blockSize)}`;
  } catch (error) {
    if (isErrno(error, "EACCES", "ENOENT", "EPERM", "ESTALE")) return "";
    throw error;
  }
}

function marks({ options, optional }: MountInfo): string {
  const telling = options.split(",").filter((option) => !/^(rw|relatime)$/.test(option));
  return [...telling, ...optional === "" ? [] : [optional]].join(" ");
}
