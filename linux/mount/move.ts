/**
 * Moving a mount that is attached already, and mounting beneath another.
 *
 * @module
 */

import { errnoNumber, isErrno, SyscallError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { shown } from "../../ffi/text.ts";
import { Stage } from "../filesystem/staged.ts";
import { statxMountUniqueFd } from "../mountinfo/statx_mount.ts";
import { openMayWait } from "../path/cached_lookup.ts";
import { attachMount, isDirectory, procFdPath } from "../path/mount_target.ts";
import { checkWait, type WaitOptions } from "../path/wait.ts";
import type { Mount } from "../spec/mount.ts";
import { MOVE_MOUNT_BENEATH, MS_MOVE, O_PATH } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import { mount as mount2 } from "../syscalls/mod.ts";
import { ensureTempLocation } from "../temp/temp_directory.ts";
import { mount } from "./mount.ts";

/** How a mount is moved. */
export interface MoveOptions extends WaitOptions {
  /** Attaches it beneath the topmost mount of the target, which stays on top: Linux 6.5. */
  beneath?: boolean | undefined;
}

/**
 * Moves a mount, with the mounts below it, to another mountpoint.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN. The mount that the source is in must not be shared.
 *
 * @param source the mountpoint that it is on.
 * @param target the mountpoint that it gets.
 * @param options whether it goes beneath; the timeout and the signal.
 * @throws {SyscallError} EINVAL with a reason if the source is no mountpoint, or can't be moved.
 */
export async function moveMountTo(source: string, target: string, options: MoveOptions = {}): Promise<void> {
  checkWait(options);
  using from = await openMayWait(source, O_PATH, options);
  if (!statxMountUniqueFd(from).isRoot) throw invalid(source, `${shown(source)} is not a mountpoint`);
  using to = await openMayWait(target, O_PATH, options);
  if (options.beneath) requireMounted(to, target);
  try {
    if (hasFeature("mountApi")) attachMount(from, to, options.beneath ? MOVE_MOUNT_BENEATH : 0);
    else mount2(procFdPath(from), procFdPath(to), null, MS_MOVE, null);
  } catch (error) {
    if (!isErrno(error, "EINVAL")) throw error;
    const why =
      `${shown(source)} can't be moved to ${shown(target)}: the mount that it is in is shared (make it ` +
      'private first, "--make-private"), or one of the two is locked or unbindable';
    throw invalid(source, why);
  }
}

/**
 * Mounts beneath the topmost mount of a target, which stays on top: unmounting that one shows the new mount at once.
 *
 * Needs Linux 6.5, the permissions `ffi`, `read` and `write`, and CAP_SYS_ADMIN.
 *
 * @param spec the mount.
 * @param target the mountpoint, on which something is mounted.
 * @param wait the timeout and the signal.
 * @throws {MountError} if it can't be mounted.
 * @throws {SyscallError} EINVAL if nothing is mounted on the target.
 */
export async function mountBeneath(spec: Mount, target: string, wait: WaitOptions = {}): Promise<void> {
  checkWait(wait);
  await ensureTempLocation(wait);
  using stage = new Stage(false, await isOtherFile(target, wait)); // private: a mount in a shared one can't be moved
  const staged = await mount(spec, stage.mountpoint, wait);
  try {
    await moveMountTo(stage.mountpoint, target, { ...wait, beneath: true });
  } catch (error) {
    await staged.unmount();
    throw error;
  }
}

async function isOtherFile(target: string, wait: WaitOptions): Promise<boolean> {
  using to = await openMayWait(target, O_PATH, wait);
  requireMounted(to, target);
  return !isDirectory(to);
}

function requireMounted(to: OwnedFd, target: string): void {
  if (!hasFeature("mountBeneath")) throw new TypeError("mounting beneath another mount needs Linux 6.5");
  if (statxMountUniqueFd(to).isRoot) return;
  throw invalid(target, `nothing is mounted on ${shown(target)}, so nothing can be mounted beneath`);
}

function invalid(path: string, reason: string): SyscallError {
  return new SyscallError({ syscall: "move_mount", errno: errnoNumber("EINVAL"), path, reason });
}
