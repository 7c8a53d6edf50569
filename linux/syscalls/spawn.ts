/**
 * posix_spawn(3): starts a program with given descriptors.
 *
 * @module
 */

import { check, SyscallError } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { cString } from "../../ffi/memory.ts";
import { O_RDWR } from "./constants.ts";

const SIZE = 512; // more than glibc's sizeof(posix_spawnattr_t), 336, and sizeof(posix_spawn_file_actions_t), 80
const SIGSET = 128; // sizeof(sigset_t) in glibc
const POSIX_SPAWN_SETSIGDEF = 0x04; // spawn.h
const POSIX_SPAWN_SETSIGMASK = 0x08;
const POSIX_SPAWN_SETSID = 0x80; // glibc 2.26
const SYS_close_range = 436; // asm-generic/unistd.h
const CLOSE_RANGE_CLOEXEC = 4; // linux/close_range.h, Linux 5.11

/** A program to start. */
export interface Program {
  /** Its path. */
  readonly path: string;
  /** Its arguments, with its name as the first. */
  readonly args: readonly string[];
  /** Its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Its standard input, output and error: descriptors, or the path of a terminal, which becomes its controlling one. */
  readonly stdio: readonly [number, number, number] | string;
}

/**
 * posix_spawn(3): starts a program in a session of its own, with default signal handlers and no blocked signal. It
 * inherits the working directory, and the credentials of this thread. All descriptors but its three are closed in it.
 *
 * Needs the permission `ffi` and Linux 5.11. It is no child that Deno waits for: wait for it with `waitidAny()`.
 *
 * @param program the program.
 * @returns its pid.
 * @throws {SyscallError} with the errno of execve(2).
 *
 * @example
 * ```ts ignore
 * import { posixSpawn } from "@denomount/mount/linux";
 *
 * const pid = posixSpawn({ path: "/bin/true", args: ["true"], env: {}, stdio: [0, 1, 2] });
 * ```
 */
export function posixSpawn({ path, args, env, stdio }: Program): number {
  const { close_range } = libc();
  check(close_range(SYS_close_range, 3, 0xffffffff, CLOSE_RANGE_CLOEXEC), errno[0], "close_range");
  const strings = [cString(path)];
  const argv = vector(args, strings);
  const envp = vector(Object.entries(env).map(([name, value]) => `${name}=${value}`), strings);
  const pid = new Int32Array(new ArrayBuffer(4));
  using actions = fileActions(stdio);
  using attributes = spawnAttributes();
  const failed = libc().posix_spawn(
    new Uint8Array(pid.buffer),
    strings[0] ?? null,
    actions.memory,
    attributes.memory,
    argv,
    envp,
  );
  // The strings are used by address: this keeps them from being collected before.
  if (failed !== 0 && strings.length > 0) throw new SyscallError({ syscall: "execve", errno: failed, path });
  return pid[0] ?? -1;
}

/** An array of pointers that ends with NULL; the strings are kept by the caller. */
function vector(texts: readonly string[], kept: Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const pointers = new BigUint64Array(new ArrayBuffer(8 * (texts.length + 1)));
  for (const [index, text] of texts.entries()) {
    const bytes = cString(text);
    kept.push(bytes);
    pointers[index] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
  }
  return new Uint8Array(pointers.buffer);
}

interface Allocated extends Disposable {
  readonly memory: Uint8Array<ArrayBuffer>;
}

function fileActions(stdio: Program["stdio"]): Allocated {
  const memory = new Uint8Array(new ArrayBuffer(SIZE));
  checkReturned(libc().posix_spawn_file_actions_init(memory));
  if (typeof stdio === "string") { // the leader of a session takes the first terminal that it opens
    checkReturned(libc().posix_spawn_file_actions_addopen(memory, 0, cString(stdio), O_RDWR, 0));
  }
  for (const [number, fd] of (typeof stdio === "string" ? [0, 0, 0] : stdio).entries()) {
    checkReturned(libc().posix_spawn_file_actions_adddup2(memory, fd, number));
  }
  return { memory, [Symbol.dispose]: () => void libc().posix_spawn_file_actions_destroy(memory) };
}

function spawnAttributes(): Allocated {
  const memory = new Uint8Array(new ArrayBuffer(SIZE));
  checkReturned(libc().posix_spawnattr_init(memory));
  const all = new Uint8Array(new ArrayBuffer(SIGSET));
  libc().sigfillset(all);
  checkReturned(libc().posix_spawnattr_setsigdefault(memory, all));
  checkReturned(libc().posix_spawnattr_setsigmask(memory, new Uint8Array(new ArrayBuffer(SIGSET))));
  const flags = POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  checkReturned(libc().posix_spawnattr_setflags(memory, flags));
  return { memory, [Symbol.dispose]: () => void libc().posix_spawnattr_destroy(memory) };
}

/** These functions return the error number. */
function checkReturned(error: number): void {
  if (error !== 0) throw new SyscallError({ syscall: "posix_spawn", errno: error });
}
