/**
 * A box as bubblewrap's arguments ask for it.
 *
 * @module
 */

import { checkWait, type WaitOptions } from "../../path/wait.ts";
import { getegid, geteuid } from "../../syscalls/mod.ts";
import type { Sandbox } from "../box.ts";
import type { SandboxProcess, SpawnOptions } from "../command.ts";
import { startBox } from "../start.ts";
import type { Life, Step } from "../steps.ts";
import type { PassedFd } from "./passed_fd.ts";

/** How a command of bubblewrap's arguments is started: the arguments have the rest. */
export type BwrapSpawnOptions = Pick<SpawnOptions, "stdin" | "stdout" | "stderr" | "signal" | "terminal">;

/** What a plan is made of. */
export interface BwrapParts {
  readonly command: readonly string[];
  readonly argv0: string | undefined;
  readonly steps: readonly Step[];
  readonly life: Life;
  readonly asksFor: "help" | "version" | undefined;
  readonly diesWithParent: boolean;
  readonly usesLevelPrefix: boolean;
  readonly warnings: readonly string[];
  readonly infoFd: PassedFd | undefined;
  readonly statusFd: PassedFd | undefined;
  readonly blockFd: PassedFd | undefined;
}

/**
 * What bubblewrap's arguments ask for: use {@linkcode fromBwrapArgs}.
 *
 * @example
 * ```ts
 * import { fromBwrapArgs } from "@denomount/mount/sandbox";
 *
 * const plan = await fromBwrapArgs(["--ro-bind", "/", "/", "--dev", "/dev", "--", "ls", "/dev"]);
 * await using box = await plan.start();
 * console.log((await plan.spawn(box).status).code);
 * ```
 */
export class BwrapPlan {
  readonly #parts: BwrapParts;

  /**
   * Use {@linkcode fromBwrapArgs}.
   *
   * @param parts what it is made of.
   * @ignore
   */
  constructor(parts: BwrapParts) {
    this.#parts = parts;
  }

  /** The program and its arguments. */
  get command(): readonly string[] {
    return this.#parts.command;
  }

  /** What is asked for in the place of a box: "help" by `--help`, "version" by `--version`. */
  get asksFor(): "help" | "version" | undefined {
    return this.#parts.asksFor;
  }

  /** Whether `--die-with-parent` is among the arguments. The box ends with this process in any case. */
  get diesWithParent(): boolean {
    return this.#parts.diesWithParent;
  }

  /** Whether `--level-prefix` is among the arguments. */
  get usesLevelPrefix(): boolean {
    return this.#parts.usesLevelPrefix;
  }

  /** Whether the box has terminals of its own: it has with `--dev /dev`. */
  get hasTerminals(): boolean {
    return this.#parts.steps.some((step) => step.kind === "dev" && step.target === "/dev");
  }

  /** Sentences about arguments that have no effect. */
  get warnings(): readonly string[] {
    return this.#parts.warnings;
  }

  /**
   * Starts the box. The descriptors of `--info-fd` and `--json-status-fd` then say what it is; with `--block-fd` it waits
   * until that descriptor has a byte.
   *
   * Needs the permissions `ffi` and `run`, and what {@linkcode sandbox} needs.
   *
   * @param wait the timeout in milliseconds, and the signal that ends the start.
   * @returns the box.
   * @throws {SandboxError} with the reason, if the box can't be made. Nothing is left then.
   *
   * @example
   * ```ts
   * import { fromBwrapArgs } from "@denomount/mount/sandbox";
   *
   * const plan = await fromBwrapArgs(["--ro-bind", "/", "/", "true"]);
   * await using box = await plan.start({ timeout: 10_000 });
   * console.log(box.cwd);
   * ```
   */
  async start(wait: WaitOptions = {}): Promise<Sandbox> {
    checkWait(wait);
    const { steps, life, infoFd, statusFd, blockFd } = this.#parts;
    const box = await startBox(steps, life, wait);
    try {
      const { info } = box;
      if (info) {
        const ids = Object.entries(info.namespaces).map(([name, id]) => `"${name}-namespace": ${id}`);
        const fields = [`"child-pid": ${info.pid}`, ...ids];
        infoFd?.write(`{\n    ${fields.join(",\n    ")}\n}\n`);
        statusFd?.write(`{ ${fields.join(", ")} }\n`);
      }
      await blockFd?.wait();
      return box;
    } catch (error) {
      await box.close();
      throw error;
    }
  }

  /**
   * Starts the command of the arguments in the box. The descriptor of `--json-status-fd` then gets its exit status.
   *
   * Needs the permissions `ffi` and `run`.
   *
   * @param box the box.
   * @param options its standard streams and signal, as those of {@linkcode Sandbox.spawn}.
   * @returns the command.
   * @throws {SandboxError} EPIPE if the box has ended.
   *
   * @example
   * ```ts
   * import { fromBwrapArgs } from "@denomount/mount/sandbox";
   *
   * const plan = await fromBwrapArgs(["--ro-bind", "/", "/", "echo", "hello"]);
   * await using box = await plan.start();
   * const { stdout } = await plan.spawn(box, { stdout: "piped", stderr: "null" }).output();
   * console.log(new TextDecoder().decode(stdout)); // hello
   * ```
   */
  spawn(box: Sandbox, options: BwrapSpawnOptions = {}): SandboxProcess {
    const { command: [program = "", ...args], argv0, statusFd } = this.#parts;
    const name = argv0 === undefined ? {} : { argv0 };
    const child = box.spawn(program, { ...options, ...name, args, env: { PWD: box.cwd } });
    const report = ({ code }: Deno.CommandStatus) => statusFd?.write(`{ "exit-code": ${code} }\n`);
    child.status.then(report).catch(() => {}); // the command could not be executed, or no process reads the descriptor
    return child;
  }
}

/** The ids of a box: undefined for root without a user namespace. */
export function idsOf(
  uid: number | undefined,
  gid: number | undefined,
  hasUserNamespace: boolean,
): Life["ids"] {
  const own = { uid: geteuid(), gid: getegid() };
  if (hasUserNamespace) return { uid: uid ?? own.uid, gid: gid ?? own.gid };
  for (const [name, id, real] of [["--uid", uid, own.uid], ["--gid", gid, own.gid]] as const) {
    if (id !== undefined && id !== real) throw new TypeError(`${name} needs --unshare-user`);
  }
  return undefined;
}
