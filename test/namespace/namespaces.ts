/**
 * Processes in other mount namespaces, for tests.
 *
 * @module
 */

import { assertEquals } from "../assert.ts";

/** Runs a program, fails unless it succeeds, and returns its standard output. */
export async function run(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args }).output();
  const decoder = new TextDecoder();
  assertEquals(code, 0, `${program} ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** A process in a new mount namespace. */
export class MountNamespace implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
  }

  /** Starts the process with unshare(1) and further options of it, such as "--pid". */
  static async start(...options: string[]): Promise<MountNamespace> {
    const args = ["-m", "--propagation", "private", ...options, "sh", "-c", "echo ready; exec sleep 600"];
    const child = new Deno.Command("unshare", { args, stdout: "piped" }).spawn();
    const reader = child.stdout.getReader();
    const { done } = await reader.read();
    await reader.cancel();
    if (done) throw new Error(`unshare ended with ${JSON.stringify(await child.status)}`);
    return new MountNamespace(child);
  }

  /** The pid of the process. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Runs a program in the namespace. */
  async run(program: string, ...args: string[]): Promise<string> {
    return await run("nsenter", "-m", "-t", `${this.pid}`, program, ...args);
  }

  /** Kills the process; the namespace ends with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}
