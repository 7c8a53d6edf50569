/**
 * The system calls that make, change and take off mounts, one to one.
 *
 * @module
 */

import { check, SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { allocCString, cString, offThread, scratchCString, withStrings } from "../../ffi/memory.ts";
import { Scratch } from "../../ffi/scratch.ts";
import {
  AT_EMPTY_PATH,
  FSCONFIG_CMD_CREATE,
  FSCONFIG_CMD_RECONFIGURE,
  FSCONFIG_SET_FD,
  FSCONFIG_SET_FLAG,
  FSCONFIG_SET_STRING,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  FSPICK_CLOEXEC,
  OPEN_TREE_CLOEXEC,
} from "./constants.ts";

// asm-generic/unistd.h; from 424 up the numbers are one and the same on every architecture.
const SYS_open_tree = 428;
const SYS_move_mount = 429;
const SYS_fsopen = 430;
const SYS_fsconfig = 431;
const SYS_fsmount = 432;
const SYS_fspick = 433;
const SYS_mount_setattr = 442;

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

/**
 * open_tree(2): opens a place in the tree, or with `OPEN_TREE_CLONE` a detached copy of the mount there.
 *
 * Needs the permission `ffi`, Linux 5.2, and CAP_SYS_ADMIN for a copy.
 *
 * @param dirfd where a relative path starts; `AT_FDCWD` for the working directory.
 * @param path the place.
 * @param flags `OPEN_TREE_CLONE`, `AT_RECURSIVE`, `AT_EMPTY_PATH`, …; close-on-exec is always set.
 * @returns the tree's descriptor.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { AT_FDCWD, OPEN_TREE_CLONE, openTree } from "@denomount/mount/linux";
 *
 * using tree = openTree(AT_FDCWD, "/", OPEN_TREE_CLONE); // a copy that is mounted nowhere
 * console.log(tree.fd);
 * ```
 */
export function openTree(dirfd: number, path: string, flags: number): OwnedFd {
  const result = libc().open_tree(
    SYS_open_tree,
    dirfd,
    scratchCString(path),
    (flags | OPEN_TREE_CLOEXEC) >>> 0,
  );
  return new OwnedFd(check(result, "open_tree", path));
}

/**
 * move_mount(2): attaches a detached mount, or moves one.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fromFd the mount's descriptor, or where `fromPath` starts.
 * @param fromPath the mount's path; "" with `MOVE_MOUNT_F_EMPTY_PATH`.
 * @param toFd the mountpoint's descriptor, or where `toPath` starts.
 * @param toPath the mountpoint; "" with `MOVE_MOUNT_T_EMPTY_PATH`.
 * @param flags `MOVE_MOUNT_…` flags.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * const target = await Deno.makeTempDir();
 * {
 *   using tree = linux.openTree(linux.AT_FDCWD, "/usr", linux.OPEN_TREE_CLONE);
 *   linux.moveMount(tree.fd, "", linux.AT_FDCWD, target, linux.MOVE_MOUNT_F_EMPTY_PATH);
 * }
 * linux.umount2(target, 0);
 * await Deno.remove(target);
 * ```
 */
export function moveMount(
  fromFd: number,
  fromPath: string,
  toFd: number,
  toPath: string,
  flags: number,
): void {
  check(
    libc().move_mount(SYS_move_mount, fromFd, scratchCString(fromPath), toFd, scratchCString(toPath), flags),
    "move_mount",
    fromPath || undefined,
    toPath || undefined,
  );
}

/**
 * fsopen(2): begins a file system of a type, to be configured and then mounted.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param type the file system's type, such as "tmpfs".
 * @returns the descriptor of its context.
 * @throws {SyscallError} ENODEV where the kernel does not know the type.
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
  return new OwnedFd(check(libc().fsopen(SYS_fsopen, scratchCString(type), FSOPEN_CLOEXEC), "fsopen", type));
}

/**
 * fspick(2): begins to change the file system of an existing mount.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param dirfd where the path starts.
 * @param path the root of the mount; "" with `FSPICK_EMPTY_PATH`.
 * @param flags `FSPICK_…` flags; close-on-exec is always set.
 * @returns the descriptor of its context.
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
 * @param fd the context of fsopen or fspick.
 * @param key the parameter's name.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then has the kernel's sentence.
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
 * @param fd the context of fsopen or fspick.
 * @param key the parameter's name.
 * @param value its value, up to 255 bytes.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then has the kernel's sentence.
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
 * fsconfig(2), FSCONFIG_SET_STRING, with one value after the other: what an overlay of many layers does.
 *
 * Needs the permission `ffi` and Linux 5.2.
 *
 * @param fd the context of fsopen or fspick.
 * @param key the parameter's name.
 * @param values what it is set to, up to 255 bytes each.
 * @throws {SyscallError} for the first one that fails, such as ENOENT for a layer that does not exist.
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
    if (fsconfig(SYS_fsconfig, fd, FSCONFIG_SET_STRING, name, value, 0) >= 0) return;
    throw new SyscallError({ syscall: "fsconfig", errno: lastErrno(), path: `${key}=${text}` });
  });
}

/**
 * fsconfig(2), FSCONFIG_SET_FD: sets a parameter to an open descriptor.
 *
 * Needs the permission `ffi` and Linux 5.2; each file system says what takes a descriptor (overlay from 6.13).
 *
 * @param fd the context of fsopen or fspick.
 * @param key the parameter's name.
 * @param value the descriptor.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then has the kernel's sentence.
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
 * fsconfig(2), FSCONFIG_CMD_CREATE: makes the file system that was configured.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fd the context of fsopen.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then has the kernel's sentence.
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
 * fsconfig(2), FSCONFIG_CMD_RECONFIGURE: changes the file system that was picked.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2. See {@linkcode fspick} for an example.
 *
 * @param fd the context of fspick.
 * @throws {SyscallError} with the call's errno; {@linkcode readKernelMessages} then has the kernel's sentence.
 */
export function fsconfigReconfigure(fd: number): void {
  fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, null, null, 0);
}

/**
 * fsconfig(2) with one of the two commands, on another thread: making a file system on a block device or
 * changing it to read-only waits for the disk.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2.
 *
 * @param fd the context of fsopen or fspick.
 * @param command `FSCONFIG_CMD_CREATE` or `FSCONFIG_CMD_RECONFIGURE`.
 * @returns whether it worked; a failure's errno stays on the other thread, and the context is dead.
 *
 * @example
 * ```ts
 * import { FSCONFIG_CMD_CREATE, fsconfigOffThread, fsopen } from "@denomount/mount/linux";
 *
 * using context = fsopen("tmpfs");
 * if (!(await fsconfigOffThread(context.fd, FSCONFIG_CMD_CREATE))) throw new Error("no tmpfs");
 * ```
 */
export async function fsconfigOffThread(fd: number, command: number): Promise<boolean> {
  return await libc().fsconfig_nonblocking(SYS_fsconfig, fd, command, null, null, 0) >= 0;
}

function fsconfig(fd: number, command: number, key: string | null, value: string | null, aux: number): void {
  const keyBytes = key === null ? null : keyString(key);
  const valueBytes = value === null ? null : scratchCString(value);
  const result = libc().fsconfig(SYS_fsconfig, fd, command, keyBytes, valueBytes, aux);
  if (result >= 0) return;
  const path = key === null ? undefined : value === null ? key : `${key}=${value}`;
  throw new SyscallError({ syscall: "fsconfig", errno: lastErrno(), path });
}

// An overlay of a hundred layers says the same key a hundred times, and each overlay the same ones.
const keys = new Map<string, Scratch>();
const MOST_KEYS = 64; // names of options, of which there are few

function keyString(key: string): Deno.PointerValue {
  const known = keys.get(key);
  if (known) return known.address;
  if (keys.size >= MOST_KEYS) return scratchCString(key);
  const kept = allocCString(key);
  keys.set(key, kept);
  return kept.address;
}

/**
 * fsmount(2): a detached mount of the file system that was made.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.2. See {@linkcode fsopen} for an example.
 *
 * @param fd the context of fsopen, after {@linkcode fsconfigCreate}.
 * @param attributes `MOUNT_ATTR_…` of the mount.
 * @returns the mount's descriptor, for {@linkcode moveMount}.
 * @throws {SyscallError} with the call's errno.
 */
export function fsmount(fd: number, attributes: number): OwnedFd {
  return new OwnedFd(check(libc().fsmount(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes), "fsmount"));
}

/**
 * Reads what the kernel has to say about a context of fsopen or fspick: one message for each read(2), such as
 * "overlay: Unknown parameter 'bogus'".
 *
 * Needs the permission `ffi` and Linux 5.2.
 *
 * @param fd the context.
 * @returns its messages, without the letter for the kind (e, w, i) that each begins with.
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
  const line = new Uint8Array(4096);
  for (;;) {
    const length = Number(libc().read(fd, line, BigInt(line.length)));
    if (length <= 0) return messages; // ENODATA: no more of them
    const text = new TextDecoder().decode(line.subarray(0, length));
    messages.push(text.replace(/^[ewi] /, "").trimEnd());
  }
}

/** struct mount_attr of linux/mount.h: what {@linkcode mountSetattr} changes. */
export interface MountAttr {
  /** `MOUNT_ATTR_…` to set. */
  set?: number;
  /** `MOUNT_ATTR_…` to clear. */
  clear?: number;
  /** One of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` and `MS_UNBINDABLE`; 0 leaves it. */
  propagation?: number;
  /** The user namespace whose maps `MOUNT_ATTR_IDMAP` takes. */
  usernsFd?: number;
}

/**
 * mount_setattr(2): changes the attributes of a mount, or with `AT_RECURSIVE` of a tree of them, all at once.
 *
 * Needs the permission `ffi`, CAP_SYS_ADMIN and Linux 5.12.
 *
 * @param dirfd the mount's descriptor, or where the path starts.
 * @param path the mount's root; "" with `AT_EMPTY_PATH`.
 * @param flags `AT_EMPTY_PATH`, `AT_RECURSIVE`.
 * @param attr what to change.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import * as linux from "@denomount/mount/linux";
 *
 * using tree = linux.openTree(linux.AT_FDCWD, "/usr", linux.OPEN_TREE_CLONE);
 * linux.mountSetattr(tree.fd, "", linux.AT_EMPTY_PATH, { set: linux.MOUNT_ATTR_RDONLY });
 * ```
 */
export function mountSetattr(dirfd: number, path: string, flags: number, attr: MountAttr): void {
  const { set = 0, clear = 0, propagation = 0, usernsFd = 0 } = attr;
  const { view } = mountAttr; // the upper halves stay 0
  view.setUint32(0, set, true); // attr_set
  view.setUint32(8, clear, true); // attr_clr
  view.setUint32(16, propagation, true); // propagation
  view.setUint32(24, usernsFd, true); // userns_fd
  check(
    libc().mount_setattr(
      SYS_mount_setattr,
      dirfd,
      scratchCString(path),
      flags >>> 0,
      mountAttr.address,
      MOUNT_ATTR_SIZE,
    ),
    "mount_setattr",
    flags & AT_EMPTY_PATH ? undefined : path,
  );
}

const MOUNT_ATTR_SIZE = 32n; // MOUNT_ATTR_SIZE_VER0, linux/mount.h
const mountAttr = new Scratch(Number(MOUNT_ATTR_SIZE));
