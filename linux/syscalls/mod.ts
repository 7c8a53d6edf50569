/**
 * One function for each system call, named as in its man page. A failed call throws a {@linkcode SyscallError}.
 *
 * @module
 */

export * from "./at.ts";
export * from "./confine.ts";
export * from "./copy.ts";
export * from "./descriptor.ts";
export * from "./file.ts";
export * from "./fsopen.ts";
export * from "./message.ts";
export * from "./mount.ts";
export * from "./mount_tree.ts";
export * from "./notify.ts";
export * from "./open.ts";
export * from "./path.ts";
export * from "./process.ts";
export * from "./socket.ts";
export * from "./spawn.ts";
export * from "./stat.ts";
export * from "./statmount.ts";
export * from "./xattr.ts";
