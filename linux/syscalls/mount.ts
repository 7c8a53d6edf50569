/**
 * mount(2) and umount2(2), on this thread and on another.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { cString, offThread, scratchCString } from "../../ffi/memory.ts";

/**
 * mount(2): makes or changes a mount the way that every kernel knows.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param source the device or directory; null where there is none.
 * @param target the mountpoint.
 * @param type the file system's type; null where there is none.
 * @param flags `MS_…` flags.
 * @param data the file system's options, comma-separated, up to 4095 bytes; null for none.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { mount, MS_NODEV, MS_NOSUID, umount2 } from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m");
 * umount2(target, 0);
 * await Deno.remove(target);
 * ```
 */
export function mount(
  source: string | null,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
): void {
  const borrowed = (text: string | null) => text === null ? null : scratchCString(text);
  check(
    libc().mount(borrowed(source), borrowed(target), borrowed(type), BigInt(flags), borrowed(data)),
    "mount",
    source ?? undefined,
    target,
  );
}

/**
 * mount(2) on another thread, for what may wait on a disk. A failure is tried once more on this thread, because
 * only here its errno can be read; a failed mount(2) has changed nothing.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param source the device or directory; null where there is none.
 * @param target the mountpoint.
 * @param type the file system's type; null where there is none.
 * @param flags `MS_…` flags.
 * @param data the file system's options; null for none.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { mountOffThread, umount2 } from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * await mountOffThread("tmpfs", target, "tmpfs", 0, null);
 * umount2(target, 0);
 * await Deno.remove(target);
 * ```
 */
export async function mountOffThread(
  source: string | null,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
): Promise<void> {
  const own = (text: string | null) => text === null ? null : cString(text);
  const [from, to, kind, text] = [own(source), own(target), own(type), own(data)];
  const kept = [from, to, kind, text].filter((bytes) => bytes !== null);
  const result = await offThread(
    () => libc().mount_nonblocking(from, to, kind, BigInt(flags), text),
    ...kept,
  );
  if (result < 0) mount(source, target, type, flags, data);
}

/**
 * umount2(2): takes a mount off.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param target the mountpoint.
 * @param flags `MNT_…` flags and `UMOUNT_NOFOLLOW`.
 * @throws {SyscallError} with the call's errno: EINVAL where the target is no mountpoint, EBUSY where it is used.
 *
 * @example
 * ```ts
 * import { mount, MNT_DETACH, umount2 } from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * mount("tmpfs", target, "tmpfs", 0, null);
 * umount2(target, MNT_DETACH);
 * await Deno.remove(target);
 * ```
 */
export function umount2(target: string, flags: number): void {
  check(libc().umount2(scratchCString(target), flags), "umount2", target);
}

/**
 * umount2(2) on another thread, for a file system that may have to be flushed first. A failure is tried once
 * more on this thread, because only here its errno can be read; a failed umount2(2) has changed nothing.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param target the mountpoint.
 * @param flags `MNT_…` flags and `UMOUNT_NOFOLLOW`.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { mount, umount2OffThread } from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * mount("tmpfs", target, "tmpfs", 0, null);
 * await umount2OffThread(target, 0);
 * await Deno.remove(target);
 * ```
 */
export async function umount2OffThread(target: string, flags: number): Promise<void> {
  const path = cString(target);
  const result = await offThread(() => libc().umount2_nonblocking(path, flags), path);
  if (result < 0) umount2(target, flags);
}
