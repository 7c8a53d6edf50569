/**
 * Numbers of the system calls that are made in more than one file. The files that need a number alone have it themselves.
 *
 * @module
 */

// asm-generic/unistd.h; from 424 up, every architecture has the same numbers.

/** The number of open_tree(2). */
export const SYS_open_tree = 428;
/** The number of move_mount(2). */
export const SYS_move_mount = 429;
/** The number of fsopen(2). */
export const SYS_fsopen = 430;
/** The number of fsconfig(2). */
export const SYS_fsconfig = 431;
/** The number of fsmount(2). */
export const SYS_fsmount = 432;
/** The number of fspick(2). */
export const SYS_fspick = 433;
/** The number of openat2(2). */
export const SYS_openat2 = 437;
/** The number of mount_setattr(2). */
export const SYS_mount_setattr = 442;
/** The number of listmount(2). */
export const SYS_listmount = 458;
/** The number of open_tree_attr(2). */
export const SYS_open_tree_attr = 467;
