/**
 * Mounts of a file system by its type: fsopen(2), whose errors are sentences, and beside it mount(2).
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { idMapNew } from "../idmap/attributes.ts";
import { AT_FDCWD, AT_STATX_DONT_SYNC, S_IFBLK, S_IFMT, STATX_TYPE } from "../syscalls/constants.ts";
import {
  attachNew,
  createSuperblock,
  createSuperblockAsync,
  fitsString,
  LONGEST_STRING,
  setOptions,
  withKernelLog,
} from "./fs_context.ts";
import { hasFeature } from "../syscalls/features.ts";
import { attributesToFlags, superFlagsToFlags } from "../spec/mount_flags.ts";
import { type LoopDevice, setupLoop } from "../loop/loop.ts";
import type { ParsedOptions } from "../spec/options.ts";
import { fsconfigSetString, fsopen, mount, mountOffThread, statx } from "../syscalls/mod.ts";
import { procFdPath } from "../path/mount_target.ts";

/** What mounts a file system. */
export interface FilesystemPlan {
  /** The file system's type. */
  type: string;
  /** The device, or a name. */
  source: string;
  /** How. */
  options: ParsedOptions;
}

/** The most that mount(2) takes as data: a page less the NUL. */
export const LONGEST_DATA = 4095;

/**
 * Mounts a file system.
 *
 * @param plan what to mount, and how.
 * @param place the mountpoint.
 * @param fds closes what is opened for it.
 * @param userns the user namespace whose maps it gets.
 * @returns undefined where it is made already, as what needs no disk is.
 */
export function mountFilesystem(
  plan: FilesystemPlan,
  place: OwnedFd,
  fds: OwnedFds,
  userns?: OwnedFd,
): Promise<void> | undefined {
  return plan.options.loop === undefined
    ? mountSource(plan, place, fds, userns)
    : mountImage(plan, place, userns);
}

async function mountImage(plan: FilesystemPlan, place: OwnedFd, userns?: OwnedFd): Promise<void> {
  using device = await loopFor(plan);
  using fds = new OwnedFds(); // closed before the device, which they would keep busy
  await mountSource({ ...plan, source: device.path }, place, fds, userns);
  device.close(); // the mount holds the device now, and autoclear frees it with the mount
}

async function loopFor({ source, options }: FilesystemPlan): Promise<LoopDevice> {
  const { direct, ...rest } = options.loop ?? { direct: false };
  const readonly = options.superFlags.findLast((name) => name === "ro" || name === "rw") === "ro";
  return await setupLoop(source, { ...rest, direct, readonly, autoclear: true });
}

function mountSource(
  plan: FilesystemPlan,
  place: OwnedFd,
  fds: OwnedFds,
  userns?: OwnedFd,
): Promise<void> | undefined {
  const waits = isBlockDevice(plan.source);
  return usesFsopen(plan) ? mountByContext(plan, place, fds, waits, userns) : mountByData(plan, place, waits);
}

/**
 * Whether it is made by fsopen(2), which attaches it nowhere.
 *
 * @param plan what to mount.
 * @returns false where mount(2) makes it.
 */
export function usesFsopen(plan: FilesystemPlan): boolean {
  return hasFeature("mountApi") && fitsContext(plan);
}

function mountByContext(
  plan: FilesystemPlan,
  place: OwnedFd,
  fds: OwnedFds,
  waits: boolean,
  userns?: OwnedFd,
): Promise<void> | undefined {
  if (waits) return mountLater(plan, place, fds, userns);
  attachNew(
    createSuperblock(openContext(plan), "create"),
    plan.options,
    place,
    fds,
    userns && idMapper(plan.type, userns),
  );
  return undefined;
}

async function mountLater(
  plan: FilesystemPlan,
  place: OwnedFd,
  fds: OwnedFds,
  userns?: OwnedFd,
): Promise<void> {
  const context = await createSuperblockAsync(() => openContext(plan), "create");
  attachNew(context, plan.options, place, fds, userns && idMapper(plan.type, userns));
}

/** Does it to a new mount, before that is attached. */
function idMapper(type: string, userns: OwnedFd): (made: OwnedFd) => void {
  return (made) => idMapNew(made, userns, type);
}

function openContext({ type, source, options }: FilesystemPlan): OwnedFd {
  const context = fsopen(type);
  try {
    if (source !== "") fsconfigSetString(context.fd, "source", source);
    setOptions(context, options.superFlags);
    setOptions(context, options.data);
    return context;
  } catch (error) {
    throw withKernelLog(context, error);
  }
}

function mountByData(plan: FilesystemPlan, place: OwnedFd, waits: boolean): Promise<void> | undefined {
  const { type, source, options } = plan;
  const data = options.data.join(",");
  const flags = superFlagsToFlags(options.superFlags, attributesToFlags(options.attributes));
  if (waits) return mountOffThread(source, procFdPath(place), type, flags, data);
  mount(source, procFdPath(place), type, flags, data);
  return undefined;
}

/**
 * Refuses options that no way of mounting takes, before any system call.
 *
 * @param plan what to mount.
 * @throws {TypeError} where they are over a page and a context can't take them either.
 */
export function refuseLongData(plan: FilesystemPlan): void {
  if (plan.options.idMaps && !fitsContext(plan)) {
    throw new TypeError(`with an id map, no option can be longer than ${LONGEST_STRING} bytes`);
  }
  if (plan.options.data.length === 0) return;
  const text = plan.options.data.join(",");
  if (text.length * 3 <= LONGEST_DATA) return; // UTF-8 makes three bytes of a UTF-16 unit at the most
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > LONGEST_DATA && !fitsContext(plan)) {
    throw new TypeError(
      `the options are ${bytes} bytes long, and one of them over ${LONGEST_STRING}: the kernel takes ${LONGEST_DATA} in all`,
    );
  }
}

/** Whether fsconfig(2) takes every value. */
function fitsContext({ source, options }: FilesystemPlan): boolean {
  if (!fitsString(source)) return false;
  for (const option of options.data) {
    if (!fitsString(option) && !fitsString(option.slice(option.indexOf("=") + 1))) return false;
  }
  return true;
}

function isBlockDevice(path: string): boolean {
  if (!path.startsWith("/")) return false;
  try {
    return (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE).mode & S_IFMT) === S_IFBLK;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG")) return false; // mounting will say it
    throw error;
  }
}
