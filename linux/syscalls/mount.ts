/**
 * mount(2) and umount2(2), on this thread and on another.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { cString, offThread, scratchCString } from "../../ffi/memory.ts";

/**
 * mount(2): mounts a file system, or changes or moves a mount.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param source the device or directory; null for none.
 * @param target the mountpoint.
 * @param type the file system's type; null for none.
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
  const pointer = (text: string | null) => text === null ? null : scratchCString(text);
  check(
    libc().mount(pointer(source), pointer(target), pointer(type), BigInt(flags), pointer(data)),
    errno[0],
    "mount",
    source ?? undefined,
    target,
  );
}

/**
 * mount(2) on another thread, for a mount that may wait for a disk. A failed call is repeated on this thread, because the
 * errno of the other thread is lost. A failed mount(2) has changed nothing.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param source the device or directory; null for none.
 * @param target the mountpoint.
 * @param type the file system's type; null for none.
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
  const encode = (text: string | null) => text === null ? null : cString(text);
  const [from, to, kind, text] = [encode(source), encode(target), encode(type), encode(data)];
  const buffers = [from, to, kind, text].filter((bytes) => bytes !== null);
  const result = await offThread(
    () => libc().mount_nonblocking(from, to, kind, BigInt(flags), text),
    ...buffers,
  );
  if (result < 0) mount(source, target, type, flags, data);
}

/**
 * umount2(2): unmounts the topmost mount of a mountpoint.
 *
 * Needs the permission `ffi` and CAP_SYS_ADMIN.
 *
 * @param target the mountpoint.
 * @param flags `MNT_…` flags and `UMOUNT_NOFOLLOW`.
 * @throws {SyscallError} with the call's errno: EINVAL if the target is not a mountpoint, EBUSY if the mount is in use.
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
  check(libc().umount2(scratchCString(target), flags), errno[0], "umount2", target);
}

/**
 * umount2(2) on another thread, for a file system that may have to flush data. A failed call is repeated on this thread,
 * because the errno of the other thread is lost. A failed umount2(2) has changed nothing.
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
