/**
 * Overlays of any number of layers: handed to the kernel one by one, or on older kernels in one page of text made
 * short.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { cString } from "../../ffi/memory.ts";
import { onPrivateThread } from "../../ffi/private_thread.ts";
import { O_DIRECTORY, O_PATH } from "../syscalls/constants.ts";
import { attachNew, createSuperblock, fitsString, setOptions, withKernelLog } from "./fs_context.ts";
import { hasFeature } from "../syscalls/features.ts";
import { LONGEST_DATA } from "./by_type.ts";
import { attributesToFlags, superFlagsToFlags } from "../spec/mount_flags.ts";
import { ExplainedError } from "../spec/error.ts";
import type { ParsedOptions } from "../spec/options.ts";
import { overlayData, type OverlayOptions, parseOverlayOptions } from "../spec/overlay_options.ts";
import { AttachedLayers, openMappedLayers } from "../idmap/mapped_layers.ts";
import { commonDirectory, join } from "../path/path.ts";
import {
  fsconfigSetFd,
  fsconfigSetString,
  fsconfigSetStrings,
  fsopen,
  mount,
  open,
  realpath,
} from "../syscalls/mod.ts";
import { procFdPath } from "../path/mount_target.ts";

/** What makes an overlay. */
export interface OverlayPlan {
  /** The name that the mount table shows. */
  source: string;
  /** How. */
  options: ParsedOptions;
  /** The layers. */
  layers: OverlayOptions;
}

/**
 * Reads what an overlay is made of.
 *
 * @param source the name that the mount table shows.
 * @param options the parsed options.
 * @returns the plan.
 * @throws {TypeError} for layers without a name, an upper directory without a work directory, no layer at all.
 */
export function overlayPlan(source: string, options: ParsedOptions): OverlayPlan {
  const layers = parseOverlayOptions(options.data);
  if (layers.lower.length === 0) throw new TypeError('an overlay needs at least one layer in "lowerdir="');
  if (layers.upper === undefined && layers.lower.length + layers.dataOnly.length < 2) {
    throw new TypeError(
      'an overlay of one layer needs an "upperdir="; without one, a read-only bind is the same',
    );
  }
  if (layers.upper !== undefined && layers.work === undefined) {
    throw new TypeError('"upperdir=" needs a "workdir=" on the same file system');
  }
  return { source, options, layers };
}

/**
 * Whether the kernel takes an overlay's layers one by one; then it is attached nowhere at first.
 *
 * @returns false before Linux 6.5.
 */
export function usesLowerdirPlus(): boolean {
  return hasFeature("mountApi") && hasFeature("overlayLayers");
}

/**
 * Mounts an overlay.
 *
 * @param plan what it is made of.
 * @param place the mountpoint.
 * @param fds closes what is opened for it.
 * @param userns the user namespace whose maps its lower directories get; the upper one stays as it is.
 * @returns undefined where it is made already.
 */
export function mountOverlay(
  plan: OverlayPlan,
  place: OwnedFd,
  fds: OwnedFds,
  userns?: OwnedFd,
): Promise<void> | undefined {
  if (userns === undefined) return mountLayers(plan, place, fds);
  return hasFeature("detachedLayers")
    ? mountMapped(plan, place, fds, userns)
    : mountMappedAttached(plan, place, userns);
}

async function mountMapped(
  plan: OverlayPlan,
  place: OwnedFd,
  fds: OwnedFds,
  userns: OwnedFd,
): Promise<void> {
  const { lower, dataOnly } = plan.layers;
  mountLayerByLayer(plan, place, fds, await openMappedLayers([...lower, ...dataOnly], userns, fds));
}

/** Before Linux 6.15. */
async function mountMappedAttached(plan: OverlayPlan, place: OwnedFd, userns: OwnedFd): Promise<void> {
  const { layers } = plan;
  const lower = new Set([...layers.lower, ...layers.dataOnly]);
  await using attached = await AttachedLayers.attach([...lower], userns);
  const mapped = (path: string) => attached.paths.get(path) ?? path;
  const there = { ...layers, lower: layers.lower.map(mapped), dataOnly: layers.dataOnly.map(mapped) };
  using own = new OwnedFds(); // closed before the layers come off, which a context keeps busy
  await mountLayers({ ...plan, layers: there }, place, own);
}

function mountLayers(plan: OverlayPlan, place: OwnedFd, fds: OwnedFds): Promise<void> | undefined {
  if (!usesLowerdirPlus()) return mountInOnePage(plan, place);
  mountLayerByLayer(plan, place, fds);
  return undefined;
}

function mountLayerByLayer(
  { source, options, layers }: OverlayPlan,
  place: OwnedFd,
  fds: OwnedFds,
  mapped?: readonly (OwnedFd | undefined)[],
): void {
  const context = fsopen("overlay");
  try {
    fsconfigSetString(context.fd, "source", source || "overlay");
    addLayers(context, "lowerdir+", layers.lower, mapped);
    addLayers(context, "datadir+", layers.dataOnly, mapped, layers.lower.length);
    if (layers.upper !== undefined) setDirectory(context, "upperdir", layers.upper);
    if (layers.work !== undefined) setDirectory(context, "workdir", layers.work);
    setOptions(context, layers.rest);
    setOptions(context, options.superFlags);
  } catch (error) {
    throw withKernelLog(context, error);
  }
  attachNew(createSuperblock(context, "create"), options, place, fds);
}

function addLayers(
  context: OwnedFd,
  key: string,
  layers: readonly string[],
  mapped?: readonly (OwnedFd | undefined)[],
  before = 0,
): void {
  if (mapped === undefined && layers.length >= MANY && layers.every(fitsString)) {
    return fsconfigSetStrings(context.fd, key, layers);
  }
  for (let index = 0; index < layers.length; index++) {
    const directory = mapped?.[before + index];
    const path = layers[index] as string;
    if (directory) fsconfigSetFd(context.fd, key, directory.fd);
    else if (fitsString(path)) fsconfigSetString(context.fd, key, path);
    else setLongLayer(context, key, path);
  }
}

const MANY = 16; // from here on, encoding all of them at once saves more than it takes

/** The kernel takes escapes out of upperdir and workdir, but not out of lowerdir+ (ovl_parse_layer, fs/overlayfs). */
function setDirectory(context: OwnedFd, key: string, path: string): void {
  const text = path.replace(/\\/g, "\\\\");
  if (fitsString(text)) fsconfigSetString(context.fd, key, text);
  else setLongLayer(context, key, path);
}

/** A path goes in as text where it fits, which the mount table then shows; else as a descriptor. */
function setLongLayer(context: OwnedFd, key: string, path: string): void {
  using directory = open(path, O_PATH); // the context holds what it was given
  if (hasFeature("overlayDescriptors")) fsconfigSetFd(context.fd, key, directory.fd);
  else fsconfigSetString(context.fd, key, procFdPath(directory)); // 6.5 to 6.12
}

/**
 * Before 6.5: mount(2), whose text ends after a page. Where the plain paths are too long they are shortened to their
 * common directory; where that does not do, to descriptors. Both are relative to a working directory, which is that
 * of a private thread: the process's own never moves.
 */
async function mountInOnePage({ source, options, layers }: OverlayPlan, place: OwnedFd): Promise<void> {
  const flags = superFlagsToFlags(options.superFlags, attributesToFlags(options.attributes));
  const target = procFdPath(place);
  const name = source || "overlay";
  const plain = overlayData(layers);
  try {
    if (fits(plain)) return mount(name, target, "overlay", flags, plain);
    using descriptors = new DisposableStack();
    const { directory, data } = shortened(layers, descriptors);
    await onPrivateThread([
      { name: "chdir", args: [cString(directory)], path: directory },
      {
        name: "mount",
        args: [cString(name), cString(target), cString("overlay"), BigInt(flags), cString(data)],
        path: name,
      },
    ]);
  } catch (error) {
    throw error instanceof SyscallError ? withLayer(error, layers) : error;
  }
}

/** mount(2) does not say which layer is at fault: it is one that can't be opened as a directory. */
function withLayer(error: SyscallError, layers: OverlayOptions): Error {
  for (const path of allLayers(layers)) {
    try {
      open(path, O_PATH | O_DIRECTORY).close();
    } catch (found) {
      if (isErrno(found, error.code)) {
        return new SyscallError({ syscall: error.syscall, errno: error.errno, path });
      }
      // Overlay says EINVAL for a layer that is a file.
      if (isErrno(found, "ENOTDIR")) return new ExplainedError(error, [], `${path} is not a directory`);
    }
  }
  return error;
}

function shortened(
  layers: OverlayOptions,
  descriptors: DisposableStack,
): { directory: string; data: string } {
  const absolute = mapLayers(layers, (path) => join(path.startsWith("/") ? "/" : realpath("."), path));
  const directory = commonDirectory(allLayers(absolute));
  const below = overlayData(
    mapLayers(absolute, (path) => path.slice(directory.length).replace(/^\/+/, "") || "."),
  );
  if (fits(below)) return { directory, data: below };

  const data = overlayData(mapLayers(layers, (path) => `${descriptors.use(open(path, O_PATH)).fd}`));
  if (fits(data)) return { directory: "/proc/self/fd", data };
  throw new TypeError(
    `an overlay of ${layers.lower.length} layers needs Linux 6.5: before, its options end at a page`,
  );
}

function fits(data: string): boolean {
  return new TextEncoder().encode(data).length <= LONGEST_DATA;
}

function allLayers({ lower, dataOnly, upper, work }: OverlayOptions): string[] {
  return [...lower, ...dataOnly, upper, work].filter((path) => path !== undefined);
}

function mapLayers(layers: OverlayOptions, change: (path: string) => string): OverlayOptions {
  const mapped: OverlayOptions = {
    lower: layers.lower.map(change),
    dataOnly: layers.dataOnly.map(change),
    rest: layers.rest,
  };
  if (layers.upper !== undefined) mapped.upper = change(layers.upper);
  if (layers.work !== undefined) mapped.work = change(layers.work);
  return mapped;
}
