/**
 * Numbers of the system calls that are made in more than one file. The files that need a number alone have it themselves.
 *
 * @module
 */

// asm-generic/unistd.h; from 424 up, every architecture has the same numbers.

/** The number of fsconfig(2). */
export const SYS_fsconfig = 431;
/** The number of openat2(2). */
export const SYS_openat2 = 437;
