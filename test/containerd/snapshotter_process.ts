/**
 * `denomount snapshotter` as a process, which a test stops, kills and starts again.
 *
 * @module
 */

import { Containerd, UnavailableError } from "../../containerd/mod.ts";
import { cli } from "../cli/command.ts";
import type { DaemonOptions } from "./daemon.ts";

const START_TIMEOUT = 60_000; // ms; a busy machine

/** The process of a snapshotter. */
export class SnapshotterProcess implements AsyncDisposable {
  /** The directory of its snapshots. */
  readonly root: string;
  /** The path of its socket. */
  readonly socket: string;
  readonly #args: readonly string[];
  #child: Deno.ChildProcess | undefined;

  private constructor(directory: string, args: readonly string[]) {
    this.root = `${directory}/root`;
    this.socket = `${directory}/sock`;
    this.#args = args;
  }

  /**
   * Starts the command.
   *
   * @param directory where its root and its socket are.
   * @param args more of its arguments.
   * @returns the process, which answers.
   */
  static async start(directory: string, ...args: string[]): Promise<SnapshotterProcess> {
    await Deno.mkdir(directory, { recursive: true });
    const started = new SnapshotterProcess(directory, args);
    await started.start();
    return started;
  }

  /** What a containerd needs to use it, by the name "denomount". */
  get plugin(): DaemonOptions {
    const lines = [
      "[proxy_plugins.denomount]",
      '  type = "snapshot"',
      `  address = "${this.socket}"`,
      '  capabilities = ["remap-ids"]',
    ];
    return { lines, inTestsNamespace: true }; // a root that it mounts is found in its mount namespace only
  }

  /** Starts it again with the same files. */
  async start(): Promise<void> {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "-A",
        cli,
        "snapshotter",
        "--root",
        this.root,
        "--socket",
        this.socket,
        ...this.#args,
      ],
      stdin: "null",
      stdout: "null",
    }).spawn();
    this.#child = child;
    let status: Deno.CommandStatus | undefined;
    child.status.then((ended) => status = ended);
    for (const end = Date.now() + START_TIMEOUT;;) {
      try {
        await using client = this.client();
        await Array.fromAsync(client.snapshots("denomount").list({ filters: ["name==none"] }));
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError) || status !== undefined || Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  /** A client of it, without a containerd. */
  client(): Containerd {
    return new Containerd({ address: this.socket });
  }

  /** Its process id. */
  get pid(): number {
    if (this.#child === undefined) throw new Error("the snapshotter does not run");
    return this.#child.pid;
  }

  /** Ends it, and returns its status. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<Deno.CommandStatus | undefined> {
    const child = this.#child;
    this.#child = undefined;
    child?.kill(signal);
    return await child?.status;
  }

  /** Waits until it has ended without being told to, and returns its status. */
  async ended(): Promise<Deno.CommandStatus | undefined> {
    const child = this.#child;
    this.#child = undefined;
    return await child?.status;
  }

  /** Ends it; what it has mounted stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
