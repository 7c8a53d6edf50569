/**
 * Typed one-to-one wrappers of the system calls, named as in the man pages, throwing {@linkcode SyscallError}.
 *
 * @module
 */

export * from "./file.ts";
export * from "./mount.ts";
export * from "./notify.ts";
export * from "./process.ts";
export * from "./stat.ts";
