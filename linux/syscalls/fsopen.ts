/**
 * The system calls that configure a file system: fsopen(2), fspick(2), fsconfig(2) and fsmount(2).
 *
 * @module
 */

import { check, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, errnoOfCall, libc } from "../../ffi/libc.ts";
import { allocCString, scratchCString, withStrings } from "../../ffi/memory.ts";
import type { Scratch } from "../../ffi/scratch.ts";
import {
  FSCONFIG_CMD_CREATE,
  FSCONFIG_CMD_RECONFIGURE,
  FSCONFIG_SET_FD,
  FSCONFIG_SET_FLAG,
  FSCONFIG_SET_STRING,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  FSPICK_CLOEXEC,
} from "./constants.ts";
import { SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick } from "./numbers.ts";

/**
 * fsopen(2): opens a context to configure and create a file system.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param type the file system's type, such as "tmpfs".
 * @returns the context's descriptor.
 * @throws {SyscallError} ENODEV if the kernel does not have the type.
 *
 * @example
 * ```ts
 * import { fsconfigCreate, fsconfigSetString, fsmount, fsopen } from "@denomount/mount/linux";
 *
 * using context = fsopen("tmpfs");
 * fsconfigSetString(context.fd, "size", "1m");
 * fsconfigCreate(context.fd);
 * using detached = fsmount(context.fd, 0);
 * ```
 */
export function fsopen(type: string): OwnedFd {
  return new OwnedFd(
    check(libc().fsopen(SYS_fsopen, scratchCString(type), FSOPEN_CLOEXEC), errno[0], "fsopen", type),
  );
}

/**
 * fspick(2): opens a context to reconfigure the file system of a mount.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param dirfd the directory of a relative path.
 * @param path the root of the mount; "" with `FSPICK_EMPTY_PATH`.
 * @param flags `FSPICK_…` flags; close-on-exec is always set.
 * @returns the context's descriptor.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * linux.mount("tmpfs", target, "tmpfs", 0, "size=1m");
 * {
 *   using context = linux.fspick(linux.AT_FDCWD, target, 0);
 *   linux.fsconfigSetString(context.fd, "size", "2m");
 *   linux.fsconfigReconfigure(context.fd);
 * }
 * linux.umount2(target, 0);
 * await Deno.remove(target);
 * ```
 */
export function fspick(dirfd: number, path: string, flags: number): OwnedFd {
  return new OwnedFd(
    check(
      libc().fspick(SYS_fspick, dirfd, scratchCString(path), flags | FSPICK_CLOEXEC),
      errno[0],
      "fspick",
      path || undefined,
    ),
  );
}

/**
 * fsconfig(2), FSCONFIG_SET_FLAG: sets a parameter that has no value.
 *
 * Needs the permission `ffi` and Linux 5.2.
 *
 * @param fd the context of {@linkcode fsopen} or {@linkcode fspick}.
 * @param key the parameter's name.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then returns the kernel's message.
 *
 * @example
 * ```ts
 * import { fsconfigSetFlag, fsopen } from "@denomount/mount/linux";
 *
 * using context = fsopen("tmpfs");
 * fsconfigSetFlag(context.fd, "ro");
 * ```
 */
export function fsconfigSetFlag(fd: number, key: string): void {
  fsconfig(fd, FSCONFIG_SET_FLAG, key, null, 0);
}

/**
 * fsconfig(2), FSCONFIG_SET_STRING: sets a parameter to a string.
 *
 * Needs the permission `ffi` and Linux 5.2.
 *
 * @param fd the context of {@linkcode fsopen} or {@linkcode fspick}.
 * @param key the parameter's name.
 * @param value its value, up to 255 bytes.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then returns the kernel's message.
 *
 * @example
 * ```ts
 * import { fsconfigSetString, fsopen } from "@denomount/mount/linux";
 *
 * using context = fsopen("tmpfs");
 * fsconfigSetString(context.fd, "size", "1m");
 * ```
 */
export function fsconfigSetString(fd: number, key: string, value: string): void {
  fsconfig(fd, FSCONFIG_SET_STRING, key, value, 0);
}

/**
 * fsconfig(2), FSCONFIG_SET_STRING, once for each value: for the layers of an overlay.
 *
 * Needs the permission `ffi` and Linux 5.2.
 *
 * @param fd the context of {@linkcode fsopen} or {@linkcode fspick}.
 * @param key the parameter's name.
 * @param values the values, up to 255 bytes each.
 * @throws {SyscallError} for the first value that fails, such as ENOENT for a layer that does not exist.
 *
 * @example
 * ```ts
 * import { fsconfigSetStrings, fsopen } from "@denomount/mount/linux";
 *
 * using context = fsopen("overlay");
 * fsconfigSetStrings(context.fd, "lowerdir+", ["/usr", "/etc"]);
 * ```
 */
export function fsconfigSetStrings(fd: number, key: string, values: readonly string[]): void {
  const { fsconfig } = libc();
  const name = keyString(key);
  withStrings(values, (value, text) => {
    const result = fsconfig(SYS_fsconfig, fd, FSCONFIG_SET_STRING, name, value, 0);
    const own = errno[0];
    if (result >= 0) return;
    throw new SyscallError({ syscall: "fsconfig", errno: errnoOfCall(own), path: `${key}=${text}` });
  });
}

/**
 * fsconfig(2), FSCONFIG_SET_FD: sets a parameter to an open descriptor.
 *
 * Needs the permission `ffi` and Linux 5.2; which parameters take a descriptor depends on the file system (overlay's from 6.13).
 *
 * @param fd the context of {@linkcode fsopen} or {@linkcode fspick}.
 * @param key the parameter's name.
 * @param value the descriptor.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then returns the kernel's message.
 *
 * @example
 * ```ts
 * import { fsconfigSetFd, fsopen, open, O_PATH } from "@denomount/mount/linux";
 *
 * using context = fsopen("overlay");
 * using layer = open("/usr", O_PATH);
 * fsconfigSetFd(context.fd, "lowerdir+", layer.fd);
 * ```
 */
export function fsconfigSetFd(fd: number, key: string, value: number): void {
  fsconfig(fd, FSCONFIG_SET_FD, key, null, value);
}

/**
 * fsconfig(2), FSCONFIG_CMD_CREATE: creates the configured file system (its superblock).
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fd the context of {@linkcode fsopen}.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then returns the kernel's message.
 *
 * @example
 * ```ts
 * import { fsconfigCreate, fsopen } from "@denomount/mount/linux";
 *
 * using context = fsopen("tmpfs");
 * fsconfigCreate(context.fd);
 * ```
 */
export function fsconfigCreate(fd: number): void {
  fsconfig(fd, FSCONFIG_CMD_CREATE, null, null, 0);
}

/**
 * fsconfig(2), FSCONFIG_CMD_RECONFIGURE: applies the new parameters to the file system.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fd the context of {@linkcode fspick}.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then returns the kernel's message.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * linux.mount("tmpfs", target, "tmpfs", 0, null);
 * {
 *   using context = linux.fspick(linux.AT_FDCWD, target, 0);
 *   linux.fsconfigSetFlag(context.fd, "ro");
 *   linux.fsconfigReconfigure(context.fd);
 * }
 * linux.umount2(target, 0);
 * await Deno.remove(target);
 * ```
 */
export function fsconfigReconfigure(fd: number): void {
  fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, null, null, 0);
}

/**
 * fsconfig(2) with a command, on another thread: creating a file system on a block device, or making it read-only, waits
 * for the disk.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fd the context of {@linkcode fsopen} or {@linkcode fspick}.
 * @param command `FSCONFIG_CMD_CREATE` or `FSCONFIG_CMD_RECONFIGURE`.
 * @returns whether it succeeded. The errno of a failure is lost, and a failed context cannot be used again.
 *
 * @example
 * ```ts
 * import { FSCONFIG_CMD_CREATE, fsconfigOffThread, fsopen } from "@denomount/mount/linux";
 *
 * using context = fsopen("tmpfs");
 * const isCreated = await fsconfigOffThread(context.fd, FSCONFIG_CMD_CREATE);
 * if (!isCreated) throw new Error("the kernel has no tmpfs");
 * ```
 */
export async function fsconfigOffThread(fd: number, command: number): Promise<boolean> {
  return await libc().fsconfig_nonblocking(SYS_fsconfig, fd, command, null, null, 0) >= 0;
}

function fsconfig(fd: number, command: number, key: string | null, value: string | null, aux: number): void {
  const keyBytes = key === null ? null : keyString(key);
  const valueBytes = value === null ? null : scratchCString(value);
  const result = libc().fsconfig(SYS_fsconfig, fd, command, keyBytes, valueBytes, aux);
  const own = errno[0];
  if (result >= 0) return;
  const path = key === null ? undefined : value === null ? key : `${key}=${value}`;
  throw new SyscallError({ syscall: "fsconfig", errno: errnoOfCall(own), path });
}

// An overlay of a hundred layers sets the same key a hundred times. The keys are option names, so the map stays small.
const keys = new Map<string, Scratch>();
const MAX_KEYS = 64; // more are not kept, so a caller cannot make the map grow

function keyString(key: string): Deno.PointerValue {
  const known = keys.get(key);
  if (known) return known.address;
  if (keys.size >= MAX_KEYS) return scratchCString(key);
  const string = allocCString(key);
  keys.set(key, string);
  return string.address;
}

/**
 * fsmount(2): mounts the created file system, detached.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fd the context of {@linkcode fsopen}, after {@linkcode fsconfigCreate}.
 * @param attributes the `MOUNT_ATTR_…` flags of the mount.
 * @returns the mount's descriptor, for {@linkcode moveMount}.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * using context = linux.fsopen("tmpfs");
 * linux.fsconfigCreate(context.fd);
 * using detached = linux.fsmount(context.fd, linux.MOUNT_ATTR_NODEV);
 * console.log(detached.fd);
 * ```
 */
export function fsmount(fd: number, attributes: number): OwnedFd {
  return new OwnedFd(
    check(libc().fsmount(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes), errno[0], "fsmount"),
  );
}

/**
 * Reads the kernel's messages about a context of {@linkcode fsopen} or {@linkcode fspick}, such as "overlay: Unknown
 * parameter 'bogus'". Each read(2) returns one message.
 *
 * Needs the permission `ffi` and Linux 5.2.
 *
 * @param fd the context's descriptor.
 * @returns the messages, without the letter for error, warning or info (e, w, i) at the beginning of each.
 *
 * @example
 * ```ts
 * import { fsconfigSetFlag, fsopen, readKernelMessages } from "@denomount/mount/linux";
 *
 * using context = fsopen("tmpfs");
 * try {
 *   fsconfigSetFlag(context.fd, "bogus");
 * } catch {
 *   console.log(readKernelMessages(context.fd)); // [ "tmpfs: Unknown parameter 'bogus'" ]
 * }
 * ```
 */
export function readKernelMessages(fd: number): string[] {
  const messages: string[] = [];
  const message = new Uint8Array(4096);
  for (;;) {
    const length = Number(libc().read(fd, message, BigInt(message.length)));
    if (length <= 0) return messages; // ENODATA: no more messages
    const text = new TextDecoder().decode(message.subarray(0, length));
    messages.push(text.replace(/^[ewi] /, "").trimEnd());
  }
}
