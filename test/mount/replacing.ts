/**
 * What the tests of the option `replace` have in common.
 *
 * @module
 */

import type { Feature } from "../../linux/syscalls/features.ts";
import type { Mount } from "../../mod.ts";
import type { KernelContext, Needs } from "../harness.ts";
import { readText } from "../kernel.ts";

/** What the tests require. */
export const needs: Needs = { privateDirectory: true, features: ["mountBeneath"] };

/** The option. */
export const replace = { replace: true };

/** A tmpfs, told by its source. */
export function tmpfs(source: string, target?: string, ...options: string[]): Mount {
  return { type: "tmpfs", source, ...target === undefined ? {} : { target }, options };
}

/** The mounts as "source mountpoint", in the order of the table. */
export function mounted(t: KernelContext): string[] {
  return t.mounts().map(({ source, mountpoint }) => `${source} ${mountpoint}`);
}

/** The rows of the mount table, with the ids of the mounts. */
export function rows({ dir }: KernelContext): string[] {
  return (readText("/proc/self/mountinfo") ?? "").split("\n").filter((row) => row.includes(`${dir}/`));
}

/** The ways in which a mount gets others inside of it before it is visible. */
export const ways: readonly [name: string, missing: Feature[]][] = [
  ["detached", []],
  ["at a temporary place (before 6.15)", ["detachedTargets"]],
];
