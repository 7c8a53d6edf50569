/**
 * Overlays by mount(2), whose options end after a page: before Linux 6.5.
 *
 * If the plain paths are too long, they are written relative to their common directory; if that is too long as well, they
 * are replaced by the numbers of descriptors in /proc/self/fd. Both need a working directory. That of a private thread is
 * used, so that the process's own never changes.
 *
 * @module
 */

import { isErrno, SyscallError } from "../../ffi/errno.ts";
import { cString } from "../../ffi/memory.ts";
import { onPrivateThread } from "../../ffi/private_thread.ts";
import { shown } from "../../ffi/text.ts";
import { type MountTarget, procFdPath } from "../path/mount_target.ts";
import { commonDirectory, join } from "../path/path.ts";
import { type Call, mountCall } from "../spec/call.ts";
import { ExplainedError } from "../spec/error.ts";
import { LONGEST_DATA } from "../spec/limits.ts";
import { newMountFlags } from "../spec/mount_flags.ts";
import { overlayData, type OverlayOptions } from "../spec/overlay_options.ts";
import type { OverlayPlan } from "../spec/plan.ts";
import { topAttributes } from "../spec/setattr.ts";
import { O_DIRECTORY, O_PATH } from "../syscalls/constants.ts";
import { mount, open, realpath } from "../syscalls/mod.ts";
import { withoutLabels } from "./labels.ts";
import { describeMappedLayers } from "./mapped_overlay.ts";
import { describeRemountTop, remountTop } from "./remount.ts";
import { type DescribeOptions, type Resolved, withMappedPaths } from "./resolved.ts";

/**
 * Mounts an overlay with mount(2).
 *
 * @param plan the overlay.
 * @param target the mountpoint.
 * @param resolved its lower layers, if they are id-mapped.
 */
export async function mountOverlayOnto(
  plan: OverlayPlan,
  target: MountTarget,
  { mappedLayers }: Resolved,
): Promise<void> {
  const labels = withoutLabels(plan).labels;
  const mapped = withMappedPaths(plan.layers, mappedLayers);
  const layers = labels.length === 0 ? mapped : { ...mapped, rest: [...mapped.rest, ...labels] };
  const { flags, remount } = newMountFlags(plan.superFlags, topAttributes(plan));
  try {
    await mountInOnePage(plan, layers, flags, procFdPath(target));
    if (remount) remountTop(remount, target);
  } catch (error) {
    throw error instanceof SyscallError ? withLayer(error, layers) : error;
  }
}

async function mountInOnePage(
  { source }: OverlayPlan,
  layers: OverlayOptions,
  flags: number,
  target: string,
): Promise<void> {
  const plain = overlayData(layers);
  if (fits(plain)) return mount(source, target, "overlay", flags, plain);
  using descriptors = new DisposableStack();
  const { directory, data } = shortened(layers, descriptors);
  await onPrivateThread([
    { name: "chdir", args: [cString(directory)], path: directory },
    {
      name: "mount",
      args: [cString(source), cString(target), cString("overlay"), BigInt(flags), cString(data)],
      path: source,
    },
  ]);
}

/**
 * Describes {@linkcode mountOverlayOnto}.
 *
 * @param plan the overlay.
 * @param options the mountpoint, and whether the lower layers are id-mapped.
 * @returns its calls.
 */
export function describeOverlayOnto(plan: OverlayPlan, { target, isMapped }: DescribeOptions): Call[] {
  const { source, layers } = plan;
  const mapped = isMapped ? describeMappedLayers(plan) : undefined;
  const data = overlayData(layers);
  const { flags, remount } = newMountFlags(plan.superFlags, topAttributes(plan));
  const purpose = fits(data) ? "mount it" : "mount it, its options shortened to one page";
  return [
    ...mapped?.before ?? [],
    mountCall({ source, target, type: "overlay", flags, data }, purpose),
    ...describeRemountTop(remount, target),
  ];
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
      // Overlay fails with EINVAL for a layer that is a file.
      if (isErrno(found, "ENOTDIR")) {
        return new ExplainedError(error, [], `${shown(path)} is not a directory`);
      }
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
