/**
 * Typed one-to-one wrappers of the system calls, named as in the man pages, throwing {@linkcode SyscallError}.
 *
 * @module
 */

export * from "./syscalls/file.ts";
export * from "./syscalls/mount.ts";
export * from "./syscalls/notify.ts";
export * from "./syscalls/process.ts";
export * from "./syscalls/stat.ts";
