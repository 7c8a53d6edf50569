/**
 * The C library: the one dlopen(3) of it, errno, and the redirection of calls to a thread in another mount namespace.
 *
 * @module
 */

import { requirePermission } from "./permission.ts";
import { requireDeno } from "./runtime.ts";
import { type LibcSymbols, libcSymbols } from "./symbols.ts";

/** The bound functions of the C library. */
export type Libc = Deno.DynamicLibrary<LibcSymbols>["symbols"];

let ownLibc: Libc | undefined;

/**
 * The C library. Each function is bound at its first use, and never unloaded. Code within `NamespaceThread.run()` gets
 * functions that make their calls on the thread in the other mount namespace.
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
  requireDeno();
  requirePermission({ name: "ffi" });
  const library: Libc = Object.create(prototype());
  const location = library.__errno_location();
  if (location === null) throw new Error("__errno_location() returned NULL");
  // Asked once: the address is the same for the life of a thread, and Deno keeps an isolate on its thread.
  const memory = Deno.UnsafePointerView.getArrayBuffer(location, Int32Array.BYTES_PER_ELEMENT);
  errno = new Int32Array(memory) as unknown as typeof errno; // one number, which the kernel's answers change
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
 * The errno of this thread: a call's is read as `errno[0]` right after it, before anything is called or allocated. V8 may
 * stop at the entry of a function, or to free memory, and wait for a lock there, which overwrites it. The errno of a
 * `nonblocking` call cannot be read: the call ran on a thread of the runtime's pool.
 *
 * @example
 * ```ts ignore
 * import { errno, libc } from "./libc.ts";
 *
 * const result = libc().close(-1);
 * if (result < 0) console.log(errno[0]); // 9, EBADF
 * ```
 */
export let errno: { readonly 0: number } = [0];

/**
 * The errno of a failed call, which another thread may have made.
 *
 * @param own the errno of this thread.
 * @returns the other thread's, if the call was made there.
 */
export function errnoOfCall(own: number): number {
  return redirect?.()?.errno ?? own;
}
