/**
 * strace, attached to a child that waits: what it calls from then on is traced, and may be made to fail.
 *
 * @module
 */

import { names } from "../kernel.ts";

const PATIENCE = 5000; // ms; it lets go of a process in some milliseconds

/** Which threads are looked at. */
export type Threads = "main" | "pool" | "all";

/** A call as strace writes it. */
export interface Call {
  /** The thread. */
  thread: number;
  /** The call's name. */
  name: string;
  /** The rest of the line: arguments, result. */
  rest: string;
}

/** An attached strace. */
export class Strace {
  readonly #child: Deno.ChildProcess;
  readonly #said: ReadableStream<string>;
  readonly #log: string;

  private constructor(child: Deno.ChildProcess, said: ReadableStream<string>, log: string) {
    this.#child = child;
    this.#said = said;
    this.#log = log;
  }

  /** Attaches; resolves when every thread is held. */
  static async attach(pid: number, threads: Threads, args: string[], log: string): Promise<Strace> {
    const targets = threads === "pool" ? others(pid) : [`${pid}`];
    const follow = threads === "all" ? ["-f"] : [];
    const child = new Deno.Command("strace", {
      args: [...follow, "-y", "-s", "256", "-o", log, ...args, ...targets.flatMap((id) => ["-p", id])],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const said = child.stderr.pipeThrough(new TextDecoderStream());
    await attached(said, targets.length);
    return new Strace(child, said, log);
  }

  /**
   * Detaches; returns what was called.
   *
   * @param ended whether what was traced has ended: then strace ends too, and hangs if it is told to just then.
   */
  async detach(ended = false): Promise<Call[]> {
    if (!ended) this.#kill("SIGTERM");
    const late = setTimeout(() => this.#kill("SIGKILL"), PATIENCE);
    await this.#child.status;
    clearTimeout(late);
    await this.#said.cancel();
    return calls(await Deno.readTextFile(this.#log));
  }

  #kill(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
  }
}

function others(pid: number): string[] {
  return names(`/proc/${pid}/task`).filter((name) => name !== `${pid}`);
}

async function attached(said: ReadableStream<string>, count: number): Promise<void> {
  let text = "";
  for await (const piece of said.values({ preventCancel: true })) {
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
