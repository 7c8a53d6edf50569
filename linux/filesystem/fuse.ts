/**
 * FUSE mounts, through the helpers that every distribution has for them.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { AT_FDCWD, MNT_DETACH } from "../syscalls/constants.ts";
import { findProgram, type HelperResult, runHelper } from "../path/program.ts";
import { delay } from "../path/delay.ts";
import { mountIdAt } from "../mountinfo/statx_mount.ts";
import { umount2 } from "../syscalls/mod.ts";
import { fdPath } from "../path/mount_target.ts";

/** What mounts a FUSE file system. */
export interface FusePlan {
  /** "mount.fuse" or "mount.fuse3". */
  helper: string;
  /** The file system's program, such as "fuse-overlayfs". */
  type: string;
  /** The source, as the program understands it. */
  source: string;
  /** The options, as the program understands them. */
  options: readonly string[];
}

const packages: Record<string, string> = { "mount.fuse": "fuse3 or fuse", "mount.fuse3": "fuse3" };
const APPEARS = 2000; // ms in which a helper that has ended well must have a mount to show

/**
 * Reads a `fuse.X` or `fuse3.X` mount.
 *
 * @param type the mount's type.
 * @param source its source.
 * @param options its options as they were given.
 * @returns the plan.
 */
export function fusePlan(type: string, source: string, options: readonly string[]): FusePlan {
  const dot = type.indexOf(".");
  return { helper: `mount.${type.slice(0, dot)}`, type: type.slice(dot + 1), source, options };
}

/**
 * Mounts a FUSE file system. The kernel's table says whether it worked, not the exit status alone: in a process that
 * ignores SIGCHLD or that reaps every child, nobody knows it.
 *
 * @param plan what to mount.
 * @param place the mountpoint.
 */
export async function mountFuse({ helper, type, source, options }: FusePlan, place: OwnedFd): Promise<void> {
  const program = findProgram(helper);
  if (program === undefined) {
    throw new Error(`${helper} is not on PATH: install the package ${packages[helper] ?? "fuse3"}`);
  }
  const target = fdPath(place);
  if (!target.isWellFormed()) throw new Error(`${helper} can't be told a mountpoint whose name is no UTF-8`);
  const before = mountIdAt(place.fd, "");
  const args = [source, target, ...options.flatMap((option) => ["-o", option]), "-t", type];
  try {
    const result = await runHelper(program, args);
    if (await appears(target, before, result) && (result.code ?? 0) === 0) return;
    throw new Error(failure(helper, result));
  } catch (error) {
    if (mountId(target) !== before) umount2(target, MNT_DETACH); // it failed, or the look at it, after it had mounted
    throw error;
  }
}

async function appears(target: string, before: number, { code }: HelperResult): Promise<boolean> {
  if (code === 0 || code === undefined) {
    const deadline = Date.now() + (code === 0 ? APPEARS : APPEARS / 4);
    while (mountId(target) === before && Date.now() < deadline) await delay(10);
  }
  return mountId(target) !== before;
}

function failure(helper: string, { code, said }: HelperResult): string {
  const ended = code === undefined
    ? "ended, its exit status was taken by another, and nothing is mounted"
    : code === 0
    ? "ended without an error, but nothing is mounted"
    : `failed with exit status ${code}`;
  return `${helper} ${ended}${said && `: ${said}`}`;
}

function mountId(path: string): number {
  return mountIdAt(AT_FDCWD, path);
}
