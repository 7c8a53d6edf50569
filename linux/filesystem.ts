/**
 * Mounts of a file system by its type: fsopen(2), whose errors are sentences, and beside it mount(2).
 *
 * @module
 */

import { isErrno } from "../ffi/errno.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { idMapNew } from "./attributes.ts";
import { AT_FDCWD, AT_STATX_DONT_SYNC, S_IFBLK, S_IFMT, STATX_TYPE } from "./constants.ts";
import { configured, execute, fitsString, LONGEST_STRING, setOptions } from "./context.ts";
import { hasFeature } from "./features.ts";
import { attributesToFlags, superFlagsToFlags } from "./flags.ts";
import { type LoopDevice, setupLoop } from "./loop.ts";
import type { ParsedOptions } from "./options.ts";
import { fsconfigSetString, fsmount, fsopen, mount, mountOffThread, statx } from "./syscalls.ts";
import { attach, throughProc } from "./target.ts";

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
 * @param userns the user namespace whose maps it gets.
 */
export async function mountFilesystem(plan: FilesystemPlan, place: OwnedFd, userns?: OwnedFd): Promise<void> {
  if (plan.options.loop === undefined) return await mountSource(plan, place, userns);
  using device = await loopFor(plan);
  await mountSource({ ...plan, source: device.path }, place, userns);
  device.close(); // the mount holds the device now, and autoclear frees it with the mount
}

async function loopFor({ source, options }: FilesystemPlan): Promise<LoopDevice> {
  const { direct, ...rest } = options.loop ?? { direct: false };
  const readonly = options.superFlags.findLast((name) => name === "ro" || name === "rw") === "ro";
  return await setupLoop(source, { ...rest, direct, readonly, autoclear: true });
}

async function mountSource(plan: FilesystemPlan, place: OwnedFd, userns?: OwnedFd): Promise<void> {
  const waits = isBlockDevice(plan.source);
  if (isMadeByContext(plan)) await mountByContext(plan, place, waits, userns);
  else await mountByData(plan, place, waits);
}

/**
 * Whether it is made by fsopen(2), which attaches it nowhere.
 *
 * @param plan what to mount.
 * @returns false where mount(2) makes it.
 */
export function isMadeByContext(plan: FilesystemPlan): boolean {
  return hasFeature("mountApi") && fitsContext(plan);
}

async function mountByContext(
  plan: FilesystemPlan,
  place: OwnedFd,
  waits: boolean,
  userns?: OwnedFd,
): Promise<void> {
  const { type, source, options } = plan;
  const prepare = () =>
    configured(fsopen(type), (context) => {
      if (source !== "") fsconfigSetString(context.fd, "source", source);
      setOptions(context, options.superFlags);
      setOptions(context, options.data);
    });
  using context = await execute(prepare, "create", waits);
  using made = fsmount(context.fd, options.attributes.set | options.recursiveAttributes.set);
  if (userns) idMapNew(made, userns, type);
  attach(made, place);
}

async function mountByData(plan: FilesystemPlan, place: OwnedFd, waits: boolean): Promise<void> {
  const { type, source, options } = plan;
  const data = options.data.join(",");
  const flags = superFlagsToFlags(options.superFlags, attributesToFlags(options.attributes));
  const call = waits ? mountOffThread : mount;
  await call(source, throughProc(place), type, flags, data);
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
  const bytes = new TextEncoder().encode(plan.options.data.join(",")).length;
  if (bytes > LONGEST_DATA && !fitsContext(plan)) {
    throw new TypeError(
      `the options are ${bytes} bytes long, and one of them over ${LONGEST_STRING}: the kernel takes ${LONGEST_DATA} in all`,
    );
  }
}

/** Whether fsconfig(2) takes every value. */
function fitsContext({ source, options }: FilesystemPlan): boolean {
  const values = options.data.map((option) => option.slice(option.indexOf("=") + 1));
  return [source, ...values].every(fitsString);
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
