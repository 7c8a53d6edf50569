/**
 * Ends what a run of tests leaves behind: its processes, and the loop devices of its files.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { detachLoop } from "../../linux/loop/loop.ts";
import { linkText, mountTable, names, readText } from "../kernel.ts";

/** Long enough for a server to be killed and for the kernel to end what waits for it, in milliseconds. */
const END = 10_000;

/** Where cgroup v2 is mounted; undefined if it is not. */
export function cgroup2(): string | undefined {
  return mountTable().find(({ fsType }) => fsType === "cgroup2")?.mountpoint;
}

/** The processes of one run. A process can't leave the cgroup by a fork, a new session or a new namespace. */
export class Cgroup {
  /** Its directory. */
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Creates a cgroup, after it has ended the processes of an earlier one of the same name.
   *
   * @param name its name, without a slash.
   * @returns the cgroup, which is empty.
   * @throws {Error} if cgroup v2 is not mounted.
   */
  static async create(name: string): Promise<Cgroup> {
    const root = cgroup2();
    if (root === undefined) throw new Error("cgroup v2 is not mounted");
    const cgroup = new Cgroup(`${root}/${name}`);
    if (names(root).includes(name)) await cgroup.kill();
    await Deno.mkdir(cgroup.path, { recursive: true });
    return cgroup;
  }

  /** The command line that runs a command in the cgroup. */
  command(...command: string[]): [program: string, ...args: string[]] {
    return ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', this.path, ...command];
  }

  /**
   * Kills all processes, waits for their end and removes the cgroup.
   *
   * @throws {Error} if a process does not end.
   */
  async kill(): Promise<void> {
    await Deno.writeTextFile(`${this.path}/cgroup.kill`, "1"); // Linux 5.14
    for (const end = performance.now() + END; this.#isPopulated();) {
      if (performance.now() > end) throw new Error(`a process of ${this.path} does not end`);
      await delay(10);
    }
    await Deno.remove(this.path);
  }

  #isPopulated(): boolean {
    return /^populated 1$/m.test(readText(`${this.path}/cgroup.events`) ?? "");
  }
}

/**
 * Keeps the new mount namespace of a process, with its mounts, until the descriptor is closed.
 *
 * @param pid a process that unshares its mount namespace.
 * @returns the descriptor of the namespace.
 */
export async function keepNamespace(pid: number): Promise<Deno.FsFile> {
  const link = `/proc/${pid}/ns/mnt`;
  const own = linkText("/proc/self/ns/mnt");
  while (linkText(link) === own) await delay(1);
  return await Deno.open(link);
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * The temporary directories that are created in a directory. Their random names tell whose a loop device is, also after
 * its file is deleted: the kernel shows the file by its path in another mount namespace, as long as that exists.
 */
export class TemporaryNames implements AsyncDisposable {
  readonly #names = new Set<string>();
  readonly #watcher: Deno.FsWatcher;
  readonly #end: Promise<void>;

  /**
   * Starts to watch.
   *
   * @param directory the directory that is /tmp for the tests.
   */
  constructor(directory: string) {
    this.#watcher = Deno.watchFs(directory, { recursive: false });
    this.#end = this.#collect();
  }

  async #collect(): Promise<void> {
    for await (const { paths } of this.#watcher) {
      for (const path of paths) this.#names.add(path.split("/").at(-1) ?? "");
    }
  }

  /** Detaches the loop devices whose backing file is or was in one of the directories. */
  async detachLoops(): Promise<void> {
    for (const device of names("/sys/block").filter((name) => this.#isOurs(name))) {
      try {
        await detachLoop(`/dev/${device}`);
      } catch (error) {
        if (!isErrno(error, "ENXIO")) throw error; // the end of its last user has detached it meanwhile
      }
    }
  }

  #isOurs(device: string): boolean {
    const file = readText(`/sys/block/${device}/loop/backing_file`)?.trim() ?? "";
    const [, directory = "", lower] = /^\/(?:tmp\/(denomount-[^/]+)\/|dev\/(loop\d+)$)/.exec(file) ?? [];
    return lower === undefined ? this.#names.has(directory) : this.#isOurs(lower);
  }

  /** Stops to watch. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#watcher.close();
    await this.#end;
  }
}
