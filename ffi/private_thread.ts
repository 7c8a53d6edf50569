/**
 * A thread of its own: with a working directory, and if asked namespaces, that are not the process's.
 *
 * A Deno worker is one OS thread. After `unshare(CLONE_FS)` its `chdir()` moves nobody else. It can't be given
 * its old state back, so it serves one job and ends. Starting one takes some 15 to 50 ms.
 *
 * The worker's code is a `data:` URL because that works alike from a file, an https import, a JSR package and a
 * `deno compile` binary.
 *
 * @module
 */

import { SyscallError } from "./errno.ts";
import { type LibcName, libcSymbols } from "./libc.ts";

/** One libc call for the thread to make. */
export interface ThreadCall {
  /** The function's name in the symbol table. */
  name: LibcName;
  /** The call's name for an error's sentence, as in the man page; the function's name if left out. */
  syscall?: string;
  /** Its arguments; bytes are copied to the thread. */
  args: readonly (number | bigint | Uint8Array | null)[];
  /** The path for an error's sentence. */
  path?: string;
}

type Reply = { results: number[] } | { failed: number; errno: number } | { thrown: string };

// Calls are made in order and stop at the first failure: its errno is this thread's and read right here.
const code = `
self.onmessage = ({ data: { symbols, calls } }) => {
  try {
    const libc = Deno.dlopen("libc.so.6", symbols).symbols;
    const errno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(libc.__errno_location(), 4));
    const results = [];
    for (const { name, args } of calls) {
      const result = Number(libc[name](...args));
      if (result < 0) {
        self.postMessage({ failed: results.length, errno: errno[0] });
        return;
      }
      results.push(result);
    }
    self.postMessage({ results });
  } catch (error) {
    self.postMessage({ thrown: String(error) });
  }
};
`;

/** `CLONE_FS` of linux/sched.h: working directory, root directory and umask. */
const CLONE_FS = 0x200;

/**
 * Makes libc calls on a thread whose working directory is its own, then ends the thread.
 *
 * Needs the permission `ffi`.
 *
 * @param calls what to call, in order; the first failure ends them.
 * @returns what each call returned.
 * @throws {SyscallError} for the first call that failed.
 *
 * @example
 * ```ts ignore
 * import { cString } from "./memory.ts";
 * import { onPrivateThread } from "./thread.ts";
 *
 * await onPrivateThread([{ name: "chdir", args: [cString("/")] }]); // Deno.cwd() is what it was
 * ```
 */
export async function onPrivateThread(calls: readonly ThreadCall[]): Promise<number[]> {
  const all: ThreadCall[] = [{ name: "unshare", args: [CLONE_FS] }, ...calls];
  const symbols = Object.fromEntries(
    ["__errno_location" as const, ...all.map((call) => call.name)].map((name) => [name, copying(name)]),
  );
  const reply = await ask({ symbols, calls: all.map(({ name, args }) => ({ name, args })) });
  if ("results" in reply) return reply.results.slice(1);
  if ("thrown" in reply) throw new Error(`a private thread could not make its calls: ${reply.thrown}`);
  const call = all[reply.failed];
  throw new SyscallError({
    syscall: call?.syscall ?? call?.name ?? "syscall",
    errno: reply.errno,
    path: call?.path,
  });
}

/** The function for arguments that are copied: bytes are passed as such, and not by an address in this thread's memory. */
function copying(name: LibcName): Deno.ForeignFunction {
  const symbol: Deno.ForeignFunction = libcSymbols()[name];
  return { ...symbol, parameters: symbol.parameters.map((type) => type === "pointer" ? "buffer" : type) };
}

async function ask(message: unknown): Promise<Reply> {
  const worker = new Worker("data:text/javascript," + encodeURIComponent(code), { type: "module" });
  try {
    return await new Promise<Reply>((resolve, reject) => {
      worker.onmessage = (event) => resolve(event.data);
      worker.onmessageerror = () => reject(new Error("a private thread's answer could not be read"));
      worker.onerror = (event) => {
        event.preventDefault(); // else the process ends with an uncaught error as well
        reject(new Error(`a private thread could not start: ${event.message}`));
      };
      worker.postMessage(message);
    });
  } finally {
    worker.terminate();
  }
}
