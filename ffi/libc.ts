/**
 * The C library: the one dlopen(3) of it, errno, and the redirection of calls to a thread in another mount namespace.
 *
 * @module
 */

import { requirePermission } from "./permission.ts";
import { type LibcSymbols, libcSymbols } from "./symbols.ts";

/** The bound functions of the C library. */
export type Libc = Deno.DynamicLibrary<LibcSymbols>["symbols"];

let ownLibc: Libc | undefined;
let ownErrno: Int32Array;

/**
 * The C library. Each function is bound at its first use, and never unloaded. Code within `NamespaceThread.run()` gets functions
 * that make their calls on the thread in the other mount namespace.
 *
 * Needs the permission `ffi`, without a path: Deno refuses pointer views under a path-scoped grant.
 *
 * @returns the bound functions.
 * @throws {Deno.errors.NotCapable} without `--allow-ffi`.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 *
 * console.log(libc().gettid());
 * ```
 */
export function libc(): Libc {
  return redirect?.()?.libc ?? bindOnce();
}

function bindOnce(): Libc {
  return ownLibc ??= bind();
}

let warmUp: (() => void) | undefined;

/**
 * Registers code that runs once, when the C library is bound. It reads errno as after a failed call, so that the first
 * real failure runs compiled code. Otherwise V8 compiles between the call and the read, and the first wait for one of
 * its locks opens a file in /sys, which overwrites errno.
 *
 * @param run throws and catches the error of a failed call.
 */
export function warmUpErrno(run: () => void): void {
  warmUp = run;
}

/** The thread that makes the calls of {@linkcode libc} in the place of this one. */
export interface CallRedirect {
  /** The functions that {@linkcode libc} returns. */
  readonly libc: Libc;
  /** The other thread's errno; undefined if the last call was made on this thread after all. */
  readonly errno: number | undefined;
}

let redirect: (() => CallRedirect | undefined) | undefined;

/**
 * Redirects the calls of {@linkcode libc} to another thread, from now on: code that runs longer than its thread must not
 * make its calls on this one.
 *
 * @param find returns the thread for the code that runs now, undefined for this thread. It is called at each call.
 * @returns the C library of this thread, without redirection.
 */
export function redirectCalls(find: () => CallRedirect | undefined): Libc {
  redirect = find;
  return bindOnce();
}

/**
 * Whether the calls of the code that runs now are made in another mount namespace.
 *
 * @returns true within `NamespaceThread.run()`.
 */
export function isRedirected(): boolean {
  return redirect?.() !== undefined;
}

function bind(): Libc {
  requirePermission({ name: "ffi" });
  const library: Libc = Object.create(prototype());
  const location = library.__errno_location();
  if (location === null) throw new Error("__errno_location() returned NULL");
  // Asked once: the address is the same for the life of a thread, and Deno keeps an isolate on its thread.
  ownErrno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(location, Int32Array.BYTES_PER_ELEMENT));
  ownLibc = library; // before the warm-up, which calls libc()
  warmUp?.();
  return library;
}

/** Binds each function when it is first needed: that takes 80 µs for each, and a mount needs nine of them. */
function prototype(): object {
  const found = {};
  for (const [name, symbol] of Object.entries(libcSymbols())) {
    Object.defineProperty(found, name, {
      get() {
        const value = Deno.dlopen("libc.so.6", { [name]: symbol }).symbols[name];
        Object.defineProperty(this, name, { value, enumerable: true });
        return value;
      },
    });
  }
  return found;
}

/**
 * The errno of the last call. It must be read right after the call that failed. The errno of a `nonblocking` call
 * cannot be read: the call ran on a thread of the runtime's pool.
 *
 * Needs the permission `ffi`.
 *
 * @returns the error number.
 *
 * @example
 * ```ts ignore
 * import { lastErrno, libc } from "./libc.ts";
 *
 * if (libc().close(-1) < 0) console.log(lastErrno()); // 9, EBADF
 * ```
 */
export function lastErrno(): number {
  bindOnce();
  return redirect?.()?.errno ?? ownErrno[0] ?? 0;
}
