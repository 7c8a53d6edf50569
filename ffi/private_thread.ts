/**
 * libc calls on a thread that has its own working directory, and namespaces if the calls unshare or join them.
 *
 * A Deno worker is one OS thread. After unshare(CLONE_FS), its chdir(2) does not change the working directory of other
 * threads. The state cannot be restored, so each worker serves one list of calls and ends. Starting one takes 15 to 50
 * milliseconds.
 *
 * The worker's code is a `data:` URL, which works from a file, an https import, a JSR package and a `deno compile`
 * binary.
 *
 * @module
 */

import { SyscallError } from "./errno.ts";
import { type LibcName, libcSymbols } from "./symbols.ts";
import { startWorker } from "./worker_thread.ts";

/** A libc call that the thread makes. */
export interface ThreadCall {
  /** The function's name in the symbol table. */
  name: LibcName;
  /** The call's name in an error, as in the man page; the function's name if left out. */
  syscall?: string;
  /** Its arguments. Buffers are copied to the thread. */
  args: readonly (number | bigint | Uint8Array | null)[];
  /** The path in an error. */
  path?: string;
}

type Reply = { results: number[] } | { failed: number; errno: number } | { thrown: string };

// errno belongs to the worker's thread, so the worker reads it.
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

/** linux/sched.h: the working directory, root directory and umask. */
const CLONE_FS = 0x200;

/**
 * Starts a thread with its own working directory, makes libc calls on it, and ends it.
 *
 * Needs the permission `ffi`.
 *
 * @param calls the calls, in order. A call that fails is the last.
 * @returns the result of each call.
 * @throws {SyscallError} if a call fails.
 *
 * @example
 * ```ts ignore
 * import { cString } from "./memory.ts";
 * import { onPrivateThread } from "./private_thread.ts";
 *
 * await onPrivateThread([{ name: "chdir", args: [cString("/")] }]); // Deno.cwd() does not change
 * ```
 */
export async function onPrivateThread(calls: readonly ThreadCall[]): Promise<number[]> {
  const all: ThreadCall[] = [{ name: "unshare", args: [CLONE_FS] }, ...calls];
  const symbols = Object.fromEntries(
    ["__errno_location" as const, ...all.map((call) => call.name)].map((
      name,
    ) => [name, symbolWithBuffers(name)]),
  );
  const reply = await runWorker({ symbols, calls: all.map(({ name, args }) => ({ name, args })) });
  if ("results" in reply) return reply.results.slice(1);
  if ("thrown" in reply) throw new Error(`the private thread failed: ${reply.thrown}`);
  const call = all[reply.failed];
  throw new SyscallError({
    syscall: call?.syscall ?? call?.name ?? "syscall",
    errno: reply.errno,
    path: call?.path,
  });
}

/** The symbol with its pointer parameters as buffers: the arguments are copies, not addresses of this thread's memory. */
function symbolWithBuffers(name: LibcName): Deno.ForeignFunction {
  const symbol: Deno.ForeignFunction = libcSymbols()[name];
  return { ...symbol, parameters: symbol.parameters.map((type) => type === "pointer" ? "buffer" : type) };
}

async function runWorker(message: unknown): Promise<Reply> {
  const worker = startWorker(code);
  try {
    return await new Promise<Reply>((resolve, reject) => {
      worker.onmessage = (event) => resolve(event.data);
      worker.onmessageerror = () => reject(new Error("the private thread's answer could not be read"));
      worker.onerror = (event) => {
        event.preventDefault(); // otherwise Deno also ends the process with an uncaught error
        reject(new Error(`the private thread did not start: ${event.message}`));
      };
      worker.postMessage(message);
    });
  } finally {
    worker.terminate();
  }
}
