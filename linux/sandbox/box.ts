/**
 * A box: what commands run in.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { withTimeout } from "../path/wait.ts";
import { sendMessage } from "../syscalls/mod.ts";
import { SandboxProcess, type SpawnOptions } from "./command.ts";
import { SandboxError } from "./error.ts";
import type { Holds } from "./holds.ts";
import { encode } from "./protocol.ts";
import type { BoxInfo, HeldOverlay } from "./steps.ts";

/** An overlay of a box, and where its writes are. */
export interface OverlayLayer extends HeldOverlay {
  /**
   * An O_PATH descriptor of the upper directory. It works for as long as the box exists, also when the box's commands have
   * unmounted or renamed things.
   */
  readonly upper: OwnedFd;
}

/** What a box is made of. */
export interface BoxParts {
  /** The socket to the stage. */
  readonly control: OwnedFd;
  /** unshare(1), which ends with the stage. */
  readonly child: Deno.ChildProcess;
  /** Directories to remove. */
  readonly removed: Holds;
  /** The overlays. */
  readonly layers: readonly OverlayLayer[];
  /** The working directory of commands. */
  readonly cwd: string;
  /** The environment of commands. */
  readonly env: Readonly<Record<string, string>>;
  /** What identifies it. */
  readonly info?: BoxInfo | undefined;
}

/**
 * A box that commands run in, one after the other or at once. It ends with its `using` scope, or with this process: all
 * that runs in it is killed then, and its mounts are gone.
 *
 * Needs the permissions `ffi` and `run`.
 *
 * @example
 * ```ts
 * import { sandbox } from "@denomount/mount/sandbox";
 *
 * await using box = await sandbox();
 * const { stdout } = await box.spawn("id", { stdout: "piped" }).output();
 * console.log(new TextDecoder().decode(stdout));
 * ```
 */
export class Sandbox implements AsyncDisposable {
  readonly #parts: BoxParts;
  readonly #fds = new OwnedFds();
  #next = 1;
  #ended: Promise<void> | undefined;

  /**
   * Use {@linkcode sandbox}.
   *
   * @param parts what it is made of.
   * @ignore
   */
  constructor(parts: BoxParts) {
    this.#parts = parts;
    this.#fds.add(parts.control);
    for (const { upper } of parts.layers) this.#fds.add(upper);
  }

  /** The working directory of its commands, as they see it. */
  get cwd(): string {
    return this.#parts.cwd;
  }

  /**
   * What identifies the box.
   *
   * @returns undefined unless it was asked for.
   * @ignore
   */
  get info(): BoxInfo | undefined {
    return this.#parts.info;
  }

  /** The overlays of the box, and where their writes are. */
  get overlays(): readonly OverlayLayer[] {
    return this.#parts.layers;
  }

  /**
   * The process in this process's PID namespace that ends with the box: unshare(1), whose only child is the first process
   * of the box.
   */
  get pid(): number {
    return this.#parts.child.pid;
  }

  /**
   * Starts a command in the box, in a session of its own.
   *
   * Needs the permissions `ffi` and `run`.
   *
   * @param command the program: a path in the box, or a name to look up in the PATH of the command's environment.
   * @param options as those of `Deno.Command`.
   * @returns the command. If it can't be executed, its `status` and `output()` are rejected with a {@linkcode SandboxError}.
   * @throws {SandboxError} EPIPE if the box has ended.
   *
   * @example
   * ```ts
   * import { sandbox } from "@denomount/mount/sandbox";
   *
   * await using box = await sandbox();
   * const child = box.spawn("cat", { stdin: "piped", stdout: "piped" });
   * const writer = child.stdin.getWriter();
   * await writer.write(new TextEncoder().encode("hello"));
   * await writer.close();
   * const { code, stdout } = await child.output();
   * console.log(code, new TextDecoder().decode(stdout)); // 0 hello
   * ```
   */
  spawn(command: string | URL, options: SpawnOptions = {}): SandboxProcess {
    const { cwd, env } = this.#parts;
    const id = this.#next++;
    return new SandboxProcess(command, options, { cwd, env }, {
      run: (fds) => this.#send({ run: id }, fds),
      kill: (signal) => this.#send({ kill: id, signal }, []),
    });
  }

  #send(order: unknown, fds: readonly number[]): void {
    if (this.#ended) throw new SandboxError("the box has ended", { code: "EPIPE", syscall: "sendmsg" });
    try {
      sendMessage(this.#parts.control.fd, encode(order), fds);
    } catch (error) {
      if (!isErrno(error, "EPIPE", "ECONNRESET")) throw error;
      throw new SandboxError("the box has ended", { code: "EPIPE", syscall: "sendmsg", cause: error });
    }
  }

  /**
   * Ends the box: all that runs in it is killed. A second call waits for the same end.
   *
   * Needs the permission `ffi`.
   *
   * @returns when no process of it is left.
   *
   * @example
   * ```ts
   * import { sandbox } from "@denomount/mount/sandbox";
   *
   * const box = await sandbox();
   * await box.close();
   * ```
   */
  close(): Promise<void> {
    return this.#ended ??= this.#end();
  }

  async #end(): Promise<void> {
    const { control, child, removed } = this.#parts;
    control.close(); // the stage exits, and the kernel kills the rest
    child.ref();
    try {
      await withTimeout(child.status, { timeout: PATIENCE }, "exit");
    } catch (error) {
      if (!isErrno(error, "ETIMEDOUT")) throw error;
      child.kill("SIGKILL"); // unshare(1) has the stage killed
      await child.status;
    }
    this.#fds[Symbol.dispose]();
    await removed[Symbol.asyncDispose]();
  }

  /** Ends the box, as {@linkcode Sandbox.close} does. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

const PATIENCE = 2000; // ms; the first process of a box may wait for a disk
