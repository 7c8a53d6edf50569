/**
 * The system calls by which a process gives up rights, and takes another root directory, hostname and keyring.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { cString } from "../../ffi/memory.ts";

const SYS_pivot_root = Deno.build.arch === "aarch64" ? 41 : 155; // asm/unistd.h
const SYS_keyctl = Deno.build.arch === "aarch64" ? 219 : 250;
const PR_SET_PDEATHSIG = 1; // linux/prctl.h
const PR_SET_DUMPABLE = 4;
const PR_CAPBSET_READ = 23;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4n;
const KEYCTL_JOIN_SESSION_KEYRING = 1; // linux/keyctl.h
const LINUX_CAPABILITY_VERSION_3 = 0x20080522; // linux/capability.h

/**
 * pivot_root(2): takes another root directory. The old one is mounted on a directory of the new one.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN in the user namespace of the mount namespace.
 *
 * @param newRoot the new root directory, which is a mountpoint.
 * @param putOld a directory of it, or itself.
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts
 * import { isErrno, pivotRoot } from "@denomount/mount/linux";
 *
 * try {
 *   pivotRoot("/no/such/directory", "/no/such/directory");
 * } catch (error) {
 *   if (!isErrno(error, "ENOENT", "EPERM")) throw error;
 * }
 * ```
 */
export function pivotRoot(newRoot: string, putOld: string): void {
  const result = libc().pivot_root(SYS_pivot_root, cString(newRoot), cString(putOld));
  check(result, errno[0], "pivot_root", newRoot);
}

/**
 * sethostname(2): sets the name of the UTS namespace.
 *
 * Needs the permission `ffi`, and CAP_SYS_ADMIN in the user namespace of the UTS namespace.
 *
 * @param name the name, 64 bytes at most.
 * @throws {SyscallError} EINVAL for a longer name.
 *
 * @example
 * ```ts
 * import { isErrno, setHostname } from "@denomount/mount/linux";
 *
 * try {
 *   setHostname("x".repeat(65));
 * } catch (error) {
 *   if (!isErrno(error, "EINVAL", "EPERM")) throw error;
 * }
 * ```
 */
export function setHostname(name: string): void {
  const bytes = cString(name);
  check(libc().sethostname(bytes, BigInt(bytes.length - 1)), errno[0], "sethostname");
}

/**
 * prctl(2) with PR_SET_NO_NEW_PRIVS, on this thread: no program that is executed from now on gains rights by a
 * set-user-ID bit or a file capability.
 *
 * Needs the permission `ffi`. It can't be undone.
 *
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts ignore
 * import { setNoNewPrivs } from "@denomount/mount/linux";
 *
 * setNoNewPrivs();
 * ```
 */
export function setNoNewPrivs(): void {
  check(libc().prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n), errno[0], "prctl");
}

/**
 * prctl(2) with PR_SET_DUMPABLE 0: no other process without CAP_SYS_PTRACE can trace this one, or read its memory and its
 * descriptors by /proc.
 *
 * Needs the permission `ffi`.
 *
 * @throws {SyscallError} with the call's errno.
 *
 * @example
 * ```ts ignore
 * import { setUndumpable } from "@denomount/mount/linux";
 *
 * setUndumpable();
 * ```
 */
export function setUndumpable(): void {
  check(libc().prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n), errno[0], "prctl");
}

/**
 * prctl(2) with PR_SET_PDEATHSIG: sends a signal to this process when the thread ends that has started it.
 *
 * Needs the permission `ffi`.
 *
 * @param signal the number of the signal; 0 for none.
 * @throws {SyscallError} EINVAL for what is no signal.
 *
 * @example
 * ```ts
 * import { setParentDeathSignal } from "@denomount/mount/linux";
 *
 * setParentDeathSignal(9); // SIGKILL
 * setParentDeathSignal(0);
 * ```
 */
export function setParentDeathSignal(signal: number): void {
  check(libc().prctl(PR_SET_PDEATHSIG, BigInt(signal), 0n, 0n, 0n), errno[0], "prctl");
}

/**
 * Drops all capabilities of this thread, also from its bounding and its ambient set: what it starts can't get them back.
 *
 * Needs the permission `ffi`, and CAP_SETPCAP to change the bounding set. It can't be undone.
 *
 * @throws {SyscallError} EPERM without CAP_SETPCAP.
 *
 * @example
 * ```ts ignore
 * import { dropCapabilities } from "@denomount/mount/linux";
 *
 * dropCapabilities();
 * ```
 */
export function dropCapabilities(): void {
  const { prctl, capset } = libc();
  check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0n, 0n, 0n), errno[0], "prctl");
  for (let capability = 0n; prctl(PR_CAPBSET_READ, capability, 0n, 0n, 0n) >= 0; capability++) {
    check(prctl(PR_CAPBSET_DROP, capability, 0n, 0n, 0n), errno[0], "prctl");
  }
  const header = new Uint8Array(new ArrayBuffer(8)); // struct __user_cap_header_struct; pid 0 is this thread
  new DataView(header.buffer).setUint32(0, LINUX_CAPABILITY_VERSION_3, true); // version
  check(capset(header, new Uint8Array(24)), errno[0], "capset"); // two of struct __user_cap_data_struct
}

/**
 * keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING, on this thread: takes a new session keyring, so that the keys of the old one
 * are out of reach.
 *
 * Needs the permission `ffi`.
 *
 * @throws {SyscallError} ENOSYS for a kernel without keyrings, EDQUOT if the user has too many keys.
 *
 * @example
 * ```ts ignore
 * import { joinSessionKeyring } from "@denomount/mount/linux";
 *
 * joinSessionKeyring();
 * ```
 */
export function joinSessionKeyring(): void {
  check(libc().keyctl(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0n), errno[0], "keyctl");
}

/**
 * setresgid(2) and setresuid(2): takes another user and group, all three ids of each, on every thread.
 *
 * Needs the permission `ffi`, CAP_SETUID and CAP_SETGID.
 *
 * @param uid the user id, in this process's user namespace.
 * @param gid the group id, likewise.
 * @throws {SyscallError} EINVAL for an id that the namespace does not map.
 *
 * @example
 * ```ts ignore
 * import { setIds } from "@denomount/mount/linux";
 *
 * setIds(1000, 1000);
 * ```
 */
export function setIds(uid: number, gid: number): void {
  check(libc().setresgid(gid, gid, gid), errno[0], "setresgid");
  check(libc().setresuid(uid, uid, uid), errno[0], "setresuid");
}

/**
 * getegid(2): the effective group id of this process.
 *
 * Needs the permission `ffi`.
 *
 * @returns the id, in this process's user namespace.
 *
 * @example
 * ```ts
 * import { getegid } from "@denomount/mount/linux";
 *
 * console.log(getegid());
 * ```
 */
export function getegid(): number {
  return libc().getegid();
}
