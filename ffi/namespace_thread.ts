/**
 * A thread in another mount namespace, which makes libc calls in this thread's place.
 *
 * A namespace is joined by a thread, and only by one whose working directory is its own. This thread can be neither: so
 * a Deno worker is, which is one. It holds no code of this library and makes one call after the other. Both threads see
 * the same memory and the same descriptors, so that a call needs no more than its arguments, and takes some
 * 10 microseconds; to start the thread takes some 5 to 50 milliseconds.
 *
 * The worker's code is a `data:` URL because that works alike from a file, an https import, a JSR package, a bundle and
 * a `deno compile` binary.
 *
 * @module
 */

import type { AsyncLocalStorage } from "node:async_hooks";
import { SyscallError } from "./errno.ts";
import type { OwnedFd } from "./fd.ts";
import { type CallRedirect, type Libc, type LibcName, libcSymbols, redirectCalls } from "./libc.ts";
import { allocCString, readCString } from "./memory.ts";
import type { Scratch } from "./scratch.ts";

/**
 * The calls whose answer depends on the mount namespace: they look a path up, or change or tell of the tree of mounts.
 * All others are made on this thread.
 */
const there = [
  "open",
  "openat",
  "openat2",
  "readlink",
  "realpath",
  "mkdir",
  "mkdtemp",
  "rmdir",
  "statx",
  "statx_nonblocking",
  "statfs",
  "mount",
  "mount_nonblocking",
  "umount2",
  "umount2_nonblocking",
  "open_tree",
  "move_mount",
  "fspick",
  "mount_setattr",
  "statmount",
  "listmount",
] as const satisfies LibcName[];

// What both threads share: the state, the call's number, its errno, and then its arguments or its result.
const IDLE = 0;
const CALL = 1;
const DONE = 2;
const QUIT = 3;
const BROKEN = 4;
const WORDS = 16; // bytes before the arguments
const ARGUMENTS = 8;

/** `CLONE_FS` and `CLONE_NEWNS` of linux/sched.h. */
const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;

const code = `
self.onmessage = ({ data: { memory, calls, namespace } }) => {
  const state = new Int32Array(memory, 0, 3);
  const cells = new BigInt64Array(memory, ${WORDS});
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
      // A notification may be late, and meant for a wait that is over: only the state tells.
      for (let now = Atomics.load(state, 0); now !== ${CALL}; now = Atomics.load(state, 0)) {
        if (now === ${QUIT}) return self.close();
        Atomics.wait(state, 0, now);
      }
      const [name, { parameters, result }] = calls[state[1]];
      const value = libc[name](...parameters.map((type, index) => read(type, cells[index])));
      state[2] = errno[0];
      const number = result === "pointer" ? Deno.UnsafePointer.value(value) : value;
      cells[0] = BigInt(number ?? 0);
      Atomics.store(state, 0, ${DONE});
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

/** One of the functions, in the words of the symbol table. */
interface RemoteCall {
  number: number;
  parameters: readonly Deno.NativeType[];
  result: Deno.NativeResultType;
}

let contexts: AsyncLocalStorage<NamespaceThread> | undefined; // which thread the code that runs now is to call on
let threads = 0;

/**
 * A thread in another mount namespace.
 *
 * @example
 * ```ts ignore
 * import { libc } from "./libc.ts";
 * import { NamespaceThread } from "./namespace_thread.ts";
 *
 * await using other = await NamespaceThread.start(namespace); // an open /proc/PID/ns/mnt
 * other.run(() => libc().umount2(new TextEncoder().encode("/mnt\0"), 0)); // its /mnt
 * ```
 */
export class NamespaceThread implements CallRedirect, AsyncDisposable {
  readonly libc: Libc;
  /** The thread's number, which is its name in /proc/self/task. */
  readonly id: number;
  readonly #worker: Worker;
  readonly #state: Int32Array<SharedArrayBuffer>;
  readonly #cells: BigInt64Array<SharedArrayBuffer>;
  readonly #ownTable: Scratch; // the path of the namespace's mount table
  #errno: number | undefined;
  #turn: Promise<unknown> = Promise.resolve(); // the last of the calls that are waited for

  private constructor(worker: Worker, memory: SharedArrayBuffer, id: number, local: Libc) {
    this.#worker = worker;
    this.#state = new Int32Array(memory, 0, 3);
    this.#cells = new BigInt64Array(memory, WORDS);
    this.id = id;
    this.#ownTable = allocCString(`/proc/self/task/${id}/mountinfo`);
    this.libc = this.#bind(local);
  }

  /**
   * Starts a thread and has it join a namespace.
   *
   * @param namespace the open namespace; it need not stay open.
   * @returns the thread, to be disposed of.
   * @throws {SyscallError} EPERM without CAP_SYS_CHROOT and CAP_SYS_ADMIN, here and in the namespace; EINVAL where it is
   * no mount namespace.
   */
  static async start(namespace: OwnedFd): Promise<NamespaceThread> {
    const { AsyncLocalStorage } = await import("node:async_hooks");
    contexts ??= new AsyncLocalStorage();
    const local = redirectCalls(() => contexts?.getStore());
    threads++;
    const memory = new SharedArrayBuffer(WORDS + 8 * ARGUMENTS);
    const worker = new Worker("data:text/javascript," + encodeURIComponent(code), { type: "module" });
    try {
      const started = await ask(worker, { memory, calls: callTable(), namespace: namespace.fd });
      if ("thrown" in started) throw new Error(`a thread could not be started: ${started.thrown}`);
      if ("errno" in started) throw new SyscallError(started);
      return new NamespaceThread(worker, memory, started.thread, local);
    } catch (error) {
      end(worker);
      throw error;
    }
  }

  /**
   * Runs code whose libc calls, and those of all that it awaits, are made on the thread where the namespace matters.
   *
   * @param code what to run.
   * @returns what it returns.
   */
  run<T>(code: () => T): T {
    return contexts === undefined ? code() : contexts.run(this, code);
  }

  /** Where the last call was made on this thread all the same, its errno is here too. */
  get errno(): number | undefined {
    return this.#errno;
  }

  /** Ends the thread. A call that nobody waits for any more, because a server does not answer, is left to itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (Atomics.load(this.#state, 0) === CALL) return end(this.#worker);
    await this.#turn;
    Atomics.store(this.#state, 0, QUIT);
    Atomics.notify(this.#state, 0);
    end(this.#worker);
  }

  #bind(local: Libc): Libc {
    const functions = new Map<string, AnyFunction>(Object.entries(local) as [string, AnyFunction][]);
    for (const [name, call] of functions) {
      functions.set(name, (...args) => {
        this.#errno = undefined;
        return call(...args);
      });
    }
    for (const [number, [name, { parameters, result }]] of callTable().entries()) {
      const remote = { number, parameters, result };
      const here = functions.get(name);
      const make = name.endsWith("_nonblocking")
        ? (args: Argument[]) => this.#callLater(remote, args)
        : (args: Argument[]) => this.#call(remote, args);
      functions.set(name, (...args) => args.some(isInOurProc) ? here?.(...this.#inProc(args)) : make(args));
    }
    return Object.fromEntries(functions) as unknown as Libc; // each has the signature that the table gives it
  }

  /** The other namespace may have the /proc of other processes, or none: what we ask of it is looked up here. */
  #inProc(args: Argument[]): Argument[] {
    return args.map((arg) =>
      isInOurProc(arg) && readCString(arg) === OWN_TABLE ? this.#ownTable.address : arg
    );
  }

  #call(call: RemoteCall, args: Argument[]): number | bigint | Deno.PointerValue {
    if (this.#now() !== IDLE) {
      throw new Error("the thread in the other mount namespace still waits for a call");
    }
    this.#start(call, args);
    while (this.#now() === CALL) Atomics.wait(this.#state, 0, CALL);
    return this.#take(call);
  }

  /** The same, while this thread goes on. */
  #callLater(call: RemoteCall, args: Argument[]): Promise<unknown> {
    const result = this.#turn.then(async () => {
      this.#start(call, args);
      while (this.#now() === CALL) await Atomics.waitAsync(this.#state, 0, CALL).value;
      return this.#take(call);
    });
    this.#turn = result.catch(() => {}); // whoever made the call gets its error
    return result;
  }

  #now(): number {
    const state = Atomics.load(this.#state, 0);
    if (state === BROKEN) throw new Error("the thread in the other mount namespace has failed");
    if (state === QUIT) throw new Error("the thread in the other mount namespace has ended");
    return state;
  }

  #start({ number, parameters }: RemoteCall, args: Argument[]): void {
    for (const index of parameters.keys()) this.#cells[index] = cellOf(args[index] ?? null);
    this.#state[1] = number;
    Atomics.store(this.#state, 0, CALL);
    Atomics.notify(this.#state, 0);
  }

  #take({ result }: RemoteCall): number | bigint | Deno.PointerValue {
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
 * @returns undefined where that is this thread.
 */
export function currentThread(): NamespaceThread | undefined {
  return threads === 0 ? undefined : contexts?.getStore();
}

const OWN_TABLE = "/proc/self/mountinfo";
const OUR_PROC = new TextEncoder().encode("/proc/self/");

/** All that is passed by its address is as long as this, or ends with a NUL before. */
function isInOurProc(argument: Argument): argument is Deno.PointerObject {
  if (argument === null || typeof argument !== "object" || argument instanceof Uint8Array) return false;
  const view = new Deno.UnsafePointerView(argument);
  return OUR_PROC.every((byte, index) => view.getUint8(index) === byte);
}

/** An argument as 64 bits; bytes by their address, which both threads share. */
function cellOf(argument: Argument): bigint {
  if (argument instanceof Uint8Array) return Deno.UnsafePointer.value(Deno.UnsafePointer.of(argument));
  if (typeof argument === "object") return Deno.UnsafePointer.value(argument);
  return BigInt(argument);
}

type Calls = [
  string,
  { name?: string; parameters: readonly Deno.NativeType[]; result: Deno.NativeResultType },
][];

/** The functions that the thread binds: bytes come as addresses, and it may wait for each of them. */
function callTable(): Calls {
  const symbols: Deno.ForeignLibraryInterface = libcSymbols();
  const names: readonly LibcName[] = [...there, "__errno_location", "unshare", "setns", "gettid"];
  return names.flatMap((name): Calls => {
    const symbol = symbols[name];
    if (symbol === undefined || !("parameters" in symbol)) return [];
    const parameters = symbol.parameters.map((type) => type === "buffer" ? "pointer" : type);
    return [[name, { name: symbol.name ?? name, parameters, result: symbol.result }]];
  });
}

function ask(worker: Worker, message: unknown): Promise<Started> {
  return new Promise<Started>((resolve, reject) => {
    worker.onmessage = (event) => resolve(event.data);
    worker.onerror = (event) => {
      event.preventDefault(); // else the process ends with an uncaught error as well
      reject(new Error(`a thread could not be started: ${event.message}`));
    };
    worker.postMessage(message);
  });
}

function end(worker: Worker): void {
  worker.terminate();
  if (--threads === 0) redirectCalls(undefined);
}
