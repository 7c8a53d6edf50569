/**
 * The system calls on descriptors: memfd_create(2), pipe2(2), fcntl(2), dup2(2), and close(2) on another thread.
 *
 * @module
 */

import { check } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { cString } from "../../ffi/memory.ts";

const O_CLOEXEC = 0o2000000; // asm-generic/fcntl.h
const MFD_CLOEXEC = 1; // linux/memfd.h
const F_GETFD = 1; // asm-generic/fcntl.h
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/**
 * memfd_create(2): opens a new file that exists in memory only.
 *
 * Needs the permission `ffi`.
 *
 * @param name a name, which only /proc shows.
 * @returns its descriptor, close-on-exec.
 * @throws {SyscallError} EMFILE at the limit of open files.
 *
 * @example
 * ```ts
 * import { memfdCreate, write } from "@denomount/mount/linux";
 *
 * using file = memfdCreate("example");
 * write(file.fd, new TextEncoder().encode("in memory"));
 * ```
 */
export function memfdCreate(name: string): OwnedFd {
  return new OwnedFd(check(libc().memfd_create(cString(name), MFD_CLOEXEC), errno[0], "memfd_create", name));
}

/**
 * close(2) on another thread, for a descriptor for which the kernel waits, such as that of fanotify(7).
 *
 * Needs the permission `ffi`.
 *
 * @param file the descriptor; it is no longer open for this program when the call returns, before it is awaited.
 *
 * @example
 * ```ts
 * import { closeOffThread, memfdCreate } from "@denomount/mount/linux";
 *
 * await closeOffThread(memfdCreate("example"));
 * ```
 */
export async function closeOffThread(file: OwnedFd): Promise<void> {
  await libc().close_nonblocking(file.release()); // fails for no descriptor that is open
}

/**
 * fcntl(2) with F_GETFD: whether a descriptor is closed when a program is executed.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @returns true if it is close-on-exec.
 * @throws {SyscallError} EBADF if it is not open.
 *
 * @example
 * ```ts
 * import { isCloseOnExec, memfdCreate } from "@denomount/mount/linux";
 *
 * using file = memfdCreate("example");
 * if (!isCloseOnExec(file.fd)) throw new Error("a program would inherit it");
 * ```
 */
export function isCloseOnExec(fd: number): boolean {
  return (check(libc().fcntl(fd, F_GETFD, 0n), errno[0], "fcntl") & FD_CLOEXEC) !== 0;
}

/**
 * fcntl(2) with F_SETFD: sets whether a descriptor is closed when a program is executed.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param closes whether it is closed.
 * @throws {SyscallError} EBADF if it is not open.
 *
 * @example
 * ```ts
 * import { memfdCreate, setCloseOnExec } from "@denomount/mount/linux";
 *
 * using file = memfdCreate("example");
 * setCloseOnExec(file.fd, false); // for a program that is started now
 * setCloseOnExec(file.fd, true);
 * ```
 */
export function setCloseOnExec(fd: number, closes: boolean): void {
  check(libc().fcntl(fd, F_SETFD, closes ? 1n : 0n), errno[0], "fcntl");
}

/**
 * dup2(2): makes a number refer to the file of another descriptor, and closes what it referred to before.
 *
 * Needs the permission `ffi`.
 *
 * @param fd an open descriptor.
 * @param number the number, such as 1 for standard output; the new descriptor is not close-on-exec.
 * @throws {SyscallError} EBADF if the descriptor is not open.
 *
 * @example
 * ```ts ignore
 * import { dup2, O_WRONLY, open } from "@denomount/mount/linux";
 *
 * using nothing = open("/dev/null", O_WRONLY);
 * dup2(nothing.fd, 1);
 * ```
 */
export function dup2(fd: number, number: number): void {
  check(libc().dup2(fd, number), errno[0], "dup2");
}

/**
 * pipe2(2): opens a pipe.
 *
 * Needs the permission `ffi`.
 *
 * @returns the end to read from and the end to write to, both close-on-exec.
 * @throws {SyscallError} EMFILE at the limit of open files.
 *
 * @example
 * ```ts
 * import { pipe, read, write } from "@denomount/mount/linux";
 *
 * const [from, to] = pipe();
 * write(to.fd, new TextEncoder().encode("hello"));
 * console.log(read(from.fd, new Uint8Array(64))); // 5
 * from.close();
 * to.close();
 * ```
 */
export function pipe(): [OwnedFd, OwnedFd] {
  const pair = new Int32Array(new ArrayBuffer(8));
  check(libc().pipe2(new Uint8Array(pair.buffer), O_CLOEXEC), errno[0], "pipe2");
  return [new OwnedFd(pair[0] ?? -1), new OwnedFd(pair[1] ?? -1)];
}

const F_SETLK = 6; // asm-generic/fcntl.h
const FLOCK = 32; // sizeof(struct flock) on 64-bit machines; all zero is F_RDLCK for the whole file

/**
 * fcntl(2) with F_SETLK: takes a POSIX lock for reading on a whole file, without waiting. It ends when the process closes
 * any descriptor of the file.
 *
 * Needs the permission `ffi`.
 *
 * @param fd a descriptor to read.
 * @throws {SyscallError} EAGAIN if another process has a lock for writing.
 *
 * @example
 * ```ts
 * import { lockForReading, memfdCreate } from "@denomount/mount/linux";
 *
 * using file = memfdCreate("example");
 * lockForReading(file.fd);
 * ```
 */
export function lockForReading(fd: number): void {
  check(libc().fcntl_buffer(fd, F_SETLK, new Uint8Array(FLOCK)), errno[0], "fcntl");
}
