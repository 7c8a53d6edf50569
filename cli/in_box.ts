/**
 * A command in a box, on the terminal and with the signals of this one.
 *
 * @module
 */

import type { Sandbox, SandboxProcess, SpawnOptions } from "../linux/sandbox/mod.ts";
import { ioctlStruct } from "../linux/syscalls/mod.ts";
import { DeferredSignals } from "./signals.ts";

/** How the command's streams are connected. */
export type BoxStreams = Pick<SpawnOptions, "stdin" | "stdout" | "stderr" | "terminal" | "signal">;

/** A command in a box. */
export interface BoxedCommand {
  /** Starts the box. */
  start(signal: AbortSignal): Promise<Sandbox>;
  /** Starts the command. */
  spawn(box: Sandbox, streams: BoxStreams): SandboxProcess;
  /** Whether the box has a minimal /dev, and so terminals of its own. */
  readonly hasTerminals: boolean;
  /** Writes what the command prints on standard output to standard error. */
  readonly printsToError?: boolean;
  /** Called when the command has ended, while the box still exists; returns what is printed afterwards. */
  after?(box: Sandbox): Promise<readonly string[]>;
}

/** How a command in a box has ended. */
export interface BoxedResult {
  /** The exit status of the command, or 128 plus the number of the signal that has ended it. */
  readonly status: number;
  /** What `after` has returned. */
  readonly lines: readonly string[];
}

/**
 * Runs a command in a box, and waits for its end. A signal before the command has started ends the box; later ones go to
 * the command and its process group.
 *
 * On a terminal, the command gets one of the box's own, which this process copies to its own: so the command has job
 * control and Ctrl-C, and can't put words into the terminal.
 *
 * @param command the command.
 * @returns how it has ended.
 * @throws {SandboxError} if the box or the command can't be started.
 */
export async function runInBox(command: BoxedCommand): Promise<BoxedResult> {
  const running: { child?: SandboxProcess } = {};
  using signals = new DeferredSignals((signal) => {
    try {
      running.child?.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended meanwhile
    }
  });
  const box = await signals.abortable((signal) => command.start(signal));
  if (box === undefined) return { status: await signals.status() ?? 1, lines: [] };
  await using _box = box;
  const early = await signals.status();
  if (early !== undefined) return { status: early, lines: [] };
  const size = command.hasTerminals ? terminalSize(command) : undefined;
  const streams = size ? { terminal: size } : command.printsToError ? { stdout: "piped" } as const : {};
  const child = running.child = command.spawn(box, streams);
  await using connection = size ? await Connection.open(child) : undefined;
  const copied = streams.stdout
    ? child.stdout.pipeTo(Deno.stderr.writable, { preventClose: true })
    : undefined;
  const { code } = await child.status;
  await copied;
  const lines = await command.after?.(box) ?? [];
  await box.close(); // now no process has the terminal open
  await connection?.ended();
  return { status: code, lines };
}

/** Only where the command would read from the terminal and print on it. */
function terminalSize({ printsToError }: BoxedCommand) {
  const output = printsToError ? Deno.stderr : Deno.stdout;
  if (!Deno.stdin.isTerminal() || !output.isTerminal()) return undefined;
  try {
    return Deno.consoleSize();
  } catch {
    return { columns: 80, rows: 24 }; // a terminal that does not say
  }
}

const TCGETS = 0x5401; // asm-generic/ioctls.h
const TCSETS = 0x5402;
const TERMIOS = 36; // sizeof(struct termios), asm-generic/termbits.h
const C_OFLAG = 4; // its offset
const OPOST = 1;

/** Deno leaves output processing on, which the terminal of the command does already; returns the modes before. */
function makeRaw(): Uint8Array<ArrayBuffer> {
  const before = new Uint8Array(new ArrayBuffer(TERMIOS));
  ioctlStruct(0, TCGETS, before);
  Deno.stdin.setRaw(true);
  const modes = new Uint8Array(new ArrayBuffer(TERMIOS));
  ioctlStruct(0, TCGETS, modes);
  const view = new DataView(modes.buffer);
  view.setUint32(C_OFLAG, view.getUint32(C_OFLAG, true) & ~OPOST, true);
  ioctlStruct(0, TCSETS, modes);
  return before;
}

type Terminal = Awaited<SandboxProcess["terminal"]>;

/** Copies between the terminal of this process and that of a command. */
class Connection implements AsyncDisposable {
  readonly #terminal: Terminal;
  readonly #input: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly #output: Promise<void>;
  readonly #modes: Uint8Array<ArrayBuffer>;
  readonly #onResize = () => this.#terminal.resize(Deno.consoleSize());

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    this.#modes = makeRaw();
    Deno.addSignalListener("SIGWINCH", this.#onResize);
    this.#output = terminal.readable.pipeTo(Deno.stdout.writable, { preventClose: true });
    this.#input = Deno.stdin.readable.getReader();
    this.#copyInput().catch(() => {}); // the terminal is gone
  }

  /** Connects the terminal of a command; undefined if the command could not be started. */
  static async open(child: SandboxProcess): Promise<Connection | undefined> {
    const terminal = await child.terminal.catch(() => undefined);
    return terminal && new Connection(terminal);
  }

  async #copyInput(): Promise<void> {
    const writer = this.#terminal.writable.getWriter();
    for (;;) {
      const { value, done } = await this.#input.read();
      if (done) return;
      await writer.write(value);
    }
  }

  /** Waits until all that the command has printed is copied. */
  async ended(): Promise<void> {
    await this.#output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Deno.removeSignalListener("SIGWINCH", this.#onResize);
    Deno.stdin.setRaw(false);
    ioctlStruct(0, TCSETS, this.#modes);
    this.#terminal[Symbol.dispose]();
    this.#input.cancel().catch(() => {}); // it waits for the next key
    await Promise.resolve();
  }
}
