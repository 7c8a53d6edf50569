/**
 * The ways in which the command unmounts.
 *
 * @module
 */

import type { KernelContext } from "../harness.ts";
import { parseTable, readText, type Row } from "../kernel.ts";
import { type MountNamespace, run } from "../namespace/namespaces.ts";
import { listFile } from "./in_process.ts";

/** A list with one mount. */
export const LIST = [{ type: "tmpfs", source: "top", options: ["size=64k"] }];

/** The ways to unmount one mount, each as the arguments that follow the flags. */
export const ways: [name: string, args: (t: KernelContext, target: string) => string[]][] = [
  ["umount", (_, target) => ["umount", target]],
  ["umount --all", (_, target) => ["umount", "--all", target]],
  ["umount --recursive", (_, target) => ["umount", "--recursive", target]],
  ["down", (t, target) => ["down", listFile(t.dir, LIST), target]],
];

/** The exit status of a failure: umount has that of umount(8). */
export const failed = (name: string): number => name === "down" ? 1 : 32;

/** The command line of a way with further flags. */
export function line(
  way: (t: KernelContext, target: string) => string[],
  t: KernelContext,
  target: string,
  ...flags: string[]
) {
  const [subcommand = "", ...rest] = way(t, target);
  return [subcommand, ...flags, ...rest];
}

/** Mounts a tmpfs, as the list of `down` says. */
export function mountTmpfs(target: string): Promise<string> {
  return run("mount", "-t", "tmpfs", "-o", "size=64k", "top", target);
}

/** The mountpoints below the test's directory. */
export function mountpoints(t: KernelContext): string[] {
  return t.mounts().map(({ mountpoint }) => mountpoint);
}

/** The mounts below a directory in another namespace. */
export function mountsIn(namespace: MountNamespace, dir: string): Row[] {
  const table = parseTable(readText(`/proc/${namespace.pid}/mountinfo`) ?? "");
  return table.filter(({ mountpoint }) => mountpoint.startsWith(dir));
}
