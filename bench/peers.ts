/**
 * The peers: programs that run the same work on request, a line each, so that rounds alternate between them.
 *
 * @module
 */

import type { Contender } from "./measure.ts";

/** The built program of a peer. */
export interface Program {
  /** The name of the peer in the table. */
  name: string;
  /** The path of the program. */
  path: string;
}

const sources = {
  "C floor": { file: "floor.c", needs: "gcc", packages: "gcc libc6-dev" },
  containerd: {
    file: "containerd.go",
    needs: "go",
    packages: "golang-go golang-github-containerd-containerd-dev",
  },
} as const;

/** Builds the peers; if one can't be built, prints the packages that it requires. */
export async function buildPeers(directory: string): Promise<Program[]> {
  const built: Program[] = [];
  for (const [name, { file, needs, packages }] of Object.entries(sources)) {
    const path = `${directory}/${file.split(".")[0]}`;
    const source = new URL(`peers/${file}`, import.meta.url).pathname;
    const args = needs === "gcc" ? ["-O2", "-o", path, source] : ["build", "-o", path, source];
    const env = {
      GO111MODULE: "off",
      GOPATH: "/usr/share/gocode",
      GOCACHE: `${directory}/go-cache`,
      GOFLAGS: "",
    };
    const error = await run(needs, args, env);
    if (error === undefined) built.push({ name, path });
    else console.error(`${name} is left out: apt-get install ${packages}  (${error})`);
  }
  return built;
}

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
    return { name: this.name, run: () => this.work(work, count, ...args) };
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
