/**
 * Changes of a mount that is there: its own attributes, and its file system's options.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { FSPICK_EMPTY_PATH, MS_REMOUNT } from "../syscalls/constants.ts";
import { changeAttributes } from "../idmap/attributes.ts";
import { usesMountSetattr } from "../syscalls/features.ts";
import { remountBind } from "./bind.ts";
import { createSuperblockAsync, setOptions, withKernelLog } from "./fs_context.ts";
import { attributesToFlags, flagsOfMount, superFlagsToFlags } from "../spec/mount_flags.ts";
import type { ParsedOptions } from "../spec/options.ts";
import { fspick, mountOffThread } from "../syscalls/mod.ts";
import { procFdPath } from "../path/mount_target.ts";

/**
 * Changes a mount. What the options do not name stays as it is.
 *
 * @param options what to change; with `bind`, the mount alone and not its file system.
 * @param mounted the mount's root.
 */
export async function remount(options: ParsedOptions, mounted: OwnedFd): Promise<void> {
  if (usesMountSetattr()) {
    if (changesFilesystem(options)) await reconfigure(options, mounted);
    changeAttributes(mounted, options);
  } else if (options.bind) remountBind(mounted, options);
  else await remountByData(options, mounted);
}

function changesFilesystem(options: ParsedOptions): boolean {
  return !options.bind && options.superFlags.length + options.data.length > 0;
}

async function reconfigure(options: ParsedOptions, mounted: OwnedFd): Promise<void> {
  const prepare = () => {
    const context = fspick(mounted.fd, "", FSPICK_EMPTY_PATH);
    try {
      setOptions(context, options.superFlags);
      setOptions(context, options.data);
      return context;
    } catch (error) {
      throw withKernelLog(context, error);
    }
  };
  using _context = await createSuperblockAsync(prepare, "reconfigure"); // to read-only, it waits for the disk
}

/** Before 5.12: mount(2) sets every flag at once, so those that stay are said again. */
async function remountByData(options: ParsedOptions, mounted: OwnedFd): Promise<void> {
  const path = procFdPath(mounted);
  const flags = superFlagsToFlags(
    options.superFlags,
    attributesToFlags(options.attributes, flagsOfMount(path)),
  );
  await mountOffThread(null, path, null, MS_REMOUNT | flags, options.data.join(","));
}
