/**
 * What the tests of the mount manager share.
 *
 * @module
 */

import { type ActivateOptions, LocalMountManager, type ManagerOptions } from "../../linux/manager/mod.ts";
import type { Mount } from "../../mod.ts";
import type { KernelContext } from "../harness.ts";
import { names } from "../kernel.ts";

/** Opens a manager in the test's directory. */
export function openManager(
  t: KernelContext,
  options: Partial<ManagerOptions> = {},
): Promise<LocalMountManager> {
  return LocalMountManager.open({ root: `${t.dir}/root`, ...options });
}

/** Activates a list, hands the result to a function, and deactivates it. */
export async function withActivation<T>(
  manager: LocalMountManager,
  mounts: readonly Mount[],
  work: (activation: Awaited<ReturnType<LocalMountManager["activate"]>>) => T | Promise<T>,
  options: ActivateOptions = {},
): Promise<T> {
  const activation = await manager.activate("test", mounts, options);
  try {
    return await work(activation);
  } finally {
    await manager.deactivate("test");
  }
}

/** What an activation has in the manager's directory, besides the record. */
export function leftIn(t: KernelContext): string[] {
  return names(`${t.dir}/root`).filter((name) => !name.startsWith("activations.db"));
}

/** A tmpfs of the tests. */
export const TMPFS: Mount = { type: "tmpfs", source: "t", options: ["size=1m"] };

/** An entry that makes an image. */
export function mkfsEntry(type: string, source: string, size: string, ...words: string[]): Mount {
  const options = [`X-containerd.mkfs.size=${size}`, ...words.map((word) => `X-containerd.mkfs.${word}`)];
  return { type: `mkfs/${type}`, source, options: [...options, "loop"] };
}
