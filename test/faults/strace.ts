/**
 * strace, attached to a waiting child: traces its later calls, and may make them fail.
 *
 * @module
 */

import { names } from "../kernel.ts";

const DETACH_TIMEOUT = 5000; // ms; strace usually detaches within some milliseconds

/** The threads to trace. */
export type Threads = "main" | "pool" | "all";

/** A call in strace's log. */
export interface Call {
  /** The thread's id. */
  thread: number;
  /** The name of the call. */
  name: string;
  /** The rest of the line: arguments, result. */
  rest: string;
}

/** A running strace. */
export class Strace {
  readonly #child: Deno.ChildProcess;
  readonly #stderr: ReadableStream<string>;
  readonly #log: string;

  private constructor(child: Deno.ChildProcess, stderr: ReadableStream<string>, log: string) {
    this.#child = child;
    this.#stderr = stderr;
    this.#log = log;
  }

  /** Attaches to the threads of a process; resolves when every thread is attached. */
  static async attach(pid: number, threads: Threads, args: string[], log: string): Promise<Strace> {
    const targets = threads === "pool" ? otherThreads(pid) : [`${pid}`];
    const follow = threads === "all" ? ["-f"] : [];
    const child = new Deno.Command("strace", {
      args: [...follow, "-y", "-s", "256", "-o", log, ...args, ...targets.flatMap((id) => ["-p", id])],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const stderr = child.stderr.pipeThrough(new TextDecoderStream());
    await attached(stderr, targets.length);
    return new Strace(child, stderr, log);
  }

  /**
   * Detaches; returns the traced calls.
   *
   * @param ended whether the traced process has ended: strace then exits by itself, and hangs on a signal at that time.
   */
  async detach(ended = false): Promise<Call[]> {
    if (!ended) this.#kill("SIGTERM");
    const late = setTimeout(() => this.#kill("SIGKILL"), DETACH_TIMEOUT);
    await this.#child.status;
    clearTimeout(late);
    await this.#stderr.cancel();
    return calls(await Deno.readTextFile(this.#log));
  }

  #kill(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has already exited
    }
  }
}

function otherThreads(pid: number): string[] {
  return names(`/proc/${pid}/task`).filter((name) => name !== `${pid}`);
}

async function attached(stderr: ReadableStream<string>, count: number): Promise<void> {
  let text = "";
  for await (const piece of stderr.values({ preventCancel: true })) {
    text += piece;
    if ((text.match(/ attached/g)?.length ?? 0) >= count) return;
  }
  throw new Error(`strace could not attach: ${text}`);
}

function calls(log: string): Call[] {
  return log.split("\n").flatMap((line) => {
    const match = /^(?:(\d+) +)?(\w+)\((.*)$/.exec(line); // a resumed call was counted when it began
    return match ? [{ thread: Number(match[1] ?? 0), name: match[2] ?? "", rest: match[3] ?? "" }] : [];
  });
}
