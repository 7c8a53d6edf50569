/**
 * The peers: programs that run the same work on request, a line each, so that rounds alternate between them.
 *
 * @module
 */

import type { Contender } from "./measure.ts";

/** Runs a command; returns its error as one line, or undefined if it succeeded. */
export async function run(
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<string | undefined> {
  try {
    const { success, stderr } = await new Deno.Command(command, {
      args,
      env,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    return success
      ? undefined
      : new TextDecoder().decode(stderr).trim().replaceAll("\n", "; ") || "it failed";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return `${command} is not installed`;
    throw error;
  }
}

/** A running peer. */
export class Peer implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  constructor(readonly name: string, path: string) {
    this.#process = new Deno.Command(path, { stdin: "piped", stdout: "piped" }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Requests a work; returns the milliseconds per run, or undefined if the peer lacks this work. */
  async work(name: string, count: number, ...args: (string | number)[]): Promise<number | undefined> {
    const line = [name, count, ...args].join(" ");
    await this.#writer.write(new TextEncoder().encode(line + "\n"));
    const answer = await this.#readLine();
    if (answer === "unknown") return undefined;
    if (!/^\d+$/.test(answer)) throw new Error(`${this.name}: ${answer} (${line.slice(0, 200)})`);
    return Number(answer) / 1e6 / count;
  }

  /** The peer as a contender for one work. */
  contender(work: string, count: number, ...args: (string | number)[]): Contender {
    // containerd's child that holds a user namespace asks to be traced by it, which strace already does.
    const traceable = this.name !== "containerd" || !/userns|idmap/.test(work);
    return { name: this.name, ...traceable && { count }, run: () => this.work(work, count, ...args) };
  }

  async #readLine(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error(`${this.name} has ended`);
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#lines.cancel();
    await this.#process.status;
  }
}

/** Commands as a contender, as Deno programs run them today. */
export function shell(count: number, ...commands: string[][]): Contender {
  return {
    name: "commands",
    async run() {
      const start = performance.now();
      for (let index = 0; index < count; index++) {
        for (const [command = "", ...args] of commands) {
          const error = await run(command, args);
          if (error !== undefined) throw new Error(`${command} ${args.join(" ")}: ${error}`);
        }
      }
      return (performance.now() - start) / count;
    },
  };
}
