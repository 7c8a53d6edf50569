/**
 * The parent's side of the child that gets the faults.
 *
 * @module
 */

import type { Report } from "./child.ts";

const ANSWER_TIMEOUT = 45_000; // ms; operations wait 2500 ms at most, those of the mount manager 30 s

/** A child that has run its operation once, and waits for requests. */
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

  /** Starts a child; resolves when it is ready. */
  static async start(operation: string, dir: string): Promise<Subject> {
    const subject = new Subject(operation, dir);
    const { error } = await subject.#answer() ?? { error: { message: "it ended" } };
    if (error === undefined) return subject;
    await subject.end();
    throw new Error(`${operation}, without a fault: ${error.message}`);
  }

  /** The pid, which is also the id of the main thread. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Requests a step; undefined if the child ended instead of answering. */
  async request(command: string): Promise<Report | undefined> {
    await this.#writer.write(new TextEncoder().encode(`${command}\n`));
    return await this.#answer();
  }

  async #answer(): Promise<Report | undefined> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), ANSWER_TIMEOUT);
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

  /** Closes the child's input and waits for its end. */
  async end(): Promise<void> {
    await this.#writer.close().catch(() => {}); // fails if the child was killed
    while (!(await this.#lines.read()).done);
    await this.#child.status;
  }
}
