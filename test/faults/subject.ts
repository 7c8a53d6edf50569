/**
 * The child from the runner's side.
 *
 * @module
 */

import type { Report } from "./child.ts";

const PATIENCE = 15_000; // ms; the longest that an operation waits by design is 2500

/** A child that has made its operation once, and waits to be told. */
export class Subject {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(operation: string, dir: string) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--quiet",
        "--no-config",
        new URL("child.ts", import.meta.url).pathname,
        operation,
        dir,
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Starts one; ready when this resolves. */
  static async start(operation: string, dir: string): Promise<Subject> {
    const subject = new Subject(operation, dir);
    const { error } = await subject.#answer() ?? { error: { message: "it ended" } };
    if (error === undefined) return subject;
    await subject.end();
    throw new Error(`${operation}, unharmed: ${error.message}`);
  }

  /** Its process, which is its main thread too. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Has it make a step; undefined where it ended instead of answering. */
  async tell(command: string): Promise<Report | undefined> {
    await this.#writer.write(new TextEncoder().encode(`${command}\n`));
    return await this.#answer();
  }

  async #answer(): Promise<Report | undefined> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE);
    try {
      while (!this.#rest.includes("\n")) {
        const { done, value } = await this.#lines.read();
        if (done) return undefined;
        this.#rest += value;
      }
      const end = this.#rest.indexOf("\n");
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 1);
      return JSON.parse(line);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for its end, which comes with the end of its input at the latest. */
  async end(): Promise<void> {
    await this.#writer.close().catch(() => {}); // it was killed: nobody reads any more
    while (!(await this.#lines.read()).done);
    await this.#child.status;
  }
}
