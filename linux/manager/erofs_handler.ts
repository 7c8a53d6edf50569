/**
 * The type `erofs`: images in files, of one device or several.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { setupLoop } from "../loop/loop.ts";
import { mountAll } from "../mount/mount.ts";
import { ensureServerAnswers } from "../mountinfo/served.ts";
import type { WaitOptions } from "../path/wait.ts";
import { MountError } from "../spec/error.ts";
import type { Mount } from "../spec/mount.ts";
import { splitOptions } from "../spec/options.ts";
import { mkdir } from "../syscalls/mod.ts";
import type { MountHandler } from "./types.ts";

const DEVICE = "device=";

/** Mounts the files as they are, which Linux 6.12 can; through loop devices where the kernel asks for block devices. */
export const erofsHandler: MountHandler = {
  async mount(mount, mountPoint, _active, wait = {}) {
    const options = (mount.options ?? []).flatMap(splitOptions).filter((option) => option !== "loop");
    if (!options.includes("ro")) options.push("ro"); // a read-only device can't be opened for an erofs without it
    for (const path of [mount.source, ...devicesIn(options)]) await ensureServerAnswers(path, wait);
    mkdir(mountPoint, 0o700);
    await mountErofs({ ...mount, options }, mountPoint, wait);
    return { ...mount, options, mountPoint, mountedAt: new Date(), data: {} };
  },

  /** The manager unmounts what is on the mountpoint. */
  unmount: () => Promise.resolve(),
};

function devicesIn(options: readonly string[]): string[] {
  return options.filter((option) => option.startsWith(DEVICE)).map((option) => option.slice(DEVICE.length));
}

async function mountErofs(mount: Mount, mountPoint: string, wait: WaitOptions): Promise<void> {
  try {
    await mountAll([mount], mountPoint, wait);
  } catch (error) {
    if (!asksForBlockDevice(error)) throw error;
    await mountThroughLoop(mount, mountPoint, wait).catch((failure) => {
      // The error about the file says more to the caller than one about a loop device.
      throw error instanceof MountError && error.code === "EINVAL" ? error : failure;
    });
  }
}

/** EINVAL comes from a kernel whose erofs can't read the file system that the file is on; other calls may return it too. */
function asksForBlockDevice(error: unknown): boolean {
  return error instanceof MountError && isErrno(error.cause, "ENOTBLK", "EINVAL") &&
    MOUNT_CALLS.includes(error.cause.syscall);
}

const MOUNT_CALLS = ["fsconfig", "mount"];

async function mountThroughLoop(mount: Mount, mountPoint: string, wait: WaitOptions): Promise<void> {
  using stack = new DisposableStack();
  const attach = async (path: string) => {
    const device = await setupLoop(path, { readonly: true, autoclear: true, ...wait });
    return stack.use(device).path; // the mount keeps it attached
  };
  const source = await attach(mount.source);
  const options: string[] = [];
  for (const option of mount.options ?? []) {
    const path = option.startsWith(DEVICE) ? option.slice(DEVICE.length) : undefined;
    options.push(path === undefined ? option : `${DEVICE}${await attach(path)}`);
  }
  await mountAll([{ ...mount, source, options }], mountPoint, wait);
}
