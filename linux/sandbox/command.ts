/**
 * A command in a box, with the streams and the status of a child process.
 *
 * The first process of the box starts the command, so it is no child of this process. A small shell is: the carrier. Deno
 * makes its pipes, the command gets copies of their ends, and the carrier closes its own. It waits for the word of the
 * first process how the command has ended, and ends the same way.
 *
 * @module
 */

import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { requirePermission } from "../../ffi/permission.ts";
import { O_RDONLY, O_WRONLY, SIGKILL } from "../syscalls/constants.ts";
import {
  lseekStart,
  memfdCreate,
  open,
  pipe,
  readAll,
  receiveMessage,
  setCloseOnExec,
  socketPair,
  write,
  writeAll,
} from "../syscalls/mod.ts";
import { openPidfd, pidInProc } from "../pidfd.ts";
import { SandboxError } from "./error.ts";
import { decode, encode, type Failure, MESSAGE_SIZE, type Request } from "./protocol.ts";
import { signalNumber } from "./signal.ts";
import { BoxTerminal, type TerminalSize } from "./terminal.ts";
import { requireProgram } from "./unshare.ts";

/** How a command is started: the options of `Deno.Command`, as far as a box has them. */
export interface SpawnOptions {
  /** The arguments. */
  readonly args?: readonly string[];
  /** The program's name as it sees it, argv[0]; the command if left out. */
  readonly argv0?: string;
  /** The working directory, in the box; the box's if left out. */
  readonly cwd?: string;
  /** Variables that the command's environment has besides those of the box. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether the environment has the variables of `env` only. */
  readonly clearEnv?: boolean;
  /** Standard input; "inherit" if left out. */
  readonly stdin?: "piped" | "inherit" | "null";
  /** Standard output; "inherit" if left out. */
  readonly stdout?: "piped" | "inherit" | "null";
  /** Standard error; "inherit" if left out. */
  readonly stderr?: "piped" | "inherit" | "null";
  /**
   * Gives the command a terminal of the box's own, of this size, as its three streams and its controlling terminal:
   * {@linkcode SandboxProcess.terminal} is the other end. It needs a minimal /dev.
   */
  readonly terminal?: TerminalSize;
  /** Sends SIGTERM to the command when it is aborted. */
  readonly signal?: AbortSignal;
}

/** The way to the first process of the box. */
export interface Orders {
  /** Starts the command with six descriptors. */
  run(fds: readonly number[]): void;
  /** Sends a signal to it. */
  kill(signal: number): void;
}

// The first read is in a subshell, because a redirection changes the shell's own descriptors for the time of the command,
// and they are opened by another process meanwhile. ulimit: the carrier must not dump core in the place of the command.
const CARRIER = `
ulimit -c 0
exec 3<"/proc/self/fd/$1"
( read -r go <&3 )
exec 0<&- 1>&- 2>&-
read -r how value <&3 || kill -KILL $$
case $how in
exit) exit "$value" ;;
signal) kill "-$value" $$ ;;
esac
exit 127`;

/**
 * A command that runs in a box: as a `Deno.ChildProcess`.
 *
 * Needs the permission `ffi`.
 */
export class SandboxProcess implements AsyncDisposable {
  /**
   * The pid of a process in this process's PID namespace that stands for the command, and ends as it does. Send signals by
   * {@linkcode SandboxProcess.kill}: the command has another pid.
   */
  readonly pid: number;
  /**
   * How the command ends.
   *
   * It is rejected with a {@linkcode SandboxError} if the command can't be executed.
   */
  readonly status: Promise<Deno.CommandStatus>;
  /** The other end of the command's terminal; it is rejected without the option `terminal`. */
  readonly terminal: Promise<BoxTerminal>;
  readonly #carrier: Deno.ChildProcess;
  readonly #failures: OwnedFd;
  readonly #orders: Orders;
  #hasEnded = false;

  /**
   * Use {@linkcode Sandbox.spawn}.
   *
   * @param command the program.
   * @param options how it is started.
   * @param defaults the box's working directory and environment.
   * @param orders the way to the box.
   * @ignore
   */
  constructor(
    command: string | URL,
    options: SpawnOptions,
    defaults: { cwd: string; env: Readonly<Record<string, string>> },
    orders: Orders,
  ) {
    const { signal, args = [], cwd = defaults.cwd, clearEnv = false } = options;
    signal?.throwIfAborted();
    const env = { ...clearEnv ? {} : defaults.env, ...options.env };
    const path = command instanceof URL ? decodeURIComponent(command.pathname) : command;
    this.#orders = orders;
    this.#failures = memfdCreate("failures");
    try {
      const { argv0, terminal } = options;
      const started = startCarrier(
        { command: path, argv0, args: [...args], cwd, env, terminal },
        options,
        this.#failures,
        orders,
      );
      this.#carrier = started.carrier;
      this.terminal = started.terminal;
    } catch (error) {
      this.#failures.close();
      throw error;
    }
    this.pid = this.#carrier.pid;
    const abort = () => this.#hasEnded || this.kill();
    signal?.addEventListener("abort", abort, { once: true });
    this.status = this.#carrier.status.then((status) => {
      this.#hasEnded = true;
      signal?.removeEventListener("abort", abort);
      this.#throwFailure(path);
      return status;
    });
    this.status.catch(() => {}); // it may be read by output() only
  }

  #throwFailure(command: string): void {
    using failures = this.#failures;
    lseekStart(failures.fd);
    const bytes = readAll(failures.fd);
    if (bytes.length === 0) return this.#killRest();
    const failure = decode(bytes) as Failure;
    throw new SandboxError(`the command ${command} can't be started in the box: ${failure.message}`, {
      ...failure,
      syscall: "execve",
      path: command,
    });
  }

  /** If the carrier was killed from outside, the command still runs. */
  #killRest(): void {
    try {
      this.#orders.kill(SIGKILL);
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error; // the box has ended
    }
  }

  /**
   * Standard input, with `stdin: "piped"`.
   *
   * @throws {TypeError} otherwise.
   */
  get stdin(): WritableStream<Uint8Array<ArrayBufferLike>> {
    return this.#carrier.stdin;
  }

  /**
   * Standard output, with `stdout: "piped"`.
   *
   * @throws {TypeError} otherwise.
   */
  get stdout(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#carrier.stdout;
  }

  /**
   * Standard error, with `stderr: "piped"`.
   *
   * @throws {TypeError} otherwise.
   */
  get stderr(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#carrier.stderr;
  }

  /**
   * Waits for the end of the command, and collects what it has written. Both streams must be piped.
   *
   * @returns its status and its output.
   * @throws {SandboxError} if the command can't be executed.
   *
   * @example
   * ```ts
   * import { sandbox } from "@denomount/mount/sandbox";
   *
   * await using box = await sandbox();
   * const { success } = await box.spawn("true", { stdout: "piped", stderr: "piped" }).output();
   * console.log(success); // true
   * ```
   */
  async output(): Promise<Deno.CommandOutput> {
    const output = await this.#carrier.output();
    await this.status;
    return output;
  }

  /**
   * Sends a signal to the command, and to what it has started in its process group. The rest ends with the box.
   *
   * @param signal the signal; SIGTERM if left out.
   * @throws {TypeError} if the command has ended.
   *
   * @example
   * ```ts
   * import { sandbox } from "@denomount/mount/sandbox";
   *
   * await using box = await sandbox();
   * const child = box.spawn("sleep", { args: ["60"] });
   * child.kill();
   * console.log((await child.status).signal); // "SIGTERM"
   * ```
   */
  kill(signal: Deno.Signal = "SIGTERM"): void {
    if (this.#hasEnded) throw new TypeError("the command has already ended");
    this.#orders.kill(signalNumber(signal));
  }

  /** Keeps this process running for as long as the command runs, which is the default. */
  ref(): void {
    this.#carrier.ref();
  }

  /** Lets this process end while the command runs; the box ends with it. */
  unref(): void {
    this.#carrier.unref();
  }

  /** Sends SIGTERM to the command, unless it has ended, and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#hasEnded) this.kill();
    await this.status;
  }
}

function startCarrier(
  request: Request,
  options: SpawnOptions,
  failures: OwnedFd,
  orders: Orders,
): { carrier: Deno.ChildProcess; terminal: Promise<BoxTerminal> } {
  const shell = requireProgram("sh");
  requirePermission({ name: "run", command: shell });
  using fds = new OwnedFds();
  const [from, to] = pipe();
  fds.add(from);
  fds.add(to);
  const { stdin = "inherit", stdout = "inherit", stderr = "inherit" } = options.terminal
    ? NO_STREAMS
    : options;
  setCloseOnExec(from.fd, false); // other threads of this process may start children too: they only hold it open
  const carrier = new Deno.Command(shell, {
    args: ["-c", CARRIER, "sh", String(from.fd)],
    clearEnv: true,
    stdin,
    stdout,
    stderr,
    detached: true,
  }).spawn();
  try {
    const ends = [stdin, stdout, stderr].map((kind, number) =>
      kind === "inherit" ? number : fds.add(openEnd(carrier.pid, number)).fd
    );
    const file = fds.add(memfdCreate("request"));
    writeAll(file.fd, encode(request));
    write(to.fd, new TextEncoder().encode("go\n"));
    const [own, theirs] = options.terminal ? socketPair() : [];
    const terminal = receiveTerminal(own); // it ends with the other end of the socket, also if the order can't be sent
    terminal.catch(() => {}); // few callers read it
    const socket = theirs ? [fds.add(theirs).fd] : [];
    orders.run([file.fd, ...ends, to.fd, failures.fd, ...socket]);
    return { carrier, terminal };
  } catch (error) {
    carrier.kill("SIGKILL");
    throw error;
  }
}

const NO_STREAMS = { stdin: "null", stdout: "null", stderr: "null" } as const;

async function receiveTerminal(socket: OwnedFd | undefined): Promise<BoxTerminal> {
  if (socket === undefined) throw new TypeError("the command was started without a terminal");
  using _socket = socket;
  const { fds: [fd] } = await receiveMessage(socket.fd, MESSAGE_SIZE);
  if (fd === undefined) throw new SandboxError("the box could not open a terminal: it needs a minimal /dev");
  return new BoxTerminal(fd);
}

/** The child's end of a pipe. A process that was just executed has it open for as long as it waits for "go". */
function openEnd(pid: number, number: number): OwnedFd {
  using process = openPidfd(pid);
  return open(`/proc/${pidInProc(process)}/fd/${number}`, number === 0 ? O_RDONLY : O_WRONLY);
}
