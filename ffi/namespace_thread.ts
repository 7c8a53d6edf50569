/**
 * A thread that has joined another mount namespace, and makes libc calls in the place of this thread.
 *
 * setns(2) changes the mount namespace of one thread, and fails if the thread shares its working directory with others.
 * A Deno worker is a thread that can unshare it. The worker runs none of this library's code: it makes one call after
 * the other. Both threads have the same memory and descriptors, so only the arguments are passed. A call takes about 10
 * microseconds, starting the thread 5 to 50 milliseconds.
 *
 * The worker's code is a `data:` URL, which works from a file, an https import, a JSR package, a bundle and a
 * `deno compile` binary.
 *
 * @module
 */

import type { AsyncLocalStorage } from "node:async_hooks";
import { SyscallError } from "./errno.ts";
import type { OwnedFd } from "./fd.ts";
import { type CallRedirect, type Libc, redirectCalls } from "./libc.ts";
import { allocCString, readCString } from "./memory.ts";
import type { Scratch } from "./scratch.ts";
import { type LibcName, libcSymbols } from "./symbols.ts";
import { startWorker } from "./worker_thread.ts";

/**
 * The calls whose result depends on the mount namespace: they resolve a path, or change or read the tree of mounts. All
 * other calls are made on this thread.
 */
const redirected = [
  "open",
  "openat",
  "openat2",
  "openat2_nonblocking",
  "readlink",
  "name_to_handle_at",
  "realpath",
  "realpath_nonblocking",
  "mkdir",
  "mkdtemp",
  "rmdir",
  "statx",
  "statx_nonblocking",
  "statfs",
  "statfs_nonblocking",
  "mount",
  "mount_nonblocking",
  "umount2",
  "umount2_nonblocking",
  "open_tree",
  "move_mount",
  "fspick",
  "mount_setattr",
  "open_tree_attr",
  "statmount",
  "listmount",
  "syscall",
] as const satisfies LibcName[];

// The shared memory: state, index of the call and errno (int32 each), then the arguments or the result (int64 each).
const IDLE = 0;
const CALL = 1;
const DONE = 2;
const QUIT = 3;
const BROKEN = 4;
const CELLS_OFFSET = 16; // bytes
const ARGUMENTS = 8; // at most, for one call

/** `CLONE_FS` and `CLONE_NEWNS` of linux/sched.h. */
const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;

const code = `
self.onmessage = ({ data: { memory, calls, namespace } }) => {
  const state = new Int32Array(memory, 0, 3);
  const cells = new BigInt64Array(memory, ${CELLS_OFFSET});
  try {
    const symbols = Object.fromEntries(calls);
    const libc = Deno.dlopen("libc.so.6", symbols).symbols;
    const errno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(libc.__errno_location(), 4));
    for (
      const [syscall, call] of [
        ["unshare", () => libc.unshare(${CLONE_FS})],
        ["setns", () => libc.setns(namespace, ${CLONE_NEWNS})],
      ]
    ) {
      if (call() < 0) return self.postMessage({ syscall, errno: errno[0] });
    }
    self.postMessage({ thread: libc.gettid() });
    const read = (type, cell) =>
      type === "pointer" ? Deno.UnsafePointer.create(cell) : type.endsWith("32") ? Number(cell) : cell;
    for (;;) {
      // A notification may arrive late, for an earlier wait: only the state counts.
      for (let now = Atomics.load(state, 0); now !== ${CALL}; now = Atomics.load(state, 0)) {
        if (now === ${QUIT}) return self.close();
        Atomics.wait(state, 0, now);
      }
      const [name, { parameters, result }] = calls[state[1]];
      const value = libc[name](...parameters.map((type, index) => read(type, cells[index])));
      state[2] = errno[0];
      const number = result === "pointer" ? Deno.UnsafePointer.value(value) : value;
      cells[0] = BigInt(number ?? 0);
      Atomics.compareExchange(state, 0, ${CALL}, ${DONE}); // QUIT, if the thread was to end during the call, stays
      Atomics.notify(state, 0);
    }
  } catch (error) {
    Atomics.store(state, 0, ${BROKEN});
    Atomics.notify(state, 0);
    self.postMessage({ thrown: String(error) });
  }
};
`;

type Started = { thread: number } | { syscall: string; errno: number } | { thrown: string };
type Argument = number | bigint | Uint8Array<ArrayBuffer> | Deno.PointerValue;
type AnyFunction = (...args: Argument[]) => unknown;

/** A function of the call table. */
interface RemoteCall {
  index: number;
  parameters: readonly Deno.NativeType[];
  result: Deno.NativeResultType;
}

let contexts: AsyncLocalStorage<NamespaceThread> | undefined; // the thread that makes the calls of the running code

/**
 * A thread that has joined another mount namespace.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { scratchCString } from "./memory.ts";
 * import { NamespaceThread } from "./namespace_thread.ts";
 *
 * await using other = await NamespaceThread.start(namespace); // an open /proc/PID/ns/mnt
 * other.run(() => libc().umount2(scratchCString("/mnt"), 0)); // the /mnt of that namespace
 * ```
 */
export class NamespaceThread implements CallRedirect, AsyncDisposable {
  /** The C library, with the calls of the other mount namespace made on the thread. */
  readonly libc: Libc;
  /** The thread's id, as in /proc/self/task. */
  readonly id: number;
  readonly #worker: Worker;
  readonly #state: Int32Array<SharedArrayBuffer>;
  readonly #cells: BigInt64Array<SharedArrayBuffer>;
  readonly #mountinfoPath: Scratch; // of the thread's mount namespace
  #errno: number | undefined;
  #turn: Promise<unknown> = Promise.resolve(); // the last nonblocking call

  private constructor(worker: Worker, memory: SharedArrayBuffer, id: number, local: Libc) {
    this.#worker = worker;
    this.#state = new Int32Array(memory, 0, 3);
    this.#cells = new BigInt64Array(memory, CELLS_OFFSET);
    this.id = id;
    this.#mountinfoPath = allocCString(`/proc/self/task/${id}/mountinfo`);
    this.libc = this.#bind(local);
  }

  /**
   * Starts a thread and joins a mount namespace with it.
   *
   * Needs the permission `ffi`, CAP_SYS_CHROOT and CAP_SYS_ADMIN in this user namespace, and CAP_SYS_ADMIN in the user
   * namespace that owns the mount namespace.
   *
   * @param namespace the open namespace; the caller may close it when the promise settles.
   * @returns the thread, which the caller must dispose of.
   * @throws {SyscallError} EPERM without these capabilities, EINVAL if the descriptor is not a mount namespace.
   */
  static async start(namespace: OwnedFd): Promise<NamespaceThread> {
    const { AsyncLocalStorage } = await import("node:async_hooks");
    contexts ??= new AsyncLocalStorage();
    const local = redirectCalls(() => contexts?.getStore());
    const memory = new SharedArrayBuffer(CELLS_OFFSET + 8 * ARGUMENTS);
    const worker = startWorker(code);
    try {
      const started = await postAndWait(worker, { memory, calls: callTable(), namespace: namespace.fd });
      if ("thrown" in started) {
        throw new Error(`the thread for the other mount namespace did not start: ${started.thrown}`);
      }
      if ("errno" in started) throw new SyscallError(started);
      return new NamespaceThread(worker, memory, started.thread, local);
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  /**
   * Runs a function whose libc calls, and those of all functions that it awaits, are made on the thread if their result
   * depends on the mount namespace.
   *
   * @param code the function.
   * @returns its result.
   */
  run<T>(code: () => T): T {
    return contexts === undefined ? code() : contexts.run(this, code);
  }

  /** The thread's errno; undefined if the last call was made on this thread. */
  get errno(): number | undefined {
    return this.#errno;
  }

  /**
   * Ends the thread. A call that hangs on a server is not waited for. The calls of code that still runs in
   * {@linkcode run}, such as after a timeout, fail from now on: they must not be made in this mount namespace.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (Atomics.compareExchange(this.#state, 0, CALL, QUIT) !== CALL) {
      await this.#turn;
      Atomics.store(this.#state, 0, QUIT);
      Atomics.notify(this.#state, 0);
    }
    this.#worker.terminate();
  }

  #bind(local: Libc): Libc {
    const functions = new Map<string, AnyFunction>();
    for (const name of Object.keys(libcSymbols()) as LibcName[]) {
      functions.set(name, (...args) => {
        this.#errno = undefined;
        return (local[name] as AnyFunction)(...args);
      });
    }
    for (const [index, [name, { parameters, result }]] of callTable().entries()) {
      const remote = { index, parameters, result };
      const onThisThread = functions.get(name);
      const make = name.endsWith("_nonblocking")
        ? (args: Argument[]) => this.#callAsync(remote, args)
        : (args: Argument[]) => this.#call(remote, args);
      functions.set(
        name,
        (...args) => args.some(isOwnProcPath) ? onThisThread?.(...this.#replaceMountinfo(args)) : make(args),
      );
    }
    return Object.fromEntries(functions) as unknown as Libc; // the signatures are those of the symbol table
  }

  /**
   * A /proc/self path is resolved in this mount namespace, because the other may have no /proc, or that of another PID
   * namespace. Only the mount table must be that of the other namespace: it is read as the thread's mountinfo.
   */
  #replaceMountinfo(args: Argument[]): Argument[] {
    return args.map((arg) =>
      isOwnProcPath(arg) && readCString(arg) === OWN_MOUNTINFO ? this.#mountinfoPath.address : arg
    );
  }

  #call(call: RemoteCall, args: Argument[]): number | bigint | Deno.PointerValue {
    if (this.#currentState() !== IDLE) {
      throw new Error("the thread in the other mount namespace is busy with another call");
    }
    this.#post(call, args);
    while (this.#currentState() === CALL) Atomics.wait(this.#state, 0, CALL);
    return this.#result(call);
  }

  /** Makes a call without blocking this thread. */
  async #callAsync(call: RemoteCall, args: Argument[]): Promise<unknown> {
    this.#currentState(); // fails if the thread has ended
    const result = this.#turn.then(async () => {
      this.#currentState(); // it may have ended meanwhile
      this.#post(call, args);
      while (this.#currentState() === CALL) await Atomics.waitAsync(this.#state, 0, CALL).value;
      return this.#result(call);
    });
    this.#turn = result.catch(() => {}); // the caller gets the error from `result`
    return await result;
  }

  #currentState(): number {
    const state = Atomics.load(this.#state, 0);
    if (state === BROKEN) throw new Error("the thread in the other mount namespace has failed");
    if (state === QUIT) throw new Error("the thread in the other mount namespace has ended");
    return state;
  }

  #post({ index: call, parameters }: RemoteCall, args: Argument[]): void {
    for (const index of parameters.keys()) this.#cells[index] = cellOf(args[index] ?? null);
    this.#state[1] = call;
    Atomics.store(this.#state, 0, CALL);
    Atomics.notify(this.#state, 0);
  }

  #result({ result }: RemoteCall): number | bigint | Deno.PointerValue {
    const cell = this.#cells[0] ?? 0n;
    this.#errno = this.#state[2];
    Atomics.store(this.#state, 0, IDLE);
    Atomics.notify(this.#state, 0);
    if (result === "pointer") return Deno.UnsafePointer.create(cell);
    return result === "i32" ? Number(cell) : cell;
  }
}

/**
 * The thread that makes the calls of the code that runs now.
 *
 * @returns undefined for this thread.
 */
export function currentThread(): NamespaceThread | undefined {
  return contexts?.getStore();
}

const OWN_MOUNTINFO = "/proc/self/mountinfo";
const OWN_PROC = new TextEncoder().encode("/proc/self/");

/** Every pointer argument is a C string or a struct longer than the prefix, so the read stays inside its memory. */
function isOwnProcPath(argument: Argument): argument is Deno.PointerObject {
  if (argument === null || typeof argument !== "object" || argument instanceof Uint8Array) return false;
  const view = new Deno.UnsafePointerView(argument);
  return OWN_PROC.every((byte, index) => view.getUint8(index) === byte);
}

/** An argument as 64 bits: a buffer by its address, which is the same on both threads. */
function cellOf(argument: Argument): bigint {
  if (argument instanceof Uint8Array) return Deno.UnsafePointer.value(Deno.UnsafePointer.of(argument));
  if (typeof argument === "object") return Deno.UnsafePointer.value(argument);
  return BigInt(argument);
}

type Calls = [
  string,
  { name?: string; parameters: readonly Deno.NativeType[]; result: Deno.NativeResultType },
][];

/** The functions that the thread binds: buffers are passed as pointers, and every call is blocking. */
function callTable(): Calls {
  const symbols: Deno.ForeignLibraryInterface = libcSymbols();
  const names: readonly LibcName[] = [...redirected, "__errno_location", "unshare", "setns", "gettid"];
  return names.flatMap((name): Calls => {
    const symbol = symbols[name];
    if (symbol === undefined || !("parameters" in symbol)) return [];
    const parameters = symbol.parameters.map((type) => type === "buffer" ? "pointer" : type);
    return [[name, { name: symbol.name ?? name, parameters, result: symbol.result }]];
  });
}

function postAndWait(worker: Worker, message: unknown): Promise<Started> {
  return new Promise<Started>((resolve, reject) => {
    worker.onmessage = (event) => resolve(event.data);
    worker.onerror = (event) => {
      event.preventDefault(); // otherwise Deno also ends the process with an uncaught error
      reject(new Error(`the thread for the other mount namespace did not start: ${event.message}`));
    };
    worker.postMessage(message);
  });
}
