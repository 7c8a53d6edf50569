/**
 * Error numbers, their names, and the one check that turns a failed call into an error.
 *
 * @module
 */

import { lastErrno, warmUpErrno } from "./libc.ts";
import { errnoText } from "./memory.ts";

// asm-generic/errno-base.h and asm-generic/errno.h, which x86-64 and arm64 share; the gaps are unused numbers.
const names: readonly string[] = `
  0 EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY
  EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE
  EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP 41 ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST
  ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT 58 EBFONT ENOSTR ENODATA ETIME ENOSR
  ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD
  EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ
  EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT
  EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN
  ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN
  ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED
  EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON
`.trim().split(/\s+/);

/**
 * The name of an error number.
 *
 * @param errno the number.
 * @returns its name, such as "EBUSY"; "E" and the number where there is none.
 *
 * @example
 * ```ts
 * import { errnoName } from "@denomount/mount/linux";
 *
 * if (errnoName(16) !== "EBUSY") throw new Error("errno.h says otherwise");
 * ```
 */
export function errnoName(errno: number): string {
  const name = names[errno];
  return name?.startsWith("E") ? name : `E${errno}`;
}

/**
 * The number behind an error's name.
 *
 * @param code the name, such as "EBUSY".
 * @returns its number; 0 where there is none.
 *
 * @example
 * ```ts
 * import { errnoNumber } from "@denomount/mount/linux";
 *
 * if (errnoNumber("EBUSY") !== 16) throw new Error("errno.h says otherwise");
 * ```
 */
export function errnoNumber(code: string): number {
  return Math.max(0, names.indexOf(code));
}

/** What a {@linkcode SyscallError} is made of. */
export interface SyscallFailure {
  /** The system call's name as in its man page, such as "umount2". */
  syscall: string;
  /** The error number. */
  errno: number;
  /** The path that it was called with. */
  path?: string | undefined;
  /** The second path, where it has one. */
  dest?: string | undefined;
}

/**
 * A system call that failed, in the shape of Node's system errors.
 *
 * @example
 * ```ts
 * import { SyscallError, umount2 } from "@denomount/mount/linux";
 *
 * try {
 *   umount2("/no/such/path", 0);
 * } catch (error) {
 *   if (!(error instanceof SyscallError)) throw error;
 *   console.log(error.code, error.syscall, error.path); // ENOENT umount2 /no/such/path
 * }
 * ```
 */
export class SyscallError extends Error {
  /** "SyscallError". */
  override readonly name = "SyscallError";
  /** The error's name, such as "EBUSY". */
  readonly code: string;
  /** The error's number, such as 16. */
  readonly errno: number;
  /** The system call's name as in its man page. */
  readonly syscall: string;
  /** The path that it was called with, where it has one. */
  readonly path?: string;
  /** The second path, where it has one. */
  readonly dest?: string;

  /**
   * An error for a failed system call.
   *
   * @param failure the call, its error number and its paths.
   */
  constructor(failure: SyscallFailure) {
    const { syscall, errno, path, dest } = failure;
    const paths = [path, dest].filter((p) => p !== undefined).map(quote).join(" -> ");
    const code = errnoName(errno);
    const right = code === "EPERM" ? rights.get(syscall) ?? rights.get(`${syscall} ${path}`) : undefined;
    const wants = right === undefined ? "" : `, it needs ${right}`;
    super(`${syscall}${paths && ` ${paths}`}: ${errnoText(errno)}${wants} (${code})`);
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
    if (path !== undefined) this.path = path;
    if (dest !== undefined) this.dest = dest;
  }
}

/** What the man pages ask of those who make a call. */
const rights: ReadonlyMap<string, string> = new Map([
  ...["mount", "umount2", "open_tree", "move_mount", "fsopen", "fsmount", "fspick", "mount_setattr"].map(
    (call): [string, string] => [call, "CAP_SYS_ADMIN"],
  ),
  ["write uid_map", "CAP_SETUID"],
  ["write gid_map", "CAP_SETGID"],
]);

function quote(path: string): string {
  return `'${path}'`;
}

/**
 * Turns the -1 of a libc call into a {@linkcode SyscallError}.
 *
 * @param result what the call returned.
 * @param syscall the call's name as in its man page.
 * @param path the path that it was called with.
 * @param dest the second path.
 * @returns the result, where it is no failure.
 * @throws {SyscallError} where the result is negative.
 *
 * @example
 * ```ts ignore
 * import { check } from "./errno.ts";
 * import { libc } from "./libc.ts";
 *
 * check(libc().close(-1), "close"); // SyscallError: close: Bad file descriptor (EBADF)
 * ```
 */
export function check(result: number | bigint, syscall: string, path?: string, dest?: string): number {
  if (result < 0) throw new SyscallError({ syscall, errno: lastErrno(), path, dest });
  return Number(result);
}

/**
 * Whether an error is a failed system call with one of some codes.
 *
 * @param error what was caught.
 * @param codes the names of the errors, such as "EBUSY".
 * @returns true for a {@linkcode SyscallError} with one of them.
 *
 * @example
 * ```ts
 * import { isErrno, umount2 } from "@denomount/mount/linux";
 *
 * try {
 *   umount2("/no/such/path", 0);
 * } catch (error) {
 *   if (!isErrno(error, "ENOENT")) throw error;
 * }
 * ```
 */
export function isErrno(error: unknown, ...codes: string[]): error is SyscallError {
  return error instanceof SyscallError && codes.includes(error.code);
}

warmUpErrno(() => {
  for (let count = 0; count < 2; count++) { // the second time runs what the first has compiled
    try {
      check(-1, "rehearsal", "path", "dest");
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
    }
  }
});
