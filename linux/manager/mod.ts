/**
 * The mount manager: lists of mounts that the kernel doesn't take as they stand, activated under names that survive a
 * crash. It takes what containerd's snapshotters have handed out since 2.2: `format/`, `mkfs/` and `mkdir/` before a type,
 * and the types `erofs` and `loop`.
 *
 * @example
 * ```ts
 * import { mountAll } from "@denomount/mount";
 * import { LocalMountManager } from "@denomount/mount/manager";
 *
 * const root = await Deno.makeTempDir();
 * const target = await Deno.makeTempDir();
 * {
 *   await using manager = await LocalMountManager.open({ root });
 *   const { system } = await manager.activate("example", [
 *     { type: "tmpfs", source: "tmpfs" },
 *     { type: "format/bind", source: "{{ mount 0 }}", options: ["rbind"] },
 *   ]);
 *   {
 *     await using _mounts = await mountAll(system, target);
 *     await Deno.writeTextFile(`${target}/file`, "on the tmpfs");
 *   }
 *   await manager.deactivate("example");
 * }
 * await Deno.remove(root, { recursive: true });
 * await Deno.remove(target);
 * ```
 *
 * @module
 */

export { AlreadyExistsError, FailedPreconditionError, NotFoundError, RecordError } from "./errors.ts";
export { LocalMountManager, type ManagerOptions } from "./local.ts";
export type { SyncResult } from "./sync.ts";
export type {
  ActivateOptions,
  Activation,
  ActivationChange,
  ActiveMount,
  ListOptions,
  MountHandler,
  MountManager,
} from "./types.ts";
