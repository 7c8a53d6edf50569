/**
 * A box: what commands run in.
 *
 * @module
 */

import { isErrno } from "../../ffi/errno.ts";
import { type OwnedFd, OwnedFds } from "../../ffi/fd.ts";
import { withTimeout } from "../path/wait.ts";
import type { WaitOptions } from "../path/wait.ts";
import { sendMessage } from "../syscalls/mod.ts";
import type { ExportedLayer } from "./changes/layer.ts";
import type { Change } from "./changes/types.ts";
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

/** A change in an overlay of a box. */
export type BoxChange = Change & {
  /** The directory of the overlay, as the box sees it. */
  readonly overlay: string;
};

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
   * Reads what commands have changed in the overlays, from their upper directories. Commands may still run. Directories that
   * the box itself has made to mount on are no change.
   *
   * Needs the permission `ffi`.
   *
   * @param wait the timeout of a server in milliseconds, and the signal.
   * @returns the changes of one overlay after the other, as `readChanges()` returns them.
   * @throws {SyscallError} for a directory that can't be read.
   *
   * @example
   * ```ts
   * import { sandbox } from "@denomount/mount/sandbox";
   *
   * await using box = await sandbox({ overlay: ["/etc"] });
   * await box.spawn("sh", { args: ["-c", "echo changed > /etc/hostname"] }).status;
   * for await (const { overlay, kind, path } of box.changes()) console.log(overlay, kind, path);
   * ```
   */
  async *changes(wait: WaitOptions = {}): AsyncGenerator<BoxChange> {
    const { readChanges } = await import("./changes/read.ts");
    for (const { path: overlay, lower, upper, made, usesUserXattr } of this.overlays) {
      const own = new Set(made);
      for await (const change of readChanges(upper, { lower, userxattr: usesUserXattr, ...wait })) {
        if (!own.has(change.path)) yield { ...change, overlay };
      }
    }
  }

  /**
   * Copies the changes of the one overlay into a new or empty directory, as `keepChanges()` does.
   *
   * Needs the permission `ffi`, and what `keepChanges()` needs.
   *
   * @param directory the directory.
   * @param wait the timeout in milliseconds, and the signal.
   * @throws {TypeError} for a box with no overlay or with several.
   * @throws {SyscallError} ENOTEMPTY if the directory has files.
   *
   * @example
   * ```ts
   * import { sandbox } from "@denomount/mount/sandbox";
   *
   * const directory = await Deno.makeTempDir();
   * await using box = await sandbox({ overlay: ["/etc"] });
   * await box.spawn("sh", { args: ["-c", "echo changed > /etc/hostname"] }).status;
   * await box.keep(`${directory}/changes`);
   * await Deno.remove(directory, { recursive: true });
   * ```
   */
  async keep(directory: string, wait: WaitOptions = {}): Promise<void> {
    const { upper, usesUserXattr: userxattr } = this.#onlyOverlay();
    const { keepChanges } = await import("./changes/keep.ts");
    await keepChanges(upper, directory, { ...wait, userxattr });
  }

  /**
   * Writes the changes of the one overlay as a layer of an OCI image, as `exportLayer()` does.
   *
   * Needs the permission `ffi`.
   *
   * @param writable gets the archive; it is closed at the end, or aborted with the error.
   * @param wait the timeout in milliseconds, and the signal.
   * @returns what the layer has.
   * @throws {TypeError} for a box with no overlay or with several.
   * @throws {SyscallError} for a file that can't be read.
   *
   * @example
   * ```ts
   * import { sandbox } from "@denomount/mount/sandbox";
   *
   * const path = await Deno.makeTempFile();
   * await using box = await sandbox({ overlay: ["/etc"] });
   * await box.spawn("sh", { args: ["-c", "echo changed > /etc/hostname"] }).status;
   * await box.exportLayer((await Deno.create(path)).writable);
   * await Deno.remove(path);
   * ```
   */
  async exportLayer(writable: WritableStream<Uint8Array>, wait: WaitOptions = {}): Promise<ExportedLayer> {
    const { upper, usesUserXattr: userxattr } = this.#onlyOverlay();
    const { exportLayer } = await import("./changes/layer.ts");
    return await exportLayer(upper, writable, { ...wait, userxattr });
  }

  #onlyOverlay(): OverlayLayer {
    const [overlay, ...others] = this.overlays;
    if (overlay === undefined) throw new TypeError("the box has no overlay");
    if (others.length > 0) throw new TypeError("the box has several overlays: take one of `overlays`");
    return overlay;
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
