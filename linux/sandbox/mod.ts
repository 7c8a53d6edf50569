/**
 * Commands in a root directory made of mounts: for programs that run what they don't trust, as root or as an ordinary
 * user. Nothing is written through a path that is not named, and the network, other processes, capabilities and the
 * environment are out of reach unless they are asked for.
 *
 * @example
 * ```ts
 * import { sandbox } from "@denomount/mount/sandbox";
 *
 * await using box = await sandbox({ overlay: ["/etc"] });
 * const { code } = await box.spawn("sh", { args: ["-c", "rm -r /etc/apt; ls /etc"], stdout: "null" }).status;
 * console.log(code, box.overlays.map(({ path }) => path)); // this machine's /etc is as it was
 * ```
 *
 * @module
 */

export { type BoxChange, type OverlayLayer, Sandbox } from "./box.ts";
export { SandboxProcess, type SpawnOptions } from "./command.ts";
export { SandboxError } from "./error.ts";
export type { OverlayDirectory, SandboxOptions, TmpfsDirectory } from "./options.ts";
export { sandbox } from "./sandbox.ts";
export { BoxTerminal, type TerminalSize } from "./terminal.ts";
export { sandboxStage } from "./full_stage.ts";
export type { HeldOverlay } from "./steps.ts";
export { OwnedFd } from "../../ffi/fd.ts";
export type { IdMapping } from "../spec/id_mapping.ts";
export type { Mount } from "../spec/mount.ts";
export * from "./changes/mod.ts";
export * from "./bwrap/mod.ts";
