/**
 * A containerd for one test, in a mount namespace of its own, with all of its files below the test's directory.
 *
 * @module
 */

import { Containerd, type ContainerdOptions, UnavailableError } from "../../containerd/mod.ts";
import { assertEquals } from "../assert.ts";
import { type KernelContext, kernelTest, type Needs } from "../harness.ts";
import { loopDevices, names } from "../kernel.ts";
import { run } from "../kernels/run.ts";
import { type Said, say } from "../use/ways.ts";
import { cacheDirectory } from "./cache.ts";
import { IMAGE, type Image } from "./image.ts";

const shared = new URL("../../../shared/containerd/", import.meta.url).pathname;
const missing = names(shared).length === 0
  ? "the newest containerd is not in ../shared/containerd beside the project"
  : undefined;

/** The namespace of what the tests make. */
export const NAMESPACE = "denomount-test";

/** The lease of its clients. */
export const LEASE = "of-the-test";

/**
 * Registers a test that starts a containerd; it is skipped where there is none.
 *
 * @param name the rule that the test checks.
 * @param fn the test.
 * @param needs what it requires besides.
 */
export function containerdTest(
  name: string,
  fn: (t: KernelContext) => Promise<void>,
  needs: Needs = {},
): void {
  const strict = Deno.env.get("CI") === "true";
  if (missing !== undefined && !strict) console.log(`"${name}" is skipped: ${missing}`);
  if (missing !== undefined) {
    return Deno.test({
      name,
      ignore: !strict,
      fn: () => {
        throw new Error(missing);
      },
    });
  }
  kernelTest(name, {
    root: true,
    notEmulated: "it needs the newest containerd",
    permissions: { run: true, env: true, net: true },
    ...needs,
    tools: ["unshare", "nsenter", "xz", ...needs.tools ?? []],
  }, fn);
}

/** How to start a containerd. */
export interface DaemonOptions {
  /** Lines for its configuration. */
  lines?: readonly string[];
  /** Directories that its programs are found in first. */
  path?: readonly string[];
  /** Whether it mounts in the test's own mount namespace. */
  inTestsNamespace?: boolean;
}

const START_TIMEOUT = 60_000; // ms; a busy machine
const STOP_TIMEOUT = 30_000; // ms

/** A containerd that runs, or has been stopped to start again. */
export class Daemon implements AsyncDisposable {
  /** The directory of all of its files. */
  readonly directory: string;
  readonly #options: DaemonOptions;
  #process: Deno.ChildProcess | undefined;

  private constructor(directory: string, options: DaemonOptions) {
    this.directory = directory;
    this.#options = options;
  }

  /**
   * Starts a containerd.
   *
   * @param directory a directory of its own.
   * @param options what to add to its configuration.
   * @returns the containerd, which answers.
   */
  static async start(directory: string, options: DaemonOptions = {}): Promise<Daemon> {
    await Deno.mkdir(directory, { recursive: true });
    await Deno.symlink(await programs(), `${directory}/bin`);
    const daemon = new Daemon(directory, options);
    await daemon.start();
    await daemon.ctr("leases", "create", "--id", LEASE);
    return daemon;
  }

  /** The path of its socket. */
  get socket(): string {
    return `${this.directory}/sock`;
  }

  /** Its process id. */
  get pid(): number {
    if (this.#process === undefined) throw new Error("containerd does not run");
    return this.#process.pid;
  }

  /** Whether it runs: it has neither been stopped nor ended by itself. */
  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  /** Waits until it has ended by itself, as it does at a panic. */
  async ended(): Promise<void> {
    await this.#process?.status;
  }

  /** Starts it again with the same files. */
  async start(): Promise<void> {
    const { lines = [], path = [], inTestsNamespace = false } = this.#options;
    const child = new Deno.Command(inTestsNamespace ? `${shared}start` : "unshare", {
      args: [
        ...inTestsNamespace ? [] : ["--mount", "--propagation", "private", `${shared}start`],
        this.directory,
        ...lines,
      ],
      env: { PATH: [...path, Deno.env.get("PATH") ?? ""].join(":"), LEVEL: "error" },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#process = child;
    child.status.then(() => {
      if (this.#process === child) this.#process = undefined;
    });
    for (const end = Date.now() + START_TIMEOUT;;) {
      try {
        await using client = this.client();
        await client.version();
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError) || !this.isRunning || Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  /** A client of it, with a lease: containerd soon removes what has neither a lease nor a label for it. */
  client(options: ContainerdOptions = {}): Containerd {
    return new Containerd({ address: this.socket, namespace: NAMESPACE, lease: LEASE, ...options });
  }

  /** Runs a program in its mount namespace. */
  inside(program: string, args: readonly string[]): Promise<Said> {
    return say("nsenter", [`--mount=/proc/${this.pid}/ns/mnt`, "--", program, ...args]);
  }

  /** Runs ctr, which must succeed; returns its output. */
  async ctr(...args: string[]): Promise<string[]> {
    const { code, out, err } = await say(
      `${this.directory}/bin/ctr`,
      ["-a", this.socket, "-n", NAMESPACE, ...args],
      { env: { CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS: "true" } },
    );
    assertEquals([code, err], [0, ""]);
    return out;
  }

  /** Lets containerd remove what no lease and no label keeps, and waits for it. */
  async collectGarbage(): Promise<void> {
    await this.ctr("leases", "create", "--id", "short");
    await this.ctr("leases", "delete", "--sync", "short");
  }

  /** Imports an image and unpacks it into a snapshotter. */
  async importImage({ archive }: Image, snapshotter: string): Promise<void> {
    const path = `${this.directory}/image.tar`;
    await Deno.writeFile(path, archive);
    await this.ctr(
      "images",
      "import",
      "--local",
      "--snapshotter",
      snapshotter,
      "--base-name",
      IMAGE.split(":")[0] ?? "",
      path,
    );
  }

  /** Stops it; what it has mounted goes with its mount namespace. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    child.kill(signal);
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT);
    await child.status;
    clearTimeout(timer);
  }

  /** Stops it, and waits until the kernel has detached its loop devices. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    for (const end = Date.now() + STOP_TIMEOUT; loopDevices(this.directory).length > 0;) {
      if (Date.now() > end) throw new Error(`left by containerd: ${loopDevices(this.directory).join(", ")}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** containerd's programs, unpacked once and kept in the cache. */
async function programs(): Promise<string> {
  const [archive] = names(shared).filter((name) => name.startsWith("containerd.")); // another build has another time
  const { mtime } = await Deno.stat(`${shared}${archive}`);
  const cache = await cacheDirectory();
  const directory = `${cache}/bin-${mtime?.getTime()}`;
  if (names(cache).includes(`bin-${mtime?.getTime()}`)) return directory;
  const unfinished = await Deno.makeTempDir({ dir: cache });
  for (const name of names(shared).filter((file) => file.endsWith(".xz"))) {
    const path = `${unfinished}/${name.slice(0, -".xz".length)}`;
    await Deno.writeFile(path, (await run("xz", ["-dc", `${shared}${name}`])).bytes);
    await Deno.chmod(path, 0o755);
  }
  try {
    await Deno.rename(unfinished, directory);
  } catch (error) {
    if (!names(cache).includes(`bin-${mtime?.getTime()}`)) throw error;
    await Deno.remove(unfinished, { recursive: true }); // another test was first
  }
  return directory;
}
