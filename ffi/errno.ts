/**
 * Error numbers and their names, and {@linkcode check}, which turns a failed call into an error.
 *
 * @module
 */

import { errno, errnoOfCall, warmUpErrno } from "./libc.ts";
import { errnoText } from "./memory.ts";

// asm-generic/errno-base.h and asm-generic/errno.h, the same on x86-64 and arm64. Unused numbers stand for themselves.
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
 * @returns its name, such as "EBUSY"; for an unused number "E" and the number, such as "E41".
 *
 * @example
 * ```ts
 * import { errnoName } from "@denomount/mount/linux";
 *
 * if (errnoName(16) !== "EBUSY") throw new Error("16 is not EBUSY");
 * ```
 */
export function errnoName(errno: number): string {
  const name = names[errno];
  return name?.startsWith("E") ? name : `E${errno}`;
}

/**
 * The number of an error's name.
 *
 * @param code the name, such as "EBUSY".
 * @returns its number; 0 for an unknown name.
 *
 * @example
 * ```ts
 * import { errnoNumber } from "@denomount/mount/linux";
 *
 * if (errnoNumber("EBUSY") !== 16) throw new Error("16 is not EBUSY");
 * ```
 */
export function errnoNumber(code: string): number {
  return Math.max(0, names.indexOf(code));
}

/** The fields of a {@linkcode SyscallError}. */
export interface SyscallFailure {
  /** The system call's name as in its man page, such as "umount2". */
  syscall: string;
  /** The error number. */
  errno: number;
  /** The path argument, if the call has one. */
  path?: string | undefined;
  /** The second path argument, if the call has two. */
  dest?: string | undefined;
  /** A sentence that replaces the paths and the errno's text in the message. */
  reason?: string | undefined;
}

/**
 * A system call that failed, with the fields of Node's system errors.
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
  /** The class's name, "SyscallError". */
  override readonly name: string = "SyscallError";
  /** The error's name, such as "EBUSY". */
  readonly code: string;
  /** The error's number, such as 16. */
  readonly errno: number;
  /** The system call's name as in its man page. */
  readonly syscall: string;
  /** The path argument, if the call has one. */
  readonly path?: string;
  /** The second path argument, if the call has two. */
  readonly dest?: string;
  /** What went wrong in words, if the errno's text does not say it. */
  readonly reason?: string;

  /**
   * Makes the error of a failed system call.
   *
   * @param failure the call, its error number and its paths.
   */
  constructor(failure: SyscallFailure) {
    const { syscall, errno, path, dest, reason } = failure;
    const paths = [path, dest].filter((p) => p !== undefined).map(quote).join(" -> ");
    const code = errnoName(errno);
    const capability = code === "EPERM"
      ? capabilities.get(syscall) ?? capabilities.get(`${syscall} ${path}`)
      : undefined;
    const needs = capability === undefined ? "" : `, it needs ${capability}`;
    super(
      reason === undefined
        ? `${syscall}${paths && ` ${paths}`}: ${errnoText(errno)}${needs} (${code})`
        : `${reason} (${syscall}: ${code})`,
    );
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
    if (path !== undefined) this.path = path;
    if (dest !== undefined) this.dest = dest;
    if (reason !== undefined) this.reason = reason;
  }
}

/** The capability that a call needs, by its man page. */
const capabilities: ReadonlyMap<string, string> = new Map([
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
 * Throws a {@linkcode SyscallError} if a libc call returned -1.
 *
 * @param result what the call returned.
 * @param own `errno[0]`, read right after the call: the argument before it.
 * @param syscall the call's name as in its man page.
 * @param path the path argument, for the error.
 * @param dest the second path argument, for the error.
 * @returns the result.
 * @throws {SyscallError} if the result is negative, with the errno of this thread's last call.
 *
 * @example
 * ```ts ignore
 * import { check } from "./errno.ts";
 * import { errno, libc } from "./libc.ts";
 *
 * check(libc().close(-1), errno[0], "close"); // SyscallError: close: Bad file descriptor (EBADF)
 * ```
 */
export function check(
  result: number | bigint,
  own: number,
  syscall: string,
  path?: string,
  dest?: string,
): number {
  if (result < 0) throw new SyscallError({ syscall, errno: errnoOfCall(own), path, dest });
  return Number(result);
}

/**
 * Whether an error is a {@linkcode SyscallError} with one of these codes.
 *
 * @param error the caught value.
 * @param codes names of errors, such as "EBUSY".
 * @returns true if the error's code is one of them.
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
  for (let count = 0; count < 2; count++) { // the first run compiles, the second runs compiled code
    try {
      check(-1, errno[0], "warm-up", "path", "dest");
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
    }
  }
});
