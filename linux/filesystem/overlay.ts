/**
 * Overlays whose layers are set one by one with `lowerdir+` (Linux 6.5), so that their number and the length of their
 * paths don't matter. The fallback, which puts all options into one page of mount(2), is overlay_one_page.ts.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { procFdPath } from "../path/mount_target.ts";
import { type Call, call, fsconfigCalls, quoted } from "../spec/call.ts";
import { fitsString } from "../spec/limits.ts";
import type { OverlayPlan } from "../spec/plan.ts";
import { topAttributes } from "../spec/setattr.ts";
import { O_PATH } from "../syscalls/constants.ts";
import { hasFeature } from "../syscalls/features.ts";
import {
  fsconfigSetFd,
  fsconfigSetString,
  fsconfigSetStrings,
  fsmount,
  fsopen,
  open,
} from "../syscalls/mod.ts";
import { describeSuperblock } from "./by_type.ts";
import { createSuperblock, setParameters, withKernelLog } from "./fs_context.ts";
import { withoutLabels } from "./labels.ts";
import { describeMappedLayers } from "./mapped_overlay.ts";
import { type DescribeOptions, type Resolved, withMappedPaths } from "./resolved.ts";

/**
 * Whether the kernel takes an overlay's layers one by one.
 *
 * @returns false before Linux 6.5.
 */
export function usesLowerdirPlus(): boolean {
  return hasFeature("mountApi") && hasFeature("overlayLayers");
}

/**
 * Makes an overlay with fsopen(2), layer by layer.
 *
 * @param plan the overlay.
 * @param resolved its lower layers, if they are id-mapped.
 * @returns the detached mount.
 */
export function createOverlay(plan: OverlayPlan, { mappedLayers, fds }: Resolved): OwnedFd {
  const { source, superFlags, labels } = withoutLabels(plan);
  const layers = withMappedPaths(plan.layers, mappedLayers);
  const directories = mappedLayers && "directories" in mappedLayers ? mappedLayers.directories : undefined;
  const context = fsopen("overlay");
  try {
    fsconfigSetString(context.fd, "source", source);
    addLayers(context, "lowerdir+", layers.lower, directories);
    addLayers(context, "datadir+", layers.dataOnly, directories, layers.lower.length);
    if (layers.upper !== undefined) setDirectory(context, "upperdir", layers.upper);
    if (layers.work !== undefined) setDirectory(context, "workdir", layers.work);
    setParameters(context, layers.rest);
    setParameters(context, labels);
    setParameters(context, superFlags);
  } catch (error) {
    throw withKernelLog(context, error);
  }
  fds.add(createSuperblock(context, "create"));
  return fds.add(fsmount(context.fd, topAttributes(plan).set));
}

const MANY = 16; // from this number on, encoding all paths at once costs less than one by one

function addLayers(
  context: OwnedFd,
  key: string,
  layers: readonly string[],
  directories: readonly (OwnedFd | undefined)[] | undefined,
  before = 0,
): void {
  if (directories === undefined && layers.length >= MANY && layers.every(fitsString)) {
    return fsconfigSetStrings(context.fd, key, layers);
  }
  for (let index = 0; index < layers.length; index++) {
    const directory = directories?.[before + index];
    const path = layers[index] as string;
    if (directory) fsconfigSetFd(context.fd, key, directory.fd);
    else if (fitsString(path)) fsconfigSetString(context.fd, key, path);
    else setLongLayer(context, key, path);
  }
}

/** The kernel removes escapes from upperdir and workdir, but not from lowerdir+ (ovl_parse_layer, fs/overlayfs/params.c). */
function setDirectory(context: OwnedFd, key: string, path: string): void {
  const text = path.replace(/\\/g, "\\\\");
  if (fitsString(text)) fsconfigSetString(context.fd, key, text);
  else setLongLayer(context, key, path);
}

/** A path that is too long for fsconfig(2) is set as a descriptor; the mount table then doesn't show it as written. */
function setLongLayer(context: OwnedFd, key: string, path: string): void {
  using directory = open(path, O_PATH); // the context holds a reference
  if (hasFeature("overlayDescriptors")) fsconfigSetFd(context.fd, key, directory.fd);
  else fsconfigSetString(context.fd, key, procFdPath(directory)); // 6.5 to 6.12
}

/**
 * Describes {@linkcode createOverlay}.
 *
 * @param plan the overlay.
 * @param options whether its lower layers are id-mapped.
 * @returns its calls.
 */
export function describeOverlay(plan: OverlayPlan, { isMapped }: DescribeOptions): Call[] {
  const { layers, source, superFlags, labels, unmapped } = withoutLabels(plan);
  const mapped = isMapped ? describeMappedLayers(plan) : undefined;
  const layer = (key: string) => (path: string) =>
    mapped?.isDetached && key.endsWith("+") && !unmapped.includes(path)
      ? call("fsconfig", ["context", "FSCONFIG_SET_FD", quoted(key), `id-mapped ${path}`], "a layer")
      : call("fsconfig", ["context", "FSCONFIG_SET_STRING", quoted(key), quoted(path)], "a layer");
  return [
    ...mapped?.before ?? [],
    call("fsopen", [quoted("overlay")], "open a context to configure"),
    ...fsconfigCalls([`source=${source}`]),
    ...layers.lower.map(layer("lowerdir+")),
    ...layers.dataOnly.map(layer("datadir+")),
    ...[layers.upper].filter((path) => path !== undefined).map(layer("upperdir")),
    ...[layers.work].filter((path) => path !== undefined).map(layer("workdir")),
    ...fsconfigCalls([...layers.rest, ...labels, ...superFlags]),
    ...describeSuperblock(plan),
  ];
}
